"""Rooms on a real server with real clients: one contract in one process and over a real Valkey."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from sample_accounts import ROLES, NewUser, UserRead, UserUpdate
from sample_entities import User
from sample_rooms import Client, People, Said, Served, connected, members_of, served, settings_of
from sample_valkey import Valkey
from sqlalchemy import text as sql

from newel import accounts, room_connections, room_routes
from newel.app import create_app
from newel.db import Database
from newel.errors import ConfigurationError, Unavailable
from newel.jobs import GiveUp, JobRun, job
from newel.modules import Module
from newel.principal import Principal
from newel.room_delivery import Spoken
from newel.room_log import Position
from newel.rooms import RoomKinds, anyone, room
from newel.testing import commits_fail, log_in, make_user, run_jobs
from newel.unit_session import ReadOnlyUnit

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["process", "valkey"])
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Served]:
    """Each driver: in the process alone, and over a real Valkey."""
    valkey: Valkey | None = None
    if request.param == "valkey":
        valkey = request.getfixturevalue("valkey")
    settings = {"redis_url": valkey.url, "service_name": f"rooms {uuid4()}"} if valkey else {}
    async with served(tmp_path_factory.mktemp("rooms"), **settings) as found:
        yield found


@pytest.fixture
def chat() -> str:
    return f"chat:{uuid4()}"


class TestContract:
    async def test_all_hear_the_same_in_the_same_order(self, server: Served, chat: str) -> None:
        async with members_of(server, chat, 3) as clients:
            for number in range(50):
                await clients[number % 2].say(chat, str(number))
            heard = [await client.texts(50) for client in clients]
            assert heard[0] == heard[1] == heard[2]
            assert sorted(heard[0], key=int) == [str(number) for number in range(50)]

    async def test_who_comes_back_gets_exactly_what_was_missed(
        self, server: Served, chat: str
    ) -> None:
        async with members_of(server, chat, 1) as (speaker,):
            token = server.people.add()
            async with connected(server, token) as client:
                joined = await client.join(chat)
                assert token in joined["members"]
                assert joined["member_count"] == 2
                await speaker.say(chat, "heard")
                last = await client.next("said")
            for text in ("missed", "missed too"):
                await speaker.say(chat, text)
            await speaker.texts(3)
            since = {"epoch": joined["epoch"], "offset": last["offset"]}
            async with connected(server, token) as client:
                assert (await client.join(chat, since))["recovered"] is True
                await speaker.say(chat, "new")
                assert await client.texts(3) == ["missed", "missed too", "new"]
            async with connected(server, token) as client:
                again = await client.join(chat, {**since, "epoch": "of another server"})
                assert (again["recovered"], again["offset"]) == (False, 4)
                await client.nothing_more()

    async def test_who_does_not_read_is_closed_and_holds_up_nobody(
        self, server: Served, chat: str
    ) -> None:
        """One of ten reads nothing: all others hear all, and it is gone in five seconds."""
        async with (
            members_of(server, chat, 27) as healthy,
            stalled(server, chat) as one,
            stalled(server, chat) as two,
            stalled(server, chat) as three,
        ):
            assert len(await server.rooms.members(chat, tenant_id=None)) == 30
            await burst(server, chat, healthy)
            async with asyncio.timeout(5):
                while {one, two, three} & set(await server.rooms.members(chat, tenant_id=None)):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)
                # Their connections, too, and what was written to them.
                while len(server.server.server_state.connections) > 27:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)

    async def test_negative_control_without_bounds_all_of_it_waits(
        self, server: Served, chat: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for bound in ("QUEUE_BYTES", "SEND_SECONDS"):
            monkeypatch.setattr(room_connections, bound, 10**9)
        async with members_of(server, chat, 3) as healthy, stalled(server, chat) as stopped:
            await burst(server, chat, healthy)
            assert stopped in await server.rooms.members(chat, tenant_id=None)
            assert len(server.server.server_state.connections) == 4


async def burst(server: Served, room: str, healthy: Sequence[Client]) -> None:
    """Say 1 MB: more than a socket, its queue and the server's take; all who read hear it."""
    text = "x" * 50_000
    for _ in range(20):
        await server.rooms.publish(room, Said(text=text))
        heard = await asyncio.gather(*(client.texts(1) for client in healthy))
        assert heard == [[text]] * len(healthy)


@asynccontextmanager
async def stalled(server: Served, room: str) -> AsyncGenerator[str]:
    """A user in ``room`` whose client reads nothing any more, and whose socket holds little."""
    own = socket.create_connection(("127.0.0.1", server.port))
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.setblocking(False)
    token = server.people.add()
    async with connected(server, token, sock=own, max_queue=1) as client:
        await client.join(room)
        client.socket.transport.pause_reading()
        yield token
        client.socket.transport.abort()


async def test_when_a_process_is_killed_its_clients_go_on_at_another(
    tmp_path: Path, valkey: Valkey
) -> None:
    settings = {"redis_url": valkey.url, "service_name": f"rooms {uuid4()}"}
    people = People()
    async with (
        served(tmp_path, people, **settings) as one,
        served(tmp_path, people, **settings) as two,
        members_of(two, "chat:1", 1) as (speaker,),
    ):
        token = people.add()
        async with connected(one, token) as client:
            joined = await client.join("chat:1")
            await speaker.say("chat:1", "before")
            offset = (await client.next("said"))["offset"]
            one.kill()
            assert await client.closed() == 1006
        for number in range(10):
            await speaker.say("chat:1", str(number))
        await speaker.texts(11)
        async with connected(two, token) as client:
            since = {"epoch": joined["epoch"], "offset": offset}
            assert (await client.join("chat:1", since))["recovered"] is True
            await speaker.say("chat:1", "after")
            assert await client.texts(11) == [*(str(number) for number in range(10)), "after"]


