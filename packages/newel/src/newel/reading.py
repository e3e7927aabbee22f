"""Rows instead of entities, for what is only shown: straight from columns into a read model.

    async def get(self, caller: Principal, agent_id: UUID) -> AgentRead:
        return await self.agents.reading(AgentRead).get(agent_id)

A page and its total are one statement. The caller sees what ``Repository`` would find; the values
cannot be changed by mistake, because there is no entity whose change would be written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, select
from sqlalchemy.orm import InstrumentedAttribute

from newel.db import Work
from newel.entity import Entity
from newel.errors import NotFound
from newel.pages import PageQuery, Slice

__all__ = ["Reader", "column_of", "order_by"]

M = TypeVar("M", bound=BaseModel)

_Predicates = Sequence[ColumnElement[bool]]
_Build = Callable[[_Predicates], Select[*tuple[Any, ...]]]


class Reader(Generic[M]):
    """Reads one kind of entity as ``model``, whose fields are columns of it.

    Raises ``TypeError`` when a field is none: a mistake in the code.
    """

    def __init__(self, work: Work, entity: type[Entity], model: type[M]) -> None:
        self._work = work
        self._entity = entity
        self._model = model

    async def find(self, id: UUID) -> M | None:
        """Return the row the caller may see, or ``None``."""
        rows = await self._rows("find", self._by_id, {"id": id})
        return self._models(rows)[0] if rows else None

    async def get(self, id: UUID) -> M:
        """Return the row the caller may see; raises ``NotFound``."""
        found = await self.find(id)
        if found is None:
            raise NotFound(self._entity.resource_name(), id)
        return found

    async def page(self, query: PageQuery) -> Slice[M]:
        """Return one page by number: filtered, sorted (ties by id), with the total of all pages."""
        filters = query.filters()
        paging = {"page_limit": query.page_size, "page_offset": query.offset}
        values = {f"filter_{name}": value for name, value in filters.items()}
        shape = ("page", query.order, *filters)
        rows = await self._rows(shape, self._page(query.order, filters), {**values, **paging})
        if rows:
            total = rows[0][-1]
        else:  # beyond the last page: there is no row that could bear the total
            counted = await self._rows(("count", *filters), self._count(filters), values)
            total = counted[0][0]
        return Slice(
            items=self._models(rows), total=total, page=query.page, page_size=query.page_size
        )

    def _by_id(self, predicates: _Predicates) -> Select[*tuple[Any, ...]]:
        return select(*self._columns()).where(self._entity.id == bindparam("id"), *predicates)

    def _page(self, order: str, filters: Mapping[str, Any]) -> _Build:
        def build(predicates: _Predicates) -> Select[*tuple[Any, ...]]:
            conditions = (*predicates, *self._conditions(filters))
            total = self._count(filters)(predicates).correlate(None).scalar_subquery()
            return (
                select(*self._columns(), total)
                .where(*conditions)
                .order_by(*order_by(self._entity, order))
                .limit(bindparam("page_limit", type_=Integer))
                .offset(bindparam("page_offset", type_=Integer))
            )

        return build

    def _count(self, filters: Mapping[str, Any]) -> _Build:
        def build(predicates: _Predicates) -> Select[*tuple[Any, ...]]:
            counted = select(func.count()).select_from(self._entity)
            return counted.where(*predicates, *self._conditions(filters))

        return build

    def _conditions(self, filters: Mapping[str, Any]) -> Iterator[ColumnElement[bool]]:
        for name in filters:
            column = column_of(self._entity, name)
            yield column == bindparam(f"filter_{name}", type_=column.type)

    def _columns(self) -> list[InstrumentedAttribute[Any]]:
        return [column_of(self._entity, name) for name in self._model.model_fields]

    async def _rows(
        self, shape: Hashable, build: _Build, values: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        statement, scope = self._work.database.statements.scoped(
            self._entity, self._work.scope, (self._model, shape), build
        )
        return await self._work.rows(statement, {**scope, **values})

    def _models(self, rows: Sequence[Sequence[Any]]) -> list[M]:
        names = tuple(self._model.model_fields)
        validate = self._model.__pydantic_validator__.validate_python
        # A page's row has one column more, its total.
        return [validate(dict(zip(names, row, strict=False)), by_name=True) for row in rows]


def column_of(entity: type[Entity], name: str) -> InstrumentedAttribute[Any]:
    """Return the attribute of an entity's column; raises ``TypeError`` when it has none."""
    attribute: InstrumentedAttribute[Any] | None = getattr(entity, name, None)
    if attribute is None or name not in entity.__table__.columns:
        raise TypeError(f"{entity.__name__} has no column {name}: read entities instead of rows")
    return attribute


def order_by(entity: type[Entity], sort: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return ``ORDER BY`` for ``name`` or ``-name``; ties are broken by id."""
    column = column_of(entity, sort.removeprefix("-"))
    if sort.startswith("-"):
        return column.desc(), entity.id.desc()
    return column.asc(), entity.id.asc()
