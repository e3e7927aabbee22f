"""Entities as rows: read and written by constant statements, as long as no session is needed.

A flush of SQLAlchemy's session costs three times the statement that it sends. An entity that is the
columns of one table and nothing else, and that nobody listens to, needs nothing of what the flush
does besides. So a unit of work that writes begins without a session: ``Rows`` has its connection.
``work.session`` makes the session, in the same transaction, and hands all entities over to it; from
then on it does everything. What is not plain, or was changed by hand, is the session's too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from types import NoneType
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, event
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import InstanceState, Session, SessionTransaction, make_transient
from sqlalchemy.orm.attributes import get_history, instance_state, set_committed_value
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.util import greenlet_spawn

from newel.engines import execute
from newel.entity import Entity
from newel.outbox import Write, by_kind, record
from newel.scope import OVER, Scope, sees
from newel.shapes import ID, SEEN, Shape, shape_of
from newel.statements import Constant

__all__ = ["Listeners", "Rows"]

_MOST: Final = 50
"""With more entities than these a session is faster: it knows by itself which were changed."""

_SESSION_EVENTS: Final = (
    *("after_attach", "after_begin", "after_bulk_delete", "after_bulk_update", "after_commit"),
    *("after_flush", "after_flush_postexec", "after_rollback", "after_soft_rollback"),
    *("after_transaction_create", "after_transaction_end", "before_attach", "before_commit"),
    *("before_flush", "deleted_to_detached", "deleted_to_persistent", "detached_to_persistent"),
    *("do_orm_execute", "loaded_as_persistent", "pending_to_persistent", "pending_to_transient"),
    *("persistent_to_deleted", "persistent_to_detached", "persistent_to_transient"),
    "transient_to_pending",
)
_OWN_LISTENERS: Final = {"newel.outbox", "newel.scope", "newel.unit_session"}


_VALUES: Final = frozenset({str, int, bool, float, NoneType, UUID, datetime, dict, list})
"""The usual types of values: known to be no expressions of SQL."""

E = TypeVar("E", bound=Entity)
T = TypeVar("T")
_Identity = tuple[type[Entity], UUID]


class Rows:
    """The connection of a unit of work that has no session, and the entities it has seen on it.

    Every method that sends a statement raises what the driver's errors mean. It has then rolled
    back, and ``commit`` is refused: as after a flush that failed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._entities: dict[_Identity, Entity] = {}
        self._inserted: list[Entity] = []
        self._recorded: list[tuple[Write[Any], Any]] = []
        self._has_failed = False
        self._is_busy = False
        self._is_over = False

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to do that only a session knows."""
        return (
            not self._has_failed
            and len(self._entities) < _MOST
            and not any(_state_of(entity).modified for entity in self._entities.values())
        )

    # Each one switch into SQLAlchemy and back.

    async def find(
        self,
        kind: type[E],
        id: UUID,
        statement: Select[*tuple[Any, ...]],
        values: Mapping[str, Any],
    ) -> E | None:
        """Return the entity whose columns ``statement`` selects; the same object each time."""
        rows = await self.select(statement, values)
        if not rows:
            return None
        known = self._entities.get((kind, id))
        return cast("E", known) if known is not None else self._keep(_loaded(kind, rows[0]))

    async def select(
        self, statement: Select[*tuple[Any, ...]], values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of a SELECT of columns."""
        rows, _ = await greenlet_spawn(self._execute, statement, values)
        return rows

    async def insert(self, entity: Entity) -> bool:
        """Insert a new entity; ``False``: it is the session's to do."""
        values = _new_values(entity)
        if values is None:
            return False
        await greenlet_spawn(self._insert, entity, values)
        return True

    async def update(self, entity: Entity) -> bool:
        """Write what has changed in an entity seen before; ``False``: it is the session's to do.

        Raises ``StaleDataError`` when the row has another version by now.
        """
        values = _changed_values(entity)
        if values is None or not self.knows(entity):
            return False
        await greenlet_spawn(self._update, entity, values)
        return True

    def knows(self, entity: Entity) -> bool:
        """Tell whether it was read or added here."""
        return self._entities.get((type(entity), entity.id)) is entity

    def identities(self) -> set[object]:
        """Return what a session would know its entities by."""
        return {_state_of(entity).key for entity in self._entities.values()}

    def let_go(self, known: AbstractSet[object], scope: Scope | None) -> Sequence[Entity]:
        """Forget and return what ``scope`` does not see, but for the identities ``known``."""
        read = [each for each in self._entities.values() if _state_of(each).key not in known]
        unseen = [entity for entity in read if not sees(scope, entity)]
        for entity in unseen:
            del self._entities[type(entity), entity.id]
        return unseen

    def record(self, write: Write[T], what: T) -> None:
        """Have ``write`` called with ``what``, and all else of its kind, before the commit."""
        self._recorded.append((write, what))

    def write_recorded(self) -> None:
        """Write now what has been recorded; in a greenlet of SQLAlchemy's."""
        self._refuse_beside()
        recorded, self._recorded = self._recorded, []
        for write, everything in by_kind(recorded):
            self._trying(partial(self._write, write, everything))

    def commit(self) -> None:
        """Commit and give the connection back; in a greenlet of SQLAlchemy's."""
        self.write_recorded()
        if self._connection is not None:
            self._trying(self._connection.commit)
        self.close()

    def close(self) -> None:
        """Roll back what was not committed, and give the connection back; in a greenlet.

        A connection on which a call is still under way is of no use to anybody else.
        """
        self._is_over = True
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._is_busy:
                connection.invalidate()
            connection.close()

    def refuse_after_failure(self) -> None:
        """Raise what a session raises when a flush has failed and nobody has rolled back."""
        self._refuse_beside()
        if self._has_failed:
            raise PendingRollbackError(
                "This unit of work was rolled back by an error: to go on after one, wrap the call "
                "in `async with work.session.begin_nested():`"
            )

    def hand_over(self, session: Session) -> None:
        """Give everything to ``session``: the transaction, the entities, what was recorded.

        It ends with the transaction, so the connection goes back where it was taken from.
        """
        self._refuse_beside()
        if self._connection is not None:
            session.bind = self._connection
            session.connection()  # joins the transaction: nothing is sent
            event.listen(session, "after_transaction_end", self._give_back)
        elif self._has_failed:
            session.begin()  # so that there is something to roll back
            event.listen(session, "before_commit", self._refuse_half)
            event.listen(session, "after_soft_rollback", self._mend)
        session.add_all(self._entities.values())
        begun: Any = session.get_transaction()
        for entity in self._inserted:
            # A rollback makes them new again. Nothing public says so; test_rows.py fails when this
            # is renamed.
            begun._new[_state_of(entity)] = True  # noqa: SLF001 - see above
        for write, what in self._recorded:
            record(session, write, what)
        self._recorded.clear()

    def _give_back(self, session: Session, ended: SessionTransaction) -> None:
        if ended.parent is None and self._connection is not None:
            session.bind = self._engine
            self.close()

    def _refuse_half(self, _session: Session) -> None:
        self.refuse_after_failure()

    def _mend(self, _session: Session, ended: SessionTransaction) -> None:
        if ended.parent is None:
            self._has_failed = False

    # Inside of the greenlet.

    def _connected(self) -> Connection:
        self._refuse_over()
        if self._connection is None:
            connection = self._engine.connect()
            if self._is_over:  # meanwhile
                connection.close()
            self._refuse_over()
            self._connection = connection
        return self._connection

    def _refuse_over(self) -> None:
        if self._is_over:
            raise InvalidRequestError(OVER)

    def _execute(
        self, statement: Constant, values: Mapping[str, Any]
    ) -> tuple[Sequence[Sequence[Any]], int]:
        return self._trying(lambda: execute(self._connected(), statement, values))

    def _write(self, write: Write[T], everything: Sequence[T]) -> None:
        write(self._connected(), everything)

    def _trying(self, work: Callable[[], T]) -> T:
        self._refuse_beside()
        self._is_busy = True
        try:
            return work()
        except BaseException:
            self._is_busy = False
            self._fail()
            raise
        finally:
            self._is_busy = False

    def _refuse_beside(self) -> None:
        if self._is_busy:
            raise InvalidRequestError("a unit of work does one thing at a time: await each call")

    def _insert(self, entity: Entity, values: Mapping[str, Any]) -> None:
        self._execute(shape_of(type(entity)).insert, values)
        for name, value in values.items():
            if name not in entity.__dict__ or entity.__dict__[name] is not value:
                set_committed_value(entity, name, value)
        _state_of(entity).key = _identity_key(entity)
        _settle(entity)
        self._inserted.append(self._keep(entity))

    def _update(self, entity: Entity, values: Mapping[str, Any]) -> None:
        if values:
            _, count = self._execute(shape_of(type(entity)).update, values)
            if count != 1:
                self._fail()
                raise StaleDataError(f"the row of {type(entity).__name__} has another version")
            for name in values.keys() - {ID, SEEN}:
                set_committed_value(entity, name, values[name])
        _settle(entity)

    def _keep(self, entity: E) -> E:
        self._entities[type(entity), entity.id] = entity
        return entity

    def _fail(self) -> None:
        """Roll back, as a flush does: what was inserted is as new as it was."""
        self._has_failed = True
        self._entities.clear()
        self._recorded.clear()
        for entity in self._inserted:
            make_transient(entity)
        self._inserted.clear()
        self.close()


