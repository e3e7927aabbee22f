"""Who sees what: adds an entity's ``visible_to`` to every query of a session that carries a caller.

A session has a ``Scope`` in ``session.info``: the caller, or the reason why the system may see
everything. Two events enforce it. ``do_orm_execute`` adds the predicates to every SELECT, UPDATE
and DELETE, in sub-queries, joins, relationship loads, ``get``, counts and aggregates too, and raises
``UnscopedQuery`` for what it cannot guard. ``before_flush`` refuses to write foreign rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, TextClause, event
from sqlalchemy.orm import (
    FromStatement,
    ORMExecuteState,
    Session,
    UOWTransaction,
    with_loader_criteria,
)
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from newel.entity import Entity, SoftDeleted
from newel.errors import Forbidden
from newel.principal import Principal

__all__ = ["Scope", "ScopedSession", "UnscopedQuery"]

_KEY = "newel_scope"


class UnscopedQuery(RuntimeError):
    """A statement on a guarded entity that no scope can be put on: a mistake in the code, not input.

    Guarded is every entity with ``visible_to`` predicates (``Owned``, ``Tenanted``, policies).
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a session may see: ``caller``'s rows, or everything for ``system_reason``."""

    caller: Principal | None = None
    system_reason: str | None = None


class ScopedSession(Session):
    """A SQLAlchemy ``Session`` that refuses and filters by its ``Scope``. Nothing else differs."""

    @property
    def scope(self) -> Scope | None:
        return self.info.get(_KEY)

    @scope.setter
    def scope(self, value: Scope | None) -> None:
        self.info[_KEY] = value


@event.listens_for(ScopedSession, "do_orm_execute")
def _filter(state: ORMExecuteState) -> None:
    scope = state.session.info.get(_KEY)
    if state.is_column_load or state.is_relationship_load:
        return  # filtered by the statement that loaded the parent: the options propagate
    options = [] if state.execution_options.get("include_deleted") else list(_live_rows())
    if scope is None or scope.system_reason is None:
        _refuse_unguardable(state, scope)
        if scope is not None:
            options.extend(_criteria(scope.caller, reading=state.is_select))
    if options and state.is_orm_statement:
        state.statement = state.statement.options(*options)


@event.listens_for(ScopedSession, "before_flush")
def _refuse_foreign_rows(
    session: Session, _context: UOWTransaction, _instances: Sequence[object] | None
) -> None:
    scope = session.info.get(_KEY)
    if scope is not None and scope.system_reason is not None:
        return
    for entity in (*session.new, *session.dirty, *session.deleted):
        if not isinstance(entity, Entity) or not _is_guarded(type(entity)):
            continue
        if scope is None:
            raise UnscopedQuery(_no_scope(type(entity).__tablename__))
        if not entity.is_changeable_by(scope.caller):
            raise Forbidden(f"This {entity.resource_name()} belongs to somebody else.")


def _refuse_unguardable(state: ORMExecuteState, scope: Scope | None) -> None:
    """Raise for what loader criteria do not reach: text, INSERT, and tables named without entity."""
    statement = state.statement
    if isinstance(statement, TextClause | FromStatement):
        raise UnscopedQuery(
            "raw SQL cannot be scoped: wrap it in `async with work.as_system('why'):`"
        )
    guarded = _guarded_tables().keys()
    if scope is None and (names := _all_tables(statement) & guarded):
        raise UnscopedQuery(_no_scope(min(names)))
    if state.is_insert and (names := _all_tables(statement) & guarded):
        raise UnscopedQuery(f"INSERT into {min(names)} cannot be scoped: add entities instead")
    if names := _bare_tables(statement) & guarded:
        raise UnscopedQuery(
            f"the table {min(names)} is used without its entity and cannot be scoped: "
            "write the statement with the mapped class"
        )


def _all_tables(statement: ClauseElement) -> set[str]:
    return _tables(statement, mapped=True) | _tables(statement, mapped=False)


def _bare_tables(statement: ClauseElement) -> set[str]:
    """Return the tables that a statement, or a statement inside it, reads without their mapping."""
    if not isinstance(statement, Select) and not _has_mapping(statement):
        return _all_tables(statement)
    everywhere = _tables(statement, mapped=True)
    bare: set[str] = set()
    for part in visitors.iterate(statement):
        if not isinstance(part, Select):
            continue
        if not _has_mapping(part):
            bare |= _all_tables(part)
            continue
        direct = list(_direct_parts(part))
        bare |= _union(direct, mapped=False) - _union(direct, mapped=True)
        if part.whereclause is not None:
            bare |= _tables(part.whereclause, mapped=False) - everywhere
    return bare


def _direct_parts(select: Select[Any]) -> Iterator[ClauseElement]:
    """Yield the columns, FROM elements and join targets as they were written.

    SQLAlchemy keeps them in private attributes and has no public accessor that does not compile
    the statement; tests/test_scope.py fails when a release renames them.
    """
    joined = (target for target, *_ in select._setup_joins)  # noqa: SLF001 - see above
    for part in (*select._raw_columns, *select._from_obj, *joined):  # noqa: SLF001 - see above
        if isinstance(part, ClauseElement):
            yield part


def _has_mapping(statement: ClauseElement) -> bool:
    plugins = statement._propagate_attrs  # noqa: SLF001 - where SQLAlchemy says "this is ORM"
    return plugins.get("compile_state_plugin") == "orm"


def _is_mapped(part: ClauseElement) -> bool:
    return "parententity" in part._annotations  # noqa: SLF001 - how the ORM marks its elements


def _union(parts: Iterable[ClauseElement], *, mapped: bool) -> set[str]:
    return {name for part in parts for name in _tables(part, mapped=mapped)}


def _tables(element: ClauseElement, *, mapped: bool) -> set[str]:
    """Return the tables under ``element`` that are used with (or without) their entity."""
    if _is_mapped(element) and not mapped:
        return set()  # an alias of an entity wraps the bare table
    names: set[str] = set()
    for part in visitors.iterate(element):
        if isinstance(part, Table | Column) and _is_mapped(part) == mapped:
            sources = [part] if isinstance(part, Table) else [c.table for c in part.base_columns]
            names.update(source.name for source in sources if isinstance(source, Table))
    return names


def _no_scope(table: str) -> str:
    return (
        f"a query on {table} without a caller: declare requires(...) or public() on the route, "
        "pass a principal to database.read()/write(), or use `async with work.as_system('why'):`"
    )


def _entities() -> list[type[Entity]]:
    return [
        mapper.class_ for mapper in Entity.registry.mappers if issubclass(mapper.class_, Entity)
    ]


def _is_guarded(entity: type[Entity]) -> bool:
    return entity.visible_to.__func__ is not Entity.visible_to.__func__  # type: ignore[attr-defined]


def _guarded_tables() -> dict[str, type[Entity]]:
    return {entity.__tablename__: entity for entity in _entities() if _is_guarded(entity)}


def _live_rows() -> Iterator[LoaderCriteriaOption]:
    for entity in _entities():
        if issubclass(entity, SoftDeleted):
            yield _option(entity, entity.deleted_at.is_(None))


def _criteria(caller: Principal | None, *, reading: bool) -> Iterator[LoaderCriteriaOption]:
    for entity in _guarded_tables().values():
        predicate = entity.visible_to(caller) if reading else entity.changeable_by(caller)
        if predicate is not None:
            yield _option(entity, predicate)


def _option(entity: type[Entity], predicate: ColumnElement[bool]) -> LoaderCriteriaOption:
    return with_loader_criteria(entity, predicate, include_aliases=True, propagate_to_loaders=True)
