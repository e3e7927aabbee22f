"""Who sees what: adds ``visible_to`` to every query of a session that carries a caller.

Two events enforce it. ``do_orm_execute`` adds the predicates to every SELECT, UPDATE and DELETE, in
sub-queries, joins, relationship loads, ``get``, counts and aggregates too, and raises
``UnscopedQuery`` for what it cannot guard. ``before_flush`` refuses to write rows of others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnClause,
    ColumnElement,
    Connection,
    Delete,
    Extract,
    Select,
    Table,
    TableClause,
    TextClause,
    UnaryExpression,
    Update,
    UpdateBase,
    event,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    FromStatement,
    ORMExecuteState,
    Session,
    SessionTransaction,
    UOWTransaction,
    evaluator,
    with_loader_criteria,
)
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql import visitors
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.elements import ClauseElement, ExpressionClauseList
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import HasHints, HasPrefixes

from newel.entity import Entity, SoftDeleted
from newel.errors import Forbidden
from newel.principal import Principal

__all__ = [
    "OVER",
    "SCOPED",
    "Scope",
    "ScopedSession",
    "SystemScope",
    "UnscopedQuery",
    "changes_inside",
    "is_scoped",
    "refuse_foreign",
    "sees",
    "visible",
    "written_columns",
]


_WORD = re.compile(r"\w+")


class UnscopedQuery(RuntimeError):
    """A statement on a guarded entity that has no scope: a mistake in the code, never input.

    Guarded is every entity with ``visible_to`` predicates (``Owned``, ``Tenanted``, policies).
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemScope:
    """Every row, for a reason that has been logged."""

    reason: str


Scope = Principal | SystemScope
"""What a session may see: a caller's rows, or everything."""


class ScopedSession(Session):
    """A SQLAlchemy ``Session`` that refuses and filters by its ``scope``. Nothing else differs."""

    held: Connection | None = None
    """The connection of its last transaction."""
    is_over: bool = False

    @property
    def scope(self) -> Scope | None:
        """Whose rows it sees; ``None`` sees none of a guarded entity."""
        raise NotImplementedError

    def bulk_save_objects(self, *_: Any, **__: Any) -> None:
        """Refuse: it skips every event. Use ``add_all``."""
        raise UnscopedQuery(_SKIPS_EVENTS)

    def bulk_insert_mappings(self, *_: Any, **__: Any) -> None:
        """Refuse: it skips every event. Use ``add_all``."""
        raise UnscopedQuery(_SKIPS_EVENTS)

    def bulk_update_mappings(self, *_: Any, **__: Any) -> None:
        """Refuse: it skips every event. Change the entities."""
        raise UnscopedQuery(_SKIPS_EVENTS)

    def leave(self) -> None:
        """Close it for good. A connection on which a call is still under way is given up."""
        self.is_over = True
        # Nothing public tells; test_rows.py fails when the name is another.
        if cast("Any", self)._flushing:  # noqa: SLF001 - see above
            self._give_up()
        try:
            self.close()
        except Exception:  # noqa: BLE001 - what ended the unit is the error to tell
            self._give_up()

    def _give_up(self) -> None:
        if self.held is not None and not self.held.closed:
            self.held.invalidate()


@event.listens_for(ScopedSession, "after_begin")
def _hold(session: ScopedSession, _begun: SessionTransaction, connection: Connection) -> None:
    session.held = connection
    if session.is_over:  # it ended while a call of it waited for this connection
        connection.invalidate()
        raise InvalidRequestError(OVER)


OVER: Final = "this unit of work is over"
"""Said to whoever goes on after the end, as a task does that kept a repository."""

_SKIPS_EVENTS = "SQLAlchemy's bulk methods cannot be scoped: add or change entities instead"


def visible(entity: type[Entity], scope: Scope | None) -> Sequence[ColumnElement[bool]]:
    """Return what ``scope`` sees of ``entity`` as predicates; raises ``UnscopedQuery``.

    A statement on this one entity that has them in its WHERE, and joins no other, may be run with
    ``SCOPED``.
    """
    live = (entity.deleted_at.is_(None),) if issubclass(entity, SoftDeleted) else ()
    if isinstance(scope, SystemScope) or not _is_guarded(entity):
        return live
    if scope is None:
        raise UnscopedQuery(_no_scope(entity.__tablename__))
    predicate = entity.visible_to(scope)
    return live if predicate is None else (*live, predicate)


