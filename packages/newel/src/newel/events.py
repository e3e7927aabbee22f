"""Events: facts in the past tense that are recorded in the transaction that makes them true.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class AgentCreated(Event):
        id: UUID
        name: str

    work.publish(AgentCreated(id=agent.id, name=agent.name))

``publish`` adds a row to the ``outbox`` table; a transaction that fails leaves no event behind.
What delivers them reads that table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from newel.clock import utc_now
from newel.context import request_id
from newel.entity import Entity

__all__ = ["Event", "OutboxEvent", "outbox_event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of typed facts: a frozen dataclass whose ``id`` is the entity it happened to."""

    id: UUID


class OutboxEvent(Entity):
    """An event on its way: a row of the transaction that published it.

    ``aggregate_id`` is the entity it happened to; ids are UUIDv7, so their order is the order of
    publishing within a process. ``published_at`` stays empty until it has been delivered.
    """

    __tablename__ = "outbox"

    name: Mapped[str] = mapped_column(String(128))
    aggregate_id: Mapped[UUID] = mapped_column(index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    request_id: Mapped[str | None] = mapped_column(String(64), default=None)
    occurred_at: Mapped[datetime] = mapped_column(default_factory=utc_now)
    published_at: Mapped[datetime | None] = mapped_column(default=None, index=True)


def outbox_event(event: Event) -> OutboxEvent:
    """Return the row that records ``event``; its payload is the event as JSON."""
    return OutboxEvent(
        name=type(event).__name__,
        aggregate_id=event.id,
        payload=_adapter(type(event)).dump_python(event, mode="json"),
        request_id=request_id.get(),
    )


@cache
def _adapter(event: type[Event]) -> TypeAdapter[Event]:
    return TypeAdapter(event)
