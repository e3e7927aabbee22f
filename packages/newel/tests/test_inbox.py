"""Handling a message once, whatever a broker does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from sample_entities import Measure
from sqlalchemy import func, select

from newel.clock import utc_now
from newel.db import Database
from newel.inbox import first_time, forget_before

pytestmark = pytest.mark.anyio

EVENT = uuid4()


async def handle(database: Database, event: object = EVENT, *, consumer: str = "stock") -> bool:
    async with database.write(None) as work:
        is_first = await first_time(work, consumer=consumer, event_id=str(event))
        if is_first:
            work.session.add(Measure(label=consumer))
    return is_first


async def effects(database: Database) -> int:
    async with database.read(None) as work:
        return await work.session.scalar(select(func.count()).select_from(Measure)) or 0


async def test_the_second_delivery_is_not_handled(database: Database) -> None:
    assert [await handle(database) for _ in range(3)] == [True, False, False]
    assert await effects(database) == 1


async def test_another_event_or_consumer_is_another_thing(database: Database) -> None:
    assert await handle(database)
    assert await handle(database, uuid4())
    assert await handle(database, consumer="mail")
    assert await handle(database, "x" * 10_000)


async def test_a_handling_that_fails_may_be_tried_again(database: Database) -> None:
    async def fail() -> None:
        async with database.write(None) as work:
            assert await first_time(work, consumer="stock", event_id=EVENT)
            work.session.add(Measure(label="stock"))
            await work.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await handle(database)
    assert await effects(database) == 1


async def test_a_note_of_its_own_transaction_would_lose_the_event(database: Database) -> None:
    """The control: noted and committed first, then killed."""
    async with database.write(None) as work:
        await first_time(work, consumer="stock", event_id=EVENT)
    assert not await handle(database)
    assert await effects(database) == 0


async def test_twins_at_the_same_moment(database: Database) -> None:
    assert sorted(await asyncio.gather(*(handle(database) for _ in range(10)))) == [
        *[False] * 9,
        True,
    ]
    assert await effects(database) == 1


async def test_old_notes_can_be_removed(database: Database) -> None:
    await handle(database)
    async with database.write(None) as work:
        await forget_before(work, utc_now() - timedelta(hours=1))
    assert not await handle(database)
    async with database.write(None) as work:
        await forget_before(work, utc_now() + timedelta(hours=1))
    assert await handle(database)
