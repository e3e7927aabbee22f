"""An event is a row of the transaction that published it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from newel.context import request_id
from newel.db import Database, ReadOnlyUnit
from newel.events import Event, OutboxEvent, event_row
from newel.principal import Principal, load_principal

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid(Event):
    amount: Decimal
    at: datetime
    payer: UUID | None = None


AT = datetime(2026, 1, 1, tzinfo=UTC)


def paid() -> Paid:
    return Paid(id=uuid4(), amount=Decimal("12.50"), at=AT)


async def test_a_published_event_is_a_row_of_the_transaction(database: Database) -> None:
    event = paid()
    async with database.write(None) as work:
        work.publish(event)
    async with database.read(None) as work:
        [row] = (await work.session.scalars(select(OutboxEvent))).all()
    assert (row.name, row.aggregate_id, row.published_at) == ("Paid", event.id, None)
    assert row.payload == {
        "id": str(event.id),
        "amount": "12.50",
        "at": "2026-01-01T00:00:00Z",
        "payer": None,
    }


async def test_a_transaction_that_fails_leaves_no_event(database: Database) -> None:
    with pytest.raises(KeyError):  # noqa: PT012 - the event before it is the point
        async with database.write(None) as work:
            work.publish(paid())
            raise KeyError
    async with database.read(None) as work:
        assert (await work.session.scalars(select(OutboxEvent))).all() == []


def test_an_event_remembers_the_request_and_the_caller_it_came_from() -> None:
    ann = Principal(id=uuid4(), permissions=frozenset({"agents:*"}))
    token = request_id.set("request-1")
    try:
        row = event_row(paid(), ann)
    finally:
        request_id.reset(token)
    assert row["request_id"] == "request-1"
    assert load_principal(row["caller"]) == ann
    assert event_row(paid())["request_id"] is None
    assert event_row(paid())["caller"] is None


async def test_positions_follow_the_order_of_publishing(database: Database) -> None:
    one = uuid4()
    for _ in range(3):
        async with database.write(None) as work:
            for _ in range(4):
                work.publish(Paid(id=one, amount=Decimal(1), at=AT))
    async with database.read(None) as work:
        rows = (await work.session.scalars(select(OutboxEvent).order_by(OutboxEvent.id))).all()
    assert len({row.position for row in rows}) == 12
    assert [row.position for row in rows] == sorted(row.position for row in rows)


async def test_who_commits_first_comes_first(database: Database) -> None:
    """The second publisher writes while the first has not committed, and waits for its turn."""
    if database.is_sqlite:
        pytest.skip("SQLite has one writer")
    one, other = uuid4(), uuid4()
    first = database.write(None)
    await first.__aenter__()
    first.publish(Paid(id=one, amount=Decimal(1), at=AT))
    await first.flush()

    async def second() -> None:
        async with database.write(None) as work:
            work.publish(Paid(id=one, amount=Decimal(2), at=AT))

    waiting = asyncio.create_task(second())
    async with database.write(None) as work:  # of another entity: nothing to wait for
        work.publish(Paid(id=other, amount=Decimal(3), at=AT))
    assert not waiting.done()
    await first.__aexit__(None, None, None)
    await waiting
    async with database.read(None) as work:
        found = select(OutboxEvent).where(OutboxEvent.aggregate_id == one)
        rows = (await work.session.scalars(found.order_by(OutboxEvent.position))).all()
    assert [row.payload["amount"] for row in rows] == ["1", "2"]


async def test_a_read_unit_publishes_nothing(database: Database) -> None:
    with pytest.raises(ReadOnlyUnit):
        async with database.read(None) as work:
            work.publish(paid())
