"""What opens one websocket: encrypted, good for 30 seconds and once."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from fastapi import FastAPI
from sample_rooms import API, People, build, served

from newel.errors import Unauthorized
from newel.room_tickets import TICKET_SECONDS, RoomTickets
from newel.testing import FrozenClock

pytestmark = pytest.mark.anyio

TOKEN = "the access token of somebody"


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return build(tmp_path, People())


async def test_a_ticket_is_good_once_and_shows_nothing(app: FastAPI) -> None:
    tickets = RoomTickets(app)
    one, two = tickets.issue(TOKEN), tickets.issue(TOKEN)
    assert one != two
    assert TOKEN.encode() not in base64.urlsafe_b64decode(one)
    assert await tickets.redeem(one) == TOKEN
    with pytest.raises(Unauthorized, match="used"):
        await tickets.redeem(one)
    assert await RoomTickets(app).redeem(two) == TOKEN


async def test_of_many_who_have_it_one_comes_in(app: FastAPI) -> None:
    tickets = RoomTickets(app)
    ticket = tickets.issue(TOKEN)
    answers = await asyncio.gather(
        *(tickets.redeem(ticket) for _ in range(10)), return_exceptions=True
    )
    assert answers.count(TOKEN) == 1


@pytest.mark.parametrize(("seconds", "is_good"), [(TICKET_SECONDS - 1, True), (30, False)])
async def test_a_ticket_ends(app: FastAPI, seconds: int, is_good: bool) -> None:
    clock = app.state.clock = FrozenClock()
    tickets = RoomTickets(app)
    ticket = tickets.issue(TOKEN)
    clock.move(seconds=seconds)
    if is_good:
        assert await tickets.redeem(ticket) == TOKEN
    else:
        with pytest.raises(Unauthorized, match="too old"):
            await tickets.redeem(ticket)


@pytest.mark.parametrize("change", ["", "x", "AAAA", "ü", "A" * 200])
async def test_a_ticket_cannot_be_made(app: FastAPI, tmp_path: Path, change: str) -> None:
    other = build(tmp_path, People(), secret_key="of-another-service-0123456789-abcdef")
    for ticket in (change, RoomTickets(other).issue(TOKEN), RoomTickets(app).issue(TOKEN)[:-8]):
        with pytest.raises(Unauthorized, match="not valid"):
            await RoomTickets(app).redeem(ticket)


async def test_a_ticket_is_given_to_who_is_logged_in(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.http() as client:
        assert (await client.post(f"{API}/tickets")).status_code == 401
        headers = {"authorization": f"Bearer {server.people.add()}"}
        answer = await client.post(f"{API}/tickets", headers=headers)
        assert answer.status_code == 201
        assert answer.json()["expires_in_seconds"] == TICKET_SECONDS
        token = await RoomTickets(server.app).redeem(answer.json()["ticket"])
        assert token in server.people.tokens
