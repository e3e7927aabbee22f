"""The publisher: takes events from the outbox to the broker, those of one entity in their order.

    publisher = Publisher(database, broker, name="worker-1", service="shop")
    await publisher.publish_some()      # again and again, while there are any

An event is marked as sent after the broker has it: killed in between, it is sent again with the
same id, and the consumer's ``inbox`` drops it. What a broker refuses holds up its own entity only.
A broker that is away costs nothing but room: events wait in the outbox, and requests go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Delete,
    Integer,
    Row,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from newel.broker import Broker, Message, full_topic
from newel.context import traceparent
from newel.db import Database
from newel.entity import Entity, UTCDateTime
from newel.events import OUTBOX, event_type
from newel.health import Degraded
from newel.job_rows import from_now
from newel.jobs import Backoff
from newel.telemetry import Traces

__all__ = ["Publisher", "check_broker", "watch_backlog"]

LEASE_SECONDS: Final = 12.0
"""How long one that was killed keeps others from going on: a round and its end take less."""

ROUND_SECONDS: Final = 3.0
SEND_SECONDS: Final = 5.0
PING_SECONDS: Final = 1.5
"""Less than what ``/ready`` waits for a check."""

AT_ONCE: Final = 20
_BACKOFF: Final = Backoff(first_seconds=1.0, factor=2.0, longest_seconds=300.0)
_LEASE: Final = UUID("7a1c9d5e-6f0b-4c57-9a3e-0b1f2d3c4e5f")
"""The key of the row that says who publishes now: an id that no entity has."""

_HOLDS: Final = Table(
    "outbox_holds",
    Entity.metadata,
    Column("key", Uuid, primary_key=True),  # of an entity whose events wait
    Column("until", UTCDateTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    info={"kernel": True},
)

_UNSENT: Final = OUTBOX.c.topic.is_not(None) & OUTBOX.c.sent_at.is_(None)
_log = structlog.get_logger("newel.publisher")


def _holds(longest_seconds: float) -> ColumnElement[bool]:
    """Tell that a hold is in force: not when it is longer than any, after a clock was put back."""
    return and_(_HOLDS.c.until > from_now(), _HOLDS.c.until < from_now(longest_seconds))


def _waiting() -> Select[*tuple[Any, ...]]:
    held = exists().where(
        _HOLDS.c.key == OUTBOX.c.aggregate_id, _holds(2 * _BACKOFF.longest_seconds)
    )
    return (
        select(OUTBOX)
        .where(_UNSENT, ~held)
        .order_by(OUTBOX.c.position)
        # A number in the text: PostgreSQL takes an unknown limit for a tenth of the table.
        .limit(bindparam("b_most", type_=Integer, literal_execute=True))
    )


_WAITING: Final = _waiting()


@dataclass(slots=True)
class _Round:
    """What became of the events that were taken together."""

    until: float
    sent: list[UUID] = field(default_factory=list[UUID])
    moved: set[UUID] = field(default_factory=set[UUID])
    refused: dict[UUID, Exception] = field(default_factory=dict[UUID, Exception])


class Publisher:
    """Sends what waits in ``database`` to ``broker``, in the name of ``service``.

    Of several that run, one at a time sends; ``name`` tells them apart.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        name: str,
        service: str,
        traces: Traces | None = None,
    ) -> None:
        self._traces = traces or Traces()
        self._database = database
        self._broker = broker
        self._name = name
        self._service = service
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._is_away = False
        # PostgreSQL: AUTOCOMMIT. A process that is stopped inside of a transaction keeps its locks.
        self._engine = database.engine if database.is_sqlite else database.reading_engine

    async def publish_some(self, *, most: int = 500) -> int:
        """Send up to ``most`` events and return how many the broker has taken."""
        if self._is_away and not await self._answers():
            return 0
        async with self._engine.begin() as connection:
            rows = await connection.run_sync(self._take, most)
        if not rows:
            return 0
        lines: dict[UUID, list[Row[*tuple[Any, ...]]]] = {}
        for row in rows:
            lines.setdefault(row.aggregate_id, []).append(row)
        done = _Round(until=time.monotonic() + ROUND_SECONDS)
        try:
            await asyncio.gather(*(self._send(line, done) for line in lines.values()))
            if done.refused and not await self._answers():
                done.refused.clear()  # it is nothing about these events
        finally:
            await self._settle(done)
        return len(done.sent)

    async def _send(self, line: Sequence[Row[*tuple[Any, ...]]], done: _Round) -> None:
        """Send the events of one entity, one after the other; a failure ends the round."""
        for row in line:
            async with self._slots:
                if done.refused or time.monotonic() > done.until:
                    return
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._publish(row)
                except Exception as error:  # noqa: BLE001 - whatever it is, it was not sent
                    done.refused[row.aggregate_id] = error
                    return
            done.sent.append(row.id)
            done.moved.add(row.aggregate_id)

    async def _publish(self, row: Row[*tuple[Any, ...]]) -> None:
        """Publish one event, in the trace of the request that recorded it."""
        if row.traceparent is None:
            await self._broker.publish(self._message(row))
            return
        name = f"publish {event_type(row.name)}"
        with self._traces.follow(name, parent=row.traceparent, kind=SpanKind.PRODUCER):
            await self._broker.publish(self._message(row))

    def _message(self, row: Row[*tuple[Any, ...]]) -> Message:
        return Message(
            id=row.id,
            topic=full_topic(row.topic, service=self._service),
            type=event_type(row.name),
            source=self._service,
            aggregate_id=row.aggregate_id,
            position=row.position,
            occurred_at=row.occurred_at,
            data=row.payload,
            request_id=row.request_id,
            traceparent=traceparent() or row.traceparent,
        )

    async def _answers(self) -> bool:
        """Tell whether the broker is there; say so in the log when that changes."""
        was_away = self._is_away
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._broker.ping()
        except Exception as error:  # noqa: BLE001 - whatever it is, it does not answer
            self._is_away = True
            if not was_away:
                _log.warning("broker_away", exc_info=error)
            return False
        self._is_away = False
        if was_away:
            _log.info("broker_back")
        return True

    # ------------------------------------------------------------ rows

    def _take(self, connection: Connection, most: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return what to send now, if it is us who publishes; else nothing."""
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(_HOLDS)
        values = {"until": from_now(LEASE_SECONDS), "attempts": 0, "reason": self._name}
        lease = insert.values(key=_LEASE, **values).on_conflict_do_update(
            index_elements=[_HOLDS.c.key],
            set_=values,
            where=or_(_HOLDS.c.reason == self._name, ~_holds(LEASE_SECONDS + 1.0)),
        )
        if connection.execute(lease.returning(_HOLDS.c.key)).one_or_none() is None:
            return []
        rows = connection.execute(_WAITING, {"b_most": most}).all()
        if not rows:
            connection.execute(self._end_of_lease())
        return rows

    def _end_of_lease(self, *, moved: Collection[UUID] = ()) -> Delete:
        """Return what ends our lease, and the holds of entities whose events go on."""
        ours = and_(_HOLDS.c.key == _LEASE, _HOLDS.c.reason == self._name)
        return delete(_HOLDS).where(or_(ours, _HOLDS.c.key.in_(moved)) if moved else ours)

    async def _settle(self, done: _Round) -> None:
        """Write what became of a round, also when we are stopped: else all is sent again."""

        async def settle() -> None:
            async with self._engine.begin() as connection:
                await connection.run_sync(self._write, done)

        settling = asyncio.create_task(settle())
        try:
            await asyncio.shield(settling)
        except asyncio.CancelledError:
            await settling
            raise

    def _write(self, connection: Connection, done: _Round) -> None:
        if done.sent:
            sent = update(OUTBOX).where(OUTBOX.c.id.in_(done.sent))
            connection.execute(sent.values(sent_at=from_now()))
        for aggregate_id, error in done.refused.items():
            self._hold(connection, aggregate_id, error)
        connection.execute(self._end_of_lease(moved=done.moved - done.refused.keys()))

    def _hold(self, connection: Connection, aggregate_id: UUID, error: Exception) -> None:
        """Let the events of an entity wait, each time longer."""
        before = select(_HOLDS.c.attempts).where(_HOLDS.c.key == aggregate_id)
        attempts = (connection.scalar(before) or 0) + 1
        seconds = _BACKOFF.seconds(attempts)
        values = {"until": from_now(seconds), "attempts": attempts, "reason": repr(error)[:1000]}
        insert = (sqlite if self._database.is_sqlite else postgresql).insert(_HOLDS)
        connection.execute(
            insert.values(key=aggregate_id, **values).on_conflict_do_update(
                index_elements=[_HOLDS.c.key], set_=values
            )
        )
        fields = {"aggregate_id": str(aggregate_id), "attempts": attempts, "wait_seconds": seconds}
        _log.warning("event_refused", **fields, exc_info=error)


async def watch_backlog(database: Database, *, most: int) -> None:
    """Look once whether ``most`` events wait for the broker: then no more are taken."""
    counted = select(OUTBOX.c.position).where(_UNSENT).limit(most).subquery()
    async with database.reading_engine.connect() as connection:
        waiting = await connection.scalar(select(func.count()).select_from(counted))
    was_full, database.audience.is_full = database.audience.is_full, waiting == most
    if database.audience.is_full != was_full:
        _log.warning("outbox_full" if not was_full else "outbox_has_room", waiting=waiting)


async def check_broker(broker: Broker, database: Database) -> None:
    """Raise ``Degraded`` when the broker does not answer, or too many events wait for it."""
    if database.audience.is_full:
        raise Degraded("as many events wait for the broker as may")
    try:
        async with asyncio.timeout(PING_SECONDS):
            await broker.ping()
    except Exception as error:
        raise Degraded("the broker does not answer: events wait in the outbox") from error
