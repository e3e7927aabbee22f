"""Facts about executions, recorded in the transaction that makes them true."""

from dataclasses import dataclass
from uuid import UUID

from newel.events import Event

from agent_management.executions.models import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionCreated(Event):
    owner_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionUpdated(Event):
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionDeleted(Event):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStatusChanged(Event):
    before: Status
    after: Status