async def test_a_ticket_is_good_once_for_all_processes(tmp_path: Path, valkey: Valkey) -> None:
    settings = {"redis_url": valkey.url, "service_name": f"rooms {uuid4()}"}
    people = People()
    async with (
        served(tmp_path, people, **settings) as one,
        served(tmp_path, people, **settings) as two,
    ):
        query = f"?ticket={await one.ticket(people.add())}"
        async with connected(two, query=query) as client:
            await client.next("welcome")
        async with connected(one, query=query) as client:
            assert await client.closed() == 4401


class TestDeclaring:
    def test_a_pattern_names_rooms_and_the_values_in_them(self) -> None:
        kind = room("a.{one}:{two}", may_join=anyone)
        assert kind.values_of("a.1:2") == {"one": "1", "two": "2"}
        assert kind.values_of("a.1:x-y_z~") == {"one": "1", "two": "x-y_z~"}
        for name in ("ab1:2", "a.1:", "a.1:2:3", "a.1:2\n", f"a.1:{'x' * 65}"):
            assert kind.values_of(name) is None

    @pytest.mark.parametrize("pattern", ["", "a/b", "a b", "chat:{Id}", "chat:{id", "x" * 129])
    def test_a_pattern_is_a_name(self, pattern: str) -> None:
        with pytest.raises(ValueError, match="no name of rooms"):
            room(pattern, may_join=anyone)

    def test_messages_and_what_is_done_with_them_belong_together(self) -> None:
        with pytest.raises(ValueError, match="belong together"):
            room("chat:{id}", Said, may_join=anyone)

    @pytest.mark.parametrize("other", ["chat:{id}", "chat:{name}"])
    def test_two_kinds_have_two_names(self, other: str) -> None:
        with pytest.raises(ConfigurationError, match="two kinds of rooms"):
            kinds_of("chat:{id}", other)

    @pytest.mark.parametrize("pattern", ["dm:{a}-{b}", "{a}{b}", "x:{a}:{b}.{c}:y"])
    def test_it_is_certain_where_a_value_ends(self, pattern: str) -> None:
        with pytest.raises(ConfigurationError, match="where a value ends") as refused:
            kinds_of(pattern)
        assert "':'" in refused.value.fix
        kinds_of("dm:{a}:{b}", "org.{a}:chat-{b}")

    @pytest.mark.parametrize(
        ("name", "pattern"),
        [
            ("chat:admins", "chat:admins"),
            ("chat:admins2", "chat:admin{id}"),
            ("chat:1", "chat:{id}"),
            ("news:admins", "{kind}:admins"),
        ],
    )
    def test_the_more_literal_kind_is_meant(self, name: str, pattern: str) -> None:
        patterns = ["{kind}:admins", "chat:{id}", "chat:admin{id}", "chat:admins"]
        for order in (patterns, patterns[::-1]):
            assert kinds_of(*order).find(name)[0].pattern == pattern


def kinds_of(*patterns: str) -> RoomKinds:
    return RoomKinds(FastAPI(), [room(pattern, may_join=anyone) for pattern in patterns])


async def test_a_unit_speaks_after_its_commit_or_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/rooms.db")
    said: list[str] = []
    say = database.rooms.say

    async def heard(spoken: Spoken) -> Position | None:
        said.append(json.loads(spoken.text)["data"]["text"])
        return await say(spoken)

    monkeypatch.setattr(database.rooms, "say", heard)
    caller = Principal(id=uuid4())
    with suppress(ZeroDivisionError):
        async with database.write(caller) as work:
            work.broadcast("chat:1", Said(text="rolled back"))
            _ = 1 / 0
    with suppress(Unavailable), commits_fail(database):
        async with database.write(caller) as work:
            async with work.as_system("a test writes"):
                await work.session.execute(sql("SELECT 1"))
            work.broadcast("chat:1", Said(text="not committed"))
    assert said == []
    async with database.write(caller) as work:
        work.broadcast("chat:1", Said(text="committed"))
        assert said == []
    assert said == ["committed"]
    assert work.said_at is not None
    with pytest.raises(ReadOnlyUnit):
        async with database.read(caller) as work:
            work.broadcast("chat:1", Said(text="a GET says nothing"))
    await database.close()


@job(retries=0)
async def announce(run: JobRun, name: str, text: str) -> None:
    run.work.broadcast(name, Said(text=text))
    if text == "fails":
        raise GiveUp


async def test_jobs_speak_and_who_logs_out_hears_nothing_more(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_routes, "_LOOK_SECONDS", 0.2)
    fields: dict[str, Any] = {"register": NewUser, "read": UserRead, "update": UserUpdate}
    app = create_app(
        settings_of(tmp_path, database_url=database_url),
        accounts.module(User, roles=ROLES, **fields),
        Module("announcements", rooms=[room("announcements", may_join=anyone)], jobs=[announce]),
        room_routes.module(),
    )
    server = Served(app, People())
    await server.start()
    user = await make_user(app)
    headers = await log_in(app, user)
    async with connected(server, additional_headers=headers) as client:
        assert (await client.next("welcome"))["data"]["user_id"] == str(user.id)
        await client.join("announcements")
        async with app.state.database.write(Principal(id=user.id)) as work:
            work.enqueue(announce, "announcements", "fails")
            work.enqueue(announce, "announcements", "done")
        assert await run_jobs(app) == 2
        assert await client.texts(1) == ["done"]
        async with server.http() as http:
            answer = await http.post("/api/v1/auth/logout", headers=headers)
        assert answer.is_success, answer.text
        assert await client.closed() == 4401
    await server.stop()
