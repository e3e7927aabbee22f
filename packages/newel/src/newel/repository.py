"""Repositories: the SQL of one entity, always inside the caller's scope.

    class AgentRepository(Repository[Agent]):
        entity = Agent

A statement goes in, rows come out: pass your own ``select(Agent).where(...)`` to ``page``. Rows of
others are not found; there is no way here to see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json, to_json
from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    and_,
    bindparam,
    func,
    inspect,
    literal,
    or_,
    select,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.orm.interfaces import ORMOption

from newel.clock import utc_now
from newel.db import CurrentWork, Work
from newel.entity import Entity, SoftDeleted
from newel.errors import BadRequest, Forbidden, NotFound, StaleVersion
from newel.pages import CursorQuery, KeysetSlice, PageQuery, Slice
from newel.reading import Reader, column_of, order_by
from newel.rows import Rows
from newel.scope import SCOPED, refuse_foreign
from newel.shapes import column_names
from newel.tokens import Signer

__all__ = ["Repository"]

E = TypeVar("E", bound=Entity)
M = TypeVar("M", bound=BaseModel)


class Repository(Generic[E]):
    """Reads and writes one kind of entity in the current unit of work.

    Every method flushes what it changes, so ``Duplicate`` and ``StaleVersion`` are raised by the
    line that causes them. They end the unit of work: to go on after one, wrap the call in
    SQLAlchemy's ``async with work.session.begin_nested():``. Nothing here commits.
    """

    entity: type[E]

    def __init__(self, work: CurrentWork) -> None:
        self.work: Work = work

    @property
    def session(self) -> AsyncSession:
        """SQLAlchemy's session of the unit of work."""
        return self.work.session

    def reading(self, model: type[M]) -> Reader[M]:
        """Return what reads rows as ``model`` instead of entities: for what is only shown."""
        return Reader(self.work, self.entity, model)

    def select(self, *options: ORMOption) -> Select[E]:
        """Return a SELECT of the entity to refine; ``options`` are SQLAlchemy's loading options."""
        return select(self.entity).options(*options)

    async def find(self, id: UUID, *options: ORMOption) -> E | None:
        """Return the row the caller may see, or ``None``."""
        if options or _joins(self.entity):
            by_id = select(self.entity).options(*options).where(self.entity.id == id)
            return await self.session.scalar(by_id)
        plain, statements = self.work.plain(self.entity), self.work.database.statements
        if plain is not None:
            row, scope = statements.scoped(self.entity, self.work.scope, "row", self._row_by_id)
            return await plain.find(self.entity, id, row, {**scope, "id": id})
        statement, scope = statements.scoped(self.entity, self.work.scope, "find", self._by_id)
        values = {**scope, "id": id}
        return await self.session.scalar(statement, values, execution_options=SCOPED)

    async def get(self, id: UUID, *options: ORMOption) -> E:
        """Return the row the caller may see; raises ``NotFound``."""
        found = await self.find(id, *options)
        if found is None:
            raise NotFound(self.entity.resource_name(), id)
        return found

    async def get_changeable(self, id: UUID, *options: ORMOption) -> E:
        """Return the row if the caller may change it; raises ``NotFound`` or ``Forbidden``.

        For a change that is looked at before it is made: whoever may not make it is told so, and
        not what else would be wrong with it.
        """
        found = await self.get(id, *options)
        self._refuse_foreign(found)
        return found

    async def page(self, query: PageQuery, statement: Select[E] | None = None) -> Slice[E]:
        """Return one page by number: filtered, sorted (ties by id), with the total of all pages."""
        filtered = self._filtered(statement, query.filters())
        total = await self.session.scalar(
            select(func.count()).select_from(filtered.order_by(None).subquery())
        )
        rows = filtered.order_by(*order_by(self.entity, query.order)).offset(query.offset)
        found = await self.session.scalars(rows.limit(query.page_size))
        return Slice(
            items=found.unique().all(), total=total or 0, page=query.page, page_size=query.page_size
        )

    async def keyset(
        self, query: CursorQuery, signer: Signer, statement: Select[E] | None = None
    ) -> KeysetSlice[E]:
        """Return one page by cursor: no total, and no row twice while others are added.

        Raises ``TypeError`` when the column that it is sorted by may be null.
        """
        column = _keyset_column(self.entity, query.order.removeprefix("-"))
        descending = query.order.startswith("-")
        rows = self._filtered(statement, query.filters())
        if query.cursor is not None:
            value, last_id = _read_cursor(query.cursor, column, signer, query.order)
            rows = rows.where(_after(column, self.entity.id, value, last_id, descending=descending))
        rows = rows.order_by(*order_by(self.entity, query.order)).limit(query.page_size + 1)
        found = (await self.session.scalars(rows)).unique().all()
        items = found[: query.page_size]
        cursor = None
        if len(found) > query.page_size:
            cursor = _write_cursor(items[-1], column, signer, query.order)
        return KeysetSlice(items=items, next_cursor=cursor)

    async def add(self, entity: E) -> E:
        """Insert a row; raises ``Duplicate`` when a unique value is taken."""
        plain = self.work.plain(self.entity)
        if plain is not None:
            refuse_foreign(entity, self.work.scope)
        if plain is None or not await plain.insert(entity):
            self.session.add(entity)
            await self.work.flush_entities()
        self.work.note_changed(entity)
        return entity

    async def update(self, entity: E, changes: Mapping[str, Any]) -> E:
        """Change attributes of a row; raises ``Forbidden``, ``Duplicate`` or ``StaleVersion``."""
        self._refuse_foreign(entity)
        plain = self.work.plain(self.entity)  # before the change, by which it is no longer clean
        self._refuse_unknown(entity, plain)
        for name, value in changes.items():
            setattr(entity, name, value)
        await self._write(entity, plain)
        return entity

    async def delete(self, entity: E) -> None:
        """Delete a row, or hide it when the entity is ``SoftDeleted``."""
        self._refuse_foreign(entity)
        plain = self.work.plain(self.entity)
        if isinstance(entity, SoftDeleted):
            self._refuse_unknown(entity, plain)
            entity.deleted_at = utc_now()
        else:
            plain = None
            await self.session.delete(entity)
        await self._write(entity, plain)

    async def _write(self, entity: E, plain: Rows | None) -> None:
        """Send what has changed: as a row where that is enough, else all that the session has."""
        try:
            if plain is not None:
                refuse_foreign(entity, self.work.scope)
            if plain is None or not await plain.update(entity):
                await self.work.flush_entities()
        except StaleDataError as error:
            raise StaleVersion from error
        self.work.note_changed(entity)

    def _refuse_unknown(self, entity: E, plain: Rows | None) -> None:
        """Refuse what no unit, or another one, has read: nobody would write what it becomes."""
        is_known = entity in self.session if plain is None else plain.knows(entity)
        if not is_known and not inspect(entity).was_deleted:
            name = self.entity.resource_name()
            raise InvalidRequestError(
                f"this {name} is not of this unit of work: read it in this unit, then change it"
            )

    def _refuse_foreign(self, entity: E) -> None:
        caller = self.work.caller
        if caller is not None and not entity.is_changeable_by(caller):
            raise Forbidden(f"This {entity.resource_name()} belongs to somebody else.")

    def _by_id(self, predicates: Sequence[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
        return select(self.entity).where(self.entity.id == bindparam("id"), *predicates)

    def _row_by_id(self, predicates: Sequence[ColumnElement[bool]]) -> Select[*tuple[Any, ...]]:
        columns = (column_of(self.entity, name) for name in column_names(self.entity))
        return select(*columns).where(self.entity.id == bindparam("id"), *predicates)

    def _filtered(self, statement: Select[E] | None, filters: Mapping[str, Any]) -> Select[E]:
        rows = self.select() if statement is None else statement
        return rows.where(
            *(column_of(self.entity, name) == value for name, value in filters.items())
        )


@cache
def _joins(entity: type[Entity]) -> bool:
    """Tell whether a SELECT of the entity has others in it, which need predicates of their own."""
    mapper = inspect(entity)
    columns = (column for attribute in mapper.column_attrs for column in attribute.columns)
    return any(found.lazy in {"joined", False} for found in mapper.relationships) or not all(
        isinstance(column, Column) for column in columns
    )


def _keyset_column(entity: type[Entity], name: str) -> InstrumentedAttribute[Any]:
    """Return what a page is sorted by: in its order every row has to be behind or before another.

    Null is neither, and the databases disagree about where it is.
    """
    column = column_of(entity, name)
    if entity.__table__.c[name].nullable:
        raise TypeError(
            f"{entity.__name__}.{name} may be null, and a page by cursor would leave out such rows:"
            " make the column NOT NULL, or page by number"
        )
    return column


def _after(
    column: InstrumentedAttribute[Any],
    key: InstrumentedAttribute[UUID],
    value: Any,
    last_id: UUID,
    *,
    descending: bool,
) -> ColumnElement[bool]:
    """Rows behind (value, id) in the order of the page."""
    last = literal(value, column.type)  # as a parameter: no `<` takes True or False themselves
    beyond = column < last if descending else column > last
    tie = key < last_id if descending else key > last_id
    return or_(beyond, and_(column == last, tie))


def _write_cursor(
    entity: Entity, column: InstrumentedAttribute[Any], signer: Signer, order: str
) -> str:
    position = [order, getattr(entity, column.key), entity.id]
    return signer.sign(to_json(position))


def _read_cursor(
    cursor: str, column: InstrumentedAttribute[Any], signer: Signer, order: str
) -> tuple[Any, UUID]:
    try:
        signed_order, value, last_id = from_json(signer.read(cursor))
    except ValueError as error:
        raise BadRequest("The cursor is not one of ours; start without it.") from error
    if signed_order != order:
        raise BadRequest("The cursor belongs to another order; start without it.")
    kind: TypeAdapter[Any] = TypeAdapter(column.type.python_type)
    return kind.validate_python(value), UUID(last_id)
