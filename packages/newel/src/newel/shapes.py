"""What is known of an entity that is the columns of one table: its columns, and its statements.

A plain entity is nothing else, and nobody listens to what becomes of it: ``rows`` reads and writes
it by constant statements. Every other is the session's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from sqlalchemy import Column, Insert, Table, Update, bindparam, insert, inspect, update
from sqlalchemy.orm import ColumnProperty, Mapper

from newel.entity import Entity

__all__ = ["ID", "SEEN", "Shape", "column_names", "is_plain", "shape_of"]

_MAPPER_EVENTS: Final = ("before_insert", "after_insert", "before_update", "after_update")
_INSTANCE_EVENTS: Final = ("load", "refresh", "refresh_flush")


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a plain entity: its columns, and its statements."""

    mapper: Mapper[Any]
    names: tuple[str, ...]
    defaults: Mapping[str, Any]
    """What columns of a new row are when nobody says."""
    stamps: Mapping[str, Any]
    """What columns become by an UPDATE when nobody says."""
    particular: frozenset[str]
    """Columns for which None is something else than NULL: their default, or the null of JSON."""
    insert: Insert
    update: Update


ID: Final = "newel_id"
SEEN: Final = "newel_version"
"""Parameters of the UPDATE: which row it writes, and the version that was read."""


def is_plain(kind: type[Entity]) -> bool:
    """Tell whether an entity is the columns of one table, and nobody listens to what becomes of it.

    Not plain are relationships, inheritance, expressions and deferred columns, and values that the
    database makes (server defaults, sequences): they are the session's.
    """
    shape = _known_shape(kind)
    if shape is None:
        return False
    mapper: Any = shape.mapper
    listened = [getattr(mapper.dispatch, name) for name in _MAPPER_EVENTS]
    listened += [getattr(mapper.class_manager.dispatch, name) for name in _INSTANCE_EVENTS]
    return not any(listened)


def column_names(kind: type[Entity]) -> Sequence[str]:
    """Return the columns of a plain entity, in the order in which ``Rows.find`` takes them."""
    return shape_of(kind).names


def shape_of(kind: type[Entity]) -> Shape:
    """Return the shape of a plain entity."""
    shape = _known_shape(kind)
    assert shape is not None  # noqa: S101 - `is_plain` was asked before
    return shape


@cache
def _known_shape(kind: type[Entity]) -> Shape | None:
    mapper: Mapper[Any] = inspect(kind)
    table = cast("Table[Any]", mapper.local_table)
    if not _is_one_table(mapper):
        return None
    columns = _plain_columns(mapper)
    if columns is None or set(columns) != set(table.columns.keys()):
        return None
    # SQLAlchemy has no public word for defaults that only the mapped class knows;
    # test_shapes.py fails when this one is renamed.
    if cast("Any", mapper)._insert_orm_defaults[table]:  # noqa: SLF001 - see above
        return None
    defaults = {
        name: column.default for name, column in columns.items() if column.default is not None
    }
    stamps = {
        name: column.onupdate for name, column in columns.items() if column.onupdate is not None
    }
    evaluated = frozenset(n for n, column in columns.items() if column.type.should_evaluate_none)
    return Shape(
        mapper=mapper,
        names=tuple(columns),
        defaults=defaults,
        stamps=stamps,
        particular=evaluated.union(defaults),
        insert=insert(table),
        update=update(table).where(table.c.id == bindparam(ID), table.c.version == bindparam(SEEN)),
    )


def _is_one_table(mapper: Mapper[Any]) -> bool:
    return (
        isinstance(mapper.local_table, Table)
        and mapper.inherits is None
        and len(mapper.self_and_descendants) == 1
        and mapper.polymorphic_on is None
        and not mapper.relationships
        and not mapper.composites
        and [column.name for column in mapper.primary_key] == ["id"]
        and getattr(mapper.version_id_col, "name", None) == "version"
        and callable(mapper.version_id_generator)
        and mapper.eager_defaults is not True
    )


def _plain_columns(mapper: Mapper[Any]) -> dict[str, Column[Any]] | None:
    """Return the columns of an entity by name; ``None`` when one is more than a value."""
    found: dict[str, Column[Any]] = {}
    for attribute in mapper.column_attrs:
        column = attribute.columns[0]
        if not isinstance(column, Column) or not _is_plain_column(attribute, column):
            return None
        found[column.name] = column
    return found


def _is_plain_column(attribute: ColumnProperty[Any], column: Column[Any]) -> bool:
    made_here = all(map(_is_made_here, (column.default, column.onupdate)))
    made_there = (column.server_default, column.server_onupdate, column.computed, column.identity)
    return (
        made_here
        and not any(made is not None for made in made_there)
        and len(attribute.columns) == 1
        and not attribute.deferred
        and attribute.key == column.key == column.name
    )


def _is_made_here(default: Any) -> bool:
    """Tell whether a default is a value, or a function that does not ask for the statement."""
    if default is None or default.is_scalar:
        return True
    return default.is_callable and not default.compare_argument(default.arg)
