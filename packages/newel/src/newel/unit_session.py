"""The session of a unit of work: refuses to write in one that reads, and tells what it changes.

What a statement or a flush has changed is told to the unit, which forgets what is cached of it. An
UPDATE statement counts the versions of its rows, as a flush does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Protocol, cast

from sqlalchemy import event
from sqlalchemy.orm import InstanceState, ORMExecuteState, UOWTransaction
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql.elements import ClauseElement

from newel.entity import Entity
from newel.scope import Scope, ScopedSession, changes_inside, is_scoped, sees, written_columns

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

    def let_go(self, known: AbstractSet[object]) -> Sequence[Entity]:
        """Expunge and return what the scope does not see, but for the identities ``known``.

        What has it by a relationship reads that anew.
        """
        states = self.identity_map.all_states()
        read = [state.obj() for state in states if state.key not in known]
        unseen = [each for each in read if isinstance(each, Entity) and not sees(self.scope, each)]
        for entity in unseen:
            self.expunge(entity)
        if unseen:
            gone = set(map(instance_state, unseen))
            for state in self.identity_map.all_states():
                if (entity := state.obj()) is not None and (names := _related(state, gone)):
                    self.expire(entity, names)
        return unseen


def _related(state: InstanceState[Any], others: AbstractSet[InstanceState[Any]]) -> Sequence[str]:
    """Return the relationships by which something has one of the ``others``, as it is loaded."""
    return [
        name
        for name in state.mapper.relationships.keys() & state.dict.keys()
        if not others.isdisjoint(
            found for found, _ in state.manager[name].impl.get_all_pending(state, state.dict)
        )
    ]


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


@event.listens_for(UnitSession, "do_orm_execute")
def _count_version(state: ORMExecuteState) -> None:
    """Have an UPDATE of entities count their versions, so that ``If-Match`` notices it."""
    mapper = state.bind_mapper if state.is_update else None
    if mapper is None or not issubclass(mapper.class_, Entity):
        return
    version = mapper.class_.version
    is_list = isinstance(state.parameters, list)  # by id: SQLAlchemy counts these
    if is_list or mapper.version_id_col is None or version.key in written_columns(state):
        return
    statement: Any = state.statement
    is_ordered = statement._maintain_values_ordering  # noqa: SLF001 - test_unit_session.py fails when it is renamed
    if is_ordered:  # a copy that may be told so for a moment: ordered, it takes no more values
        statement = statement.execution_options()
        statement._maintain_values_ordering = False  # noqa: SLF001 - see above
    statement = statement.values({version: version + 1})
    statement._maintain_values_ordering = is_ordered  # noqa: SLF001 - see above
    state.statement = statement