def sees(scope: Scope | None, entity: Entity) -> bool:
    """Tell whether ``scope`` sees a row, by the values that are loaded.

    ``False`` too for a policy that only the database can answer, as one with a sub-query is.
    """
    kind = type(entity)
    if isinstance(scope, SystemScope) or not _is_guarded(kind):
        return True
    if scope is None:
        return False
    predicate = kind.visible_to(scope)
    if predicate is None:
        return True
    # What SQLAlchemy itself finds the rows by that an UPDATE has changed; test_scope.py fails when
    # a release renames it.
    try:
        answer = cast("Any", evaluator)._EvaluatorCompiler(kind).process(predicate)  # noqa: SLF001 - see above
    except evaluator.UnevaluatableError:
        return False
    return answer(entity) is True


SCOPED: Final[Mapping[str, object]] = {"newel_scoped": object()}
"""Execution options of a statement that has its predicates already, from ``visible``."""


def is_scoped(state: ORMExecuteState) -> bool:
    """Tell whether a statement is run with ``SCOPED``: what it loads besides inherits that."""
    is_marked = state.execution_options.get("newel_scoped") is SCOPED["newel_scoped"]
    return is_marked and not state.is_relationship_load


@event.listens_for(ScopedSession, "do_orm_execute")
def _filter(state: ORMExecuteState) -> None:
    if is_scoped(state):
        return
    scope = cast("ScopedSession", state.session).scope
    options = [] if state.execution_options.get("include_deleted") else list(_live_rows())
    if not isinstance(scope, SystemScope):
        if not state.is_column_load:  # of a row that was found before; what it joins is filtered
            _refuse_unguardable(state, scope)
        if scope is not None:
            options.extend(_criteria(scope, _changed(state)))
    if options and state.is_orm_statement:
        state.statement = state.statement.options(*options)


@event.listens_for(ScopedSession, "before_flush")
def _refuse_foreign_rows(
    session: ScopedSession, _context: UOWTransaction, _instances: Sequence[object] | None
) -> None:
    for entity in (*session.new, *session.dirty, *session.deleted):
        if isinstance(entity, Entity):
            refuse_foreign(entity, session.scope)


def refuse_foreign(entity: Entity, scope: Scope | None) -> None:
    """Raise ``Forbidden`` for a row that ``scope`` may not write; ``UnscopedQuery`` without one."""
    if isinstance(scope, SystemScope) or not _is_guarded(type(entity)):
        return
    if scope is None:
        raise UnscopedQuery(_no_scope(type(entity).__tablename__))
    if not entity.is_changeable_by(scope):
        raise Forbidden(f"This {entity.resource_name()} belongs to somebody else.")


def _refuse_unguardable(state: ORMExecuteState, scope: Scope | None) -> None:
    """Raise for what loader criteria do not reach: text, INSERT, tables without their entity."""
    statement = cast("ClauseElement", state.statement)  # every Executable of a session is one
    if isinstance(statement, TextClause | FromStatement | ExecutableDDLElement):
        raise UnscopedQuery(
            "raw SQL cannot be scoped: wrap it in `async with work.as_system('why'):`"
        )
    guarded, parts = _guarded_tables(), tuple(_inside(statement))
    used = _names(parts) & guarded
    if scope is None and used:
        raise UnscopedQuery(_no_scope(min(used)))
    if state.is_insert and used:
        raise UnscopedQuery(f"INSERT into {min(used)} cannot be scoped: add entities instead")
    if names := {name for part in _changes(parts[1:]) for name in _all_tables(part)} & guarded:
        raise UnscopedQuery(f"{min(names)} is in a statement that changes inside of another")
    if names := (_bare_tables(statement, parts) & guarded) | _named_in_text(parts, guarded):
        raise UnscopedQuery(
            f"the table {min(names)} is used without its entity and cannot be scoped: "
            "write the statement with the mapped class"
        )
    if state.is_update or state.is_delete:
        _refuse_wide_change(state, cast("Update | Delete", statement), guarded)


def _refuse_wide_change(
    state: ORMExecuteState, statement: Update | Delete, guarded: AbstractSet[str]
) -> None:
    """Raise for an UPDATE or DELETE whose predicate does not say all: it holds for the target."""
    target = {table.name for table in _inside(statement.table) if isinstance(table, Table)}
    if names := _tables_beside_selects(statement) & guarded - target:
        raise UnscopedQuery(
            f"{min(names)} is read by an UPDATE or DELETE of another table: use a sub-query"
        )
    if not target & guarded:
        return
    if isinstance(state.parameters, list):
        raise UnscopedQuery("an UPDATE by a list of ids cannot be scoped: change entities instead")
    guarding = (e.__guarding_columns__ for e in _guarded_entities() if e.__tablename__ in target)
    if names := written_columns(state) & frozenset[str]().union(*guarding):
        raise UnscopedQuery(
            f"{min(names)} says whose a row is or what somebody may do: change it on the entity"
        )