class Listeners:
    """Whether anybody but the kernel listens to sessions of one kind: to flushes, commits ...

    It is asked for each unit of work, so it counts them.
    """

    def __init__(self, session: Session) -> None:
        dispatch: Any = session.dispatch
        # Not the lists that one iterates over, which are made for that and count slowly.
        self._lists: list[Sequence[Any]] = [
            getattr(dispatch, name).parent_listeners for name in _SESSION_EVENTS
        ]
        found = (listener for heard in self._lists for listener in heard)
        self._own = sum(getattr(each, "__module__", "") in _OWN_LISTENERS for each in found)

    @property
    def are_ours(self) -> bool:
        """Whether there are none but the kernel's."""
        return sum(map(len, self._lists)) == self._own


def _new_values(entity: Entity) -> Mapping[str, Any] | None:
    """Return the values of an INSERT, as a flush would; ``None`` when it is the session's."""
    shape, present = shape_of(type(entity)), vars(entity)
    if _state_of(entity).key is not None or present.get("id") is None:
        return None
    values: dict[str, Any] = {}
    for name in shape.names:
        is_left_out = name not in present and name in shape.defaults
        value = _made(shape.defaults[name]) if is_left_out else present.get(name)
        if (value is None and name in shape.particular) or _is_expression(value):
            return None
        values[name] = value
    return {**values, "version": _next_version(shape, None)}


