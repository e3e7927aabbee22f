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
from newel.db import Database
from newel.events import Audience, Event, OutboxEvent, event_row, event_type, topic_of
from newel.principal import Principal, load_principal
from newel.unit_session import ReadOnlyUnit

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


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItemAdded(Event):
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItemMoved(Event, topic="sales.items"):
    topic: str  # its own field: nothing of ours has this name


@dataclass(frozen=True)
class OrderItemSeen(Event, topic=None):
    pass


class OrderItemTaken(OrderItemMoved):
    """Goes where the other goes."""


@pytest.mark.parametrize(
    ("event", "type_", "topic"),
    [
        (OrderItemAdded, "order_item.added", "order_item"),
        (OrderItemMoved, "order_item.moved", "sales.items"),
        (OrderItemTaken, "order_item.taken", "sales.items"),
        (OrderItemSeen, "order_item.seen", None),
        (Paid, "paid", "paid"),
    ],
)
def test_a_type_and_a_topic_come_of_the_name(
    event: type[Event], type_: str, topic: str | None
) -> None:
    assert event_type(event) == event_type(event.__name__) == type_
    assert topic_of(event) == topic


def test_the_row_says_where_it_goes() -> None:
    moved = OrderItemMoved(id=uuid4(), topic="mine")
    row = event_row(moved)
    assert (row["topic"], row["payload"]["topic"]) == ("sales.items", "mine")
    assert event_row(paid())["published_at"] is None
    assert event_row(paid(), is_handled=False)["published_at"] is not None


@pytest.mark.parametrize("topic", ["a b", ".a", "a.", "a..b", "shop.*", "shop.>", "ä", "x" * 129])
def test_what_is_no_topic_anywhere(topic: str) -> None:
    with pytest.raises(ValueError, match="is no topic"):
        type("Odd", (Event,), {}, topic=topic)


def test_an_audience_knows_its_handlers_or_nothing() -> None:
    assert Audience().handles(Paid)
    assert Audience(handled={"Paid"}).handles(Paid)
    assert not Audience(handled={"Other"}).handles(Paid)
