"""Facts about agents, recorded in the transaction that makes them true."""

from dataclasses import dataclass
from uuid import UUID

from newel.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCreated(Event):
    owner_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUpdated(Event):
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDeleted(Event):
    pass
