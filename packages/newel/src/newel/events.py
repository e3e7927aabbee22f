"""Events: facts in the past tense that are recorded in the transaction that makes them true.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class AgentCreated(Event):
        id: UUID
        name: str

    work.publish(AgentCreated(id=agent.id, name=agent.name))

``publish`` adds a row to the ``outbox`` table with the commit; a transaction that fails leaves no
event behind. The worker delivers them to ``handlers`` and, with a ``BROKER_URL``, to other systems
(``publisher``): those of one entity in their order.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Final, cast
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Index,
    String,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    text,
)
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.orm import Mapped, mapped_column

from newel.clock import utc_now
from newel.context import request_id, traceparent
from newel.engines import execute
from newel.entity import Entity
from newel.ids import uuid7
from newel.principal import Principal, dump_principal

__all__ = [
    "OUTBOX",
    "Audience",
    "Event",
    "OutboxEvent",
    "event_row",
    "event_type",
    "topic_of",
    "write_events",
]

_POSITION: Final = DatabaseSequence("outbox_position")
_LOCK_BITS: Final = 0x7FFF_FFFF_FFFF_FFFF
"""As many bits of an entity's id as PostgreSQL's advisory locks are numbered by."""

_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""What every broker takes as the name of a topic, a subject, a stream or a routing key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of typed facts: a frozen dataclass whose ``id`` is the entity it happened to.

    ``class StockMoved(Event, topic="stock")`` chooses where it goes at a broker (see ``topic_of``);
    ``topic=None`` keeps it inside the service. Raises ``ValueError`` for what is no topic.
    """

    id: UUID
    __newel_topic__: ClassVar[str | None] = ""

    def __init_subclass__(cls, *, topic: str | None = "") -> None:
        # Called twice for a class with slots, the second time without what was said.
        if topic == "":
            return
        if topic is not None and (_TOPIC.fullmatch(topic) is None or len(topic) > 128):
            raise ValueError(f"{cls.__name__}: {topic!r} is no topic: letters, digits, . _ and -")
        cls.__newel_topic__ = topic


def event_type(event: type[Event] | str) -> str:
    """Return how an event is called outside: ``order_item.added`` for ``OrderItemAdded``."""
    name = event if isinstance(event, str) else event.__name__
    *subject, verb = _WORD.sub(" ", name).lower().split()
    return ".".join(filter(None, ("_".join(subject), verb)))


@cache
def topic_of(event: type[Event]) -> str | None:
    """Return where an event goes at a broker; ``None``: nowhere.

    What it is about: ``order_item`` for ``OrderItemAdded``, so that all that happens to one entity
    is in one place and in order. A topic without a dot gets the service's name before it.
    """
    chosen = event.__newel_topic__
    return event_type(event).partition(".")[0] if chosen == "" else chosen


@dataclass(slots=True, kw_only=True)
class Audience:
    """Who waits for the events of this process; by default anybody may.

    ``handled`` are the names of those that have handlers. ``is_full``: so many wait for the broker
    that no more are taken.
    """

    handled: Container[str] | None = None
    has_broker: bool = True
    is_full: bool = False

    def handles(self, event: type[Event]) -> bool:
        """Tell whether ``event`` has a handler, as far as this process knows."""
        return self.handled is None or event.__name__ in self.handled


