"""The session of a unit of work: refuses to write in one that reads, and tells what it changes.

What a statement or a flush has changed is told to the unit, which forgets what is cached of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, UOWTransaction
from sqlalchemy.sql.elements import ClauseElement

from newel.entity import Entity
from newel.scope import Scope, ScopedSession, changes_inside, is_scoped

__all__ = ["READ_ONLY", "UNWATCHED", "ReadOnlyUnit", "UnitSession", "Writing"]

UNWATCHED: Final[Mapping[str, bool]] = {"newel_unwatched": True}
"""Execution options of a statement after which nothing need be forgotten."""

READ_ONLY: Final = (
    "a read unit cannot write: use POST, PUT, PATCH or DELETE, or `database.write(caller)`"
)
"""Said to whoever writes in a unit that reads."""


class ReadOnlyUnit(RuntimeError):
    """A read unit was asked to write: a mistake in the code (a GET that changes something)."""


class Writing(Protocol):
    """What a session asks and tells its unit of work."""

    read_only: bool
    scope: Scope | None

    def note_changed(self, entity: Entity) -> None:
        """Take note of an entity that was written."""
        ...

    def note_changed_rows(self, kind: type[Entity]) -> None:
        """Take note of a statement that changed rows of ``kind``, nobody knows which."""
        ...


class UnitSession(ScopedSession):
    """The session of a unit of work, which says what it sees and whether it may write."""

    work: Writing

    @property
    def scope(self) -> Scope | None:
        return self.work.scope


@event.listens_for(UnitSession, "do_orm_execute")
def _refuse_to_write(state: ORMExecuteState) -> None:
    if cast("UnitSession", state.session).work.read_only and _changes(state):
        raise ReadOnlyUnit(READ_ONLY)


def _changes(state: ORMExecuteState) -> bool:
    if state.is_insert or state.is_update or state.is_delete:
        return True
    return not is_scoped(state) and changes_inside(cast("ClauseElement", state.statement))


@event.listens_for(UnitSession, "before_flush")
def _refuse_to_flush(session: UnitSession, _context: UOWTransaction, _instances: Any) -> None:
    if session.work.read_only and (session.new or session.deleted or session.dirty):
        raise ReadOnlyUnit(READ_ONLY)


@event.listens_for(UnitSession, "after_flush")
def _note_changed_entities(session: UnitSession, _context: UOWTransaction) -> None:
    for entity in (*session.new, *session.dirty, *session.deleted):
        session.work.note_changed(entity)


@event.listens_for(UnitSession, "do_orm_execute")
def _note_changed_rows(state: ORMExecuteState) -> None:
    writes = state.is_insert or state.is_update or state.is_delete
    if not writes or state.execution_options.get("newel_unwatched"):
        return
    if (mapper := state.bind_mapper) is not None:
        cast("UnitSession", state.session).work.note_changed_rows(mapper.class_)
