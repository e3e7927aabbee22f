"""An event is a row of the transaction that published it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from newel.context import request_id
from newel.db import Database
from newel.events import Event, OutboxEvent, outbox_event

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid(Event):
    amount: Decimal
    at: datetime
    payer: UUID | None = None


def paid() -> Paid:
    return Paid(id=uuid4(), amount=Decimal("12.50"), at=datetime(2026, 1, 1, tzinfo=UTC))


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


def test_an_event_remembers_the_request_it_came_from() -> None:
    token = request_id.set("request-1")
    try:
        assert outbox_event(paid()).request_id == "request-1"
    finally:
        request_id.reset(token)
    assert outbox_event(paid()).request_id is None


def test_rows_sort_in_the_order_of_publishing() -> None:
    rows = [outbox_event(paid()) for _ in range(50)]
    assert [row.id for row in rows] == sorted(row.id for row in rows)