class OutboxEvent(Entity):
    """An event on its way: a row of the transaction that published it.

    ``aggregate_id`` is the entity it happened to; ``position`` grows in the order in which the
    transactions that changed one entity were committed. ``caller`` is who published it, as JSON.
    ``published_at`` stays empty until it has been handed to its handlers. ``topic`` is where it
    goes at a broker, if anywhere, and ``sent_at`` when the broker had it.
    """

    __tablename__ = "outbox"

    name: Mapped[str] = mapped_column(String(128))
    aggregate_id: Mapped[UUID] = mapped_column(index=True)
    position: Mapped[int] = mapped_column(BigInteger, _POSITION, index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    caller: Mapped[str | None] = mapped_column(Text, default=None)
    request_id: Mapped[str | None] = mapped_column(String(64), default=None)
    traceparent: Mapped[str | None] = mapped_column(String(55), default=None)
    occurred_at: Mapped[datetime] = mapped_column(default_factory=utc_now)
    published_at: Mapped[datetime | None] = mapped_column(default=None)
    topic: Mapped[str | None] = mapped_column(String(128), default=None)
    sent_at: Mapped[datetime | None] = mapped_column(default=None)

    __table_args__: ClassVar[Any] = (  # ty: ignore[incompatible-attribute-override] - no field
        Index(
            "ix_outbox_unpublished",
            "position",
            sqlite_where=text("published_at IS NULL"),
            postgresql_where=text("published_at IS NULL"),
        ),
        Index(
            "ix_outbox_published",
            "published_at",
            sqlite_where=text("published_at IS NOT NULL"),
            postgresql_where=text("published_at IS NOT NULL"),
        ),
        Index(
            "ix_outbox_unsent",
            "position",
            sqlite_where=text("topic IS NOT NULL AND sent_at IS NULL"),
            postgresql_where=text("topic IS NOT NULL AND sent_at IS NULL"),
        ),
        {"info": {"kernel": True}},
    )


OUTBOX: Final = cast("Table", OutboxEvent.__table__)
"""The table of ``OutboxEvent``, for statements on a connection."""


def event_row(
    event: Event, caller: Principal | None = None, *, is_handled: bool = True
) -> Mapping[str, Any]:
    """Return the columns of ``event``'s row but for its position; the payload is it as JSON.

    One that nobody handles is handed over at once: no relay has to look at it.
    """
    now = utc_now()
    return {
        "id": uuid7(),
        "name": type(event).__name__,
        "aggregate_id": event.id,
        "payload": _adapter(type(event)).dump_python(event, mode="json"),
        "caller": None if caller is None else dump_principal(caller),
        "request_id": request_id.get(),
        "traceparent": traceparent(),
        "occurred_at": now,
        "published_at": None if is_handled else now,
        "topic": topic_of(type(event)),
        "created_at": now,
        "updated_at": now,
        "version": 1,
    }


def write_events(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows of ``event_row``; the position of each is drawn when it is its turn."""
    if connection.dialect.name == "sqlite":  # one writer: it is always its turn
        connection.execute(_INSERT_AT_THE_END, rows)
        return
    # Sorted, so that two units that publish about the same two entities do not lock each other up.
    ordered = sorted(rows, key=lambda row: row["aggregate_id"])
    for row in ordered:
        turn = row["aggregate_id"].int & _LOCK_BITS
        execute(connection, _INSERT_IN_TURN, {**row, "turn": turn})


def _after_the_last() -> ColumnElement[int]:
    return select(func.coalesce(func.max(OutboxEvent.position), 0) + 1).scalar_subquery()


def _drawn_in_turn() -> ColumnElement[int]:
    """Return PostgreSQL's next position, drawn after the lock of the event's entity is held.

    The lock lasts until the commit: of two transactions that publish about one entity, the one that
    commits first has the smaller position. A sequence alone, or a clock, cannot promise that.
    """
    lock = func.pg_advisory_xact_lock(bindparam("turn", type_=BigInteger))
    turn = select(lock).cte("turn").prefix_with("MATERIALIZED")
    return select(_POSITION.next_value()).select_from(turn).scalar_subquery()


@cache
def _adapter(event: type[Event]) -> TypeAdapter[Event]:
    return TypeAdapter(event)


# Built once: building them costs more than running them.
_INSERT_AT_THE_END: Final = insert(OUTBOX).values(position=_after_the_last())
_INSERT_IN_TURN: Final = insert(OUTBOX).values(position=_drawn_in_turn())