def written_columns(state: ORMExecuteState) -> set[str]:
    """Return the names of the columns that an UPDATE sets, however they were given."""
    kept: Mapping[str, Any] = vars(state.statement)  # no accessor of SQLAlchemy's does not compile
    names = {str(getattr(column, "key", column)) for column in kept.get("_values") or ()}
    given = state.parameters if isinstance(state.parameters, list) else [state.parameters or {}]
    return names.union(*cast("list[Mapping[str, object]]", given))


def _tables_beside_selects(element: ClauseElement) -> set[str]:
    """Return the tables that a statement names outside of its sub-queries, which are filtered."""
    found = set[str]()
    if isinstance(element, Table | Column):
        found.update(_sources(cast("Table | Column[Any]", element)))
    for child in cast("Any", element).get_children():
        if not isinstance(child, Select):
            found |= _tables_beside_selects(child)
    return found


def changes_inside(statement: ClauseElement) -> bool:
    """Tell whether an INSERT, UPDATE or DELETE is part of a statement, as PostgreSQL's CTEs are."""
    return any(True for part in _changes(_inside(statement)) if part is not statement)


def _changes(parts: Iterable[ClauseElement]) -> Iterator[UpdateBase]:
    return (part for part in parts if isinstance(part, UpdateBase))


def _named_in_text(parts: Iterable[ClauseElement], guarded: AbstractSet[str]) -> set[str]:
    """Return the guarded tables that a piece of text, or a table made by hand, names."""
    found = {word for part in parts for text in _texts(part) for word in _WORD.findall(text)}
    return {name for name in guarded if name.lower() in found} if found else set()


def _texts(part: ClauseElement) -> Iterator[str]:
    """Yield what goes into the statement as it is, in small letters."""
    if isinstance(part, TextClause):
        yield part.text.lower()
    elif isinstance(part, TableClause):
        if not isinstance(part, Table):
            yield str.lower(part.name)  # a quoted name keeps its letters otherwise
    elif isinstance(part, ColumnClause):
        if part.is_literal:
            yield str.lower(part.name)
    elif isinstance(part, BinaryExpression | UnaryExpression | ExpressionClauseList):
        ways = (part.operator, part.modifier if isinstance(part, UnaryExpression) else None)
        yield from (way.opstring.lower() for way in ways if isinstance(way, custom_op))
    elif isinstance(part, Extract):
        yield part.field.lower()
    elif isinstance(part, HasHints | UpdateBase):
        kept: Mapping[str, Any] = vars(part)
        yield from (hint.lower() for hint in kept.get("_hints", {}).values())
        yield from (hint.lower() for _, hint in kept.get("_statement_hints", ()))


def _inside(element: ClauseElement) -> Iterator[ClauseElement]:
    """Yield an element and all that it is made of."""
    for part in visitors.iterate(element):
        if isinstance(part, ClauseElement):
            yield part
            if isinstance(part, HasPrefixes):
                for left_out in _left_out(part):
                    yield from _inside(left_out)


def _left_out(part: HasPrefixes) -> Iterator[ClauseElement]:
    """Yield what SQLAlchemy's own walk passes by: pieces of text, and rows of an INSERT.

    It has no accessor for them; tests/test_scope.py fails when a release renames them.
    """
    kept: Mapping[str, Any] = vars(part)
    yield from (piece for piece, _ in (*kept.get("_prefixes", ()), *kept.get("_suffixes", ())))
    rows: list[Any] = [row for given in kept.get("_multi_values", ()) for row in given]
    for row in rows:
        for value in row.values() if hasattr(row, "values") else row:
            clause = value.__clause_element__() if hasattr(value, "__clause_element__") else value
            if isinstance(clause, ClauseElement):
                yield clause


def _names(parts: Iterable[ClauseElement], *, mapped: bool | None = None) -> set[str]:
    """Return the tables of ``parts`` that are used with their entity, or without; ``None``: all."""
    names: set[str] = set()
    for part in parts:
        if isinstance(part, Table | Column):
            used = cast("Table | Column[Any]", part)
            names.update(_sources(used) if mapped in {None, _is_mapped(used)} else ())
    return names


