"""Events reach their handlers, each at least once, those of one entity in their order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from sample_jobs import ann, application, drain, execute, rows, running, tag, tags, until
from sqlalchemy import select

from newel.context import request_id
from newel.db import Database
from newel.events import Event, OutboxEvent
from newel.handlers import on, relay
from newel.jobs import Backoff, JobRun
from newel.principal import Principal

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid(Event):
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped(Event):
    to: UUID


@on(Paid)
async def book(job: JobRun, event: Paid) -> None:
    await tag(job.work, f"booked {event.number}")


@on(Paid, name="thank", retries=1)
async def say_thanks(job: JobRun, payment: Paid) -> None:
    await tag(job.work, f"thanked {payment.number}")


async def note(job: JobRun, event: Shipped) -> None:
    await tag(job.work, "noted")


async def publish(database: Database, *events: Event, caller: Principal | None = None) -> None:
    async with database.write(caller) as work:
        for event in events:
            work.publish(event)


async def unpublished(database: Database) -> int:
    async with database.read(None) as work:
        found = select(OutboxEvent).where(OutboxEvent.published_at.is_(None))
        return len((await work.session.scalars(found)).all())


async def test_each_handler_of_an_event_gets_it(database: Database) -> None:
    app = application(database, handlers=[book, say_thanks])
    await publish(database, Paid(id=uuid4(), number=1))
    assert await drain(app) == 2
    assert sorted(await tags(database)) == ["booked 1", "thanked 1"]
    assert await unpublished(database) == 0
    assert await drain(app) == 0
    assert {one.name: one.max_attempts for one in await rows(database)} == {"book": 11, "thank": 2}


async def test_it_is_a_function_too(database: Database) -> None:
    seen: list[int] = []

    @on(Paid)
    async def look(job: JobRun, event: Paid) -> None:
        seen.append(event.number)

    anything: Any = None
    await look(anything, Paid(id=uuid4(), number=3))
    assert seen == [3]


async def test_it_runs_as_who_published_in_the_name_of_the_request(database: Database) -> None:
    seen: list[Any] = []

    @on(Shipped)
    async def look(job: JobRun, event: Shipped) -> None:
        seen.extend((job.caller, request_id.get(), event))

    caller, event = ann("orders:write"), Shipped(id=uuid4(), to=uuid4())
    token = request_id.set("request-9")
    await publish(database, event, caller=caller)
    request_id.reset(token)
    await drain(application(database, handlers=[look]))
    assert seen == [caller, "request-9", event]
    assert (await rows(database))[0].owner_id == caller.id


async def test_one_that_fails_holds_up_its_own_entity_only(database: Database) -> None:
    failing = True

    @on(Paid, backoff=Backoff(first_seconds=3600.0))
    async def log(job: JobRun, event: Paid) -> None:
        if failing and event.number == 1:
            raise KeyError("no")
        await tag(job.work, str(event.number))

    app = application(database, handlers=[log])
    one, other = uuid4(), uuid4()
    await publish(database, *(Paid(id=one, number=number) for number in (1, 2, 3)))
    await publish(database, Paid(id=other, number=9))
    await drain(app)
    assert await tags(database) == ["9"]

    failing = False
    await execute(database, "UPDATE jobs SET run_at = created_at WHERE state = 'scheduled'")
    await drain(app)
    assert await tags(database) == ["9", "1", "2", "3"]


async def test_the_others_go_on_when_it_has_died(database: Database) -> None:
    @on(Paid, retries=0)
    async def log(job: JobRun, event: Paid) -> None:
        if event.number == 1:
            raise KeyError("no")
        await tag(job.work, str(event.number))

    one = uuid4()
    await publish(database, Paid(id=one, number=1), Paid(id=one, number=2))
    await drain(application(database, handlers=[log]))
    assert await tags(database) == ["2"]


async def test_the_order_holds_with_many_publishers_and_workers(database: Database) -> None:
    """Deliveries run concurrently, twenty at a time; those of one entity never overtake."""

    @on(Paid)
    async def log(job: JobRun, event: Paid) -> None:
        await tag(job.work, f"{event.id.int} {event.number}")

    count = 15
    entities = [UUID(int=number) for number in range(4)]

    async def publisher(entity: UUID) -> None:
        for number in range(count):
            await publish(database, Paid(id=entity, number=number))

    app = application(database, handlers=[log])
    async with running(app), running(app):
        await asyncio.gather(*map(publisher, entities))

        async def delivered() -> bool:
            return len(await tags(database)) == count * len(entities)

        await until(delivered)
    seen = [label.split() for label in await tags(database)]
    for entity in entities:
        numbers = [int(number) for name, number in seen if int(name) == entity.int]
        assert numbers == list(range(count))


async def test_an_event_of_a_newer_release_is_left_to_its_worker(database: Database) -> None:
    """While releases run side by side, who has no handler for it must not say that it was handled.

    Marked by the old worker, it would be lost: nobody looks at it again.
    """
    await publish(database, Paid(id=uuid4(), number=1), Shipped(id=uuid4(), to=uuid4()))
    await drain(application(database, handlers=[on(Shipped)(note)]))
    assert await unpublished(database) == 1
    await drain(application(database, handlers=[book]))
    assert await unpublished(database) == 0
    assert await tags(database) == ["noted", "booked 1"]


async def test_an_event_that_nobody_has_handled_for_a_day_is_done_with(database: Database) -> None:
    await publish(database, *(Paid(id=uuid4(), number=number) for number in range(5)))
    assert await relay(database, {}, most=3) == 0
    await execute(database, "UPDATE outbox SET occurred_at = '2020-01-01 00:00:00'")
    assert await relay(database, {}, most=3) == 3
    assert await relay(database, {}, most=3) == 2
    assert await unpublished(database) == 0
    assert await rows(database) == []


async def test_one_process_relays_at_a_time(database: Database) -> None:
    """On PostgreSQL the others return at once, on SQLite they wait; nothing is doubled."""
    await publish(database, *(Paid(id=uuid4(), number=number) for number in range(50)))
    others = [Database(database.url) for _ in range(3)]
    handlers = {"Paid": [book]}

    async def relay_all(other: Database) -> int:
        count = 0
        while await unpublished(database):
            count += await relay(other, handlers, most=10)
        return count

    counts = await asyncio.gather(*map(relay_all, others))
    for other in others:
        await other.close()
    assert sum(counts) == 50
    assert len(await rows(database)) == 50


async def test_a_relay_that_fails_hands_nothing_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr("newel.handlers.write_jobs", fail)
    await publish(database, Paid(id=uuid4(), number=1))
    with pytest.raises(OSError, match="disk"):
        await relay(database, {"Paid": [book]})
    assert await unpublished(database) == 1