def _changed_values(entity: Entity) -> Mapping[str, Any] | None:
    """Return the values of an UPDATE, empty when nothing has changed; ``None``: the session's."""
    shape, present = shape_of(type(entity)), vars(entity)
    untouched = _state_of(entity).unmodified
    touched = [name for name in shape.names if name not in untouched]
    changed = {name: present[name] for name in touched if get_history(entity, name).has_changes()}
    if not changed:
        return {}
    if {"id", "version"} & changed.keys() or any(map(_is_expression, changed.values())):
        return None
    stamps = {name: _made(stamp) for name, stamp in shape.stamps.items() if name not in changed}
    version = _next_version(shape, entity.version)
    return {**changed, **stamps, "version": version, ID: entity.id, SEEN: entity.version}


def _made(default: Any) -> Any:
    """Return the value of a default, as a statement of SQLAlchemy would make it."""
    return default.arg(None) if default.is_callable else default.arg


def _is_expression(value: object) -> bool:
    if type(value) in _VALUES:
        return False
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def _next_version(shape: Shape, present: int | None) -> int:
    return cast("Any", shape.mapper.version_id_generator)(present)


def _loaded(kind: type[E], row: Sequence[Any]) -> E:
    """Return an entity as the session would have loaded it, but that it belongs to no session."""
    shape = shape_of(kind)
    entity: E = cast("Any", shape.mapper.class_manager).new_instance()
    vars(entity).update(zip(shape.names, row, strict=True))
    _state_of(entity).key = _identity_key(entity)
    return entity


def _identity_key(entity: Entity) -> Any:
    """Return what a session knows an entity by."""
    return shape_of(type(entity)).mapper.identity_key_from_primary_key((entity.id,))


def _settle(entity: Entity) -> None:
    """Take the values of an entity for those of its row."""
    # Public is only `make_transient_to_detached`: for what never had a row, at four times the cost.
    cast("Any", _state_of(entity))._commit_all(vars(entity))  # noqa: SLF001 - see above


def _state_of(entity: E) -> InstanceState[E]:
    return instance_state(entity)
