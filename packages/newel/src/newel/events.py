"""Events: facts in the past tense that are recorded in the transaction that makes them true.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class AgentCreated(Event):
        id: UUID
        name: str

    work.publish(AgentCreated(id=agent.id, name=agent.name))

``publish`` adds a row to the ``outbox`` table with the commit; a transaction that fails leaves no
event behind. The worker delivers them to ``handlers``, those of one entity in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, cast
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
from newel.context import request_id
from newel.entity import Entity
from newel.ids import uuid7
from newel.principal import Principal, dump_principal

__all__ = ["OUTBOX", "Event", "OutboxEvent", "event_row", "write_events"]

_POSITION: Final = DatabaseSequence("outbox_position")
_LOCK_BITS: Final = 0x7FFF_FFFF_FFFF_FFFF
"""As many bits of an entity's id as PostgreSQL's advisory locks are numbered by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of typed facts: a frozen dataclass whose ``id`` is the entity it happened to."""

    id: UUID


class OutboxEvent(Entity):
    """An event on its way: a row of the transaction that published it.

    ``aggregate_id`` is the entity it happened to; ``position`` grows in the order in which the
    transactions that changed one entity were committed. ``caller`` is who published it, as JSON.
    ``published_at`` stays empty until it has been handed to its handlers.
    """

    __tablename__ = "outbox"

    name: Mapped[str] = mapped_column(String(128))
    aggregate_id: Mapped[UUID] = mapped_column(index=True)
    position: Mapped[int] = mapped_column(BigInteger, _POSITION)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    caller: Mapped[str | None] = mapped_column(Text, default=None)
    request_id: Mapped[str | None] = mapped_column(String(64), default=None)
    occurred_at: Mapped[datetime] = mapped_column(default_factory=utc_now)
    published_at: Mapped[datetime | None] = mapped_column(default=None)

    __table_args__: Any = (
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
        {"info": {"kernel": True}},
    )


OUTBOX: Final = cast("Table", OutboxEvent.__table__)
"""The table of ``OutboxEvent``, for statements on a connection."""


def event_row(event: Event, caller: Principal | None = None) -> Mapping[str, Any]:
    """Return the columns of ``event``'s row but for its position; the payload is it as JSON."""
    now = utc_now()
    return {
        "id": uuid7(),
        "name": type(event).__name__,
        "aggregate_id": event.id,
        "payload": _adapter(type(event)).dump_python(event, mode="json"),
        "caller": None if caller is None else dump_principal(caller),
        "request_id": request_id.get(),
        "occurred_at": now,
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
        connection.execute(_INSERT_IN_TURN, {**row, "turn": row["aggregate_id"].int & _LOCK_BITS})


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