def _all_tables(statement: ClauseElement) -> set[str]:
    return _names(_inside(statement))


def _bare_tables(statement: ClauseElement, parts: Sequence[ClauseElement]) -> set[str]:
    """Return the tables that a statement, or a statement inside it, reads without their mapping."""
    if not _has_mapping(statement):
        return _names(parts)
    bare: set[str] = set()
    for part in parts:
        if not isinstance(part, Select):
            continue
        select = cast("Select[Any]", part)
        if not _has_mapping(select):
            bare |= _all_tables(select)
            continue
        direct = list(_direct_parts(select))
        bare |= _union(direct, mapped=False) - _union(direct, mapped=True)
        where = select.whereclause
        if where is not None and (names := _tables(where, mapped=False)):
            bare |= names - _names(parts, mapped=True)
    return bare


def _direct_parts(select: Select[Any]) -> Iterator[ClauseElement]:
    """Yield the columns, FROM elements and join targets as they were written.

    SQLAlchemy keeps them in private attributes and has no public accessor that does not compile
    the statement; tests/test_scope.py fails when a release renames them.
    """
    kept = cast("Any", select)
    joined = (target for target, *_ in kept._setup_joins)  # noqa: SLF001 - see above
    for part in (*kept._raw_columns, *kept._from_obj, *joined):  # noqa: SLF001 - see above
        if isinstance(part, ClauseElement):
            yield part


def _has_mapping(statement: ClauseElement) -> bool:
    # Where SQLAlchemy keeps whether a statement was written on entities.
    plugins = cast("Any", statement)._propagate_attrs  # noqa: SLF001 - see above
    return plugins.get("compile_state_plugin") == "orm"


def _is_mapped(part: ClauseElement) -> bool:
    # How the ORM marks the elements that it made from an entity.
    return "parententity" in cast("Any", part)._annotations  # noqa: SLF001 - see above


def _union(parts: Iterable[ClauseElement], *, mapped: bool) -> set[str]:
    return {name for part in parts for name in _tables(part, mapped=mapped)}


def _tables(element: ClauseElement, *, mapped: bool) -> set[str]:
    """Return the tables under ``element`` that are used with (or without) their entity."""
    if _is_mapped(element) and not mapped:
        return set()  # an alias of an entity wraps the bare table
    return _names(_inside(element), mapped=mapped)


def _sources(part: Table | Column[Any]) -> Iterator[str]:
    """Name the table of a column, also through an alias."""
    tables = [part] if isinstance(part, Table) else [column.table for column in part.base_columns]
    for table in tables:
        if isinstance(table, Table):
            yield table.name


def _no_scope(table: str) -> str:
    return (
        f"a query on {table} without a caller: declare requires(...) or public() on the route, "
        "pass a principal to database.read()/write(), or use `async with work.as_system('why'):`"
    )


def _entities() -> list[type[Entity]]:
    return [
        mapper.class_ for mapper in Entity.registry.mappers if issubclass(mapper.class_, Entity)
    ]


@cache
def _is_guarded(entity: type[Entity]) -> bool:
    return any("visible_to" in cls.__dict__ for cls in entity.__mro__ if cls is not Entity)


def _guarded_entities() -> list[type[Entity]]:
    return [entity for entity in _entities() if _is_guarded(entity)]


def _guarded_tables() -> set[str]:
    return {entity.__tablename__ for entity in _guarded_entities()}


def _live_rows() -> Iterator[LoaderCriteriaOption]:
    for entity in _entities():
        if issubclass(entity, SoftDeleted):
            yield _option(entity, entity.deleted_at.is_(None))


def _criteria(caller: Principal, changed: Sequence[type[Entity]]) -> Iterator[LoaderCriteriaOption]:
    """Yield what ``caller`` sees of each entity; of those that are changed, what may be changed."""
    for entity in _guarded_entities():
        if (seen := entity.visible_to(caller)) is not None:
            yield _option(entity, seen)
        own = entity.changeable_by(caller) if entity in changed else None
        if own is not None and (seen is None or not own.compare(seen)):
            yield _option(entity, own)


def _changed(state: ORMExecuteState) -> Sequence[type[Entity]]:
    """Return the entity that an UPDATE or DELETE changes, with those that it inherits from."""
    mapper = None if state.is_select else state.bind_mapper
    return () if mapper is None else mapper.class_.__mro__


def _option(entity: type[Entity], predicate: ColumnElement[bool]) -> LoaderCriteriaOption:
    return with_loader_criteria(entity, predicate, include_aliases=True, propagate_to_loaders=True)
