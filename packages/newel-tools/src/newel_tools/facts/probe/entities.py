"""Entities: what SQLAlchemy (SQLModel too) and Tortoise have mapped to tables."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from typing import Any

from .places import Places, class_of, plain, type_name

__all__ = ["sqlalchemy_entities", "tortoise_entities"]

_IMPORT_SECONDS = 600


def sqlalchemy_entities(places: Places) -> Iterator[dict[str, Any]]:
    """Yield every mapped class; nothing if SQLAlchemy's mapper was not imported."""
    orm: Any = sys.modules.get("sqlalchemy.orm")
    if orm is None:
        return
    orm.configure_mappers()
    mappers = [mapper for registry in _registries() for mapper in registry.mappers]
    for mapper in sorted(mappers, key=lambda mapper: type_name(mapper.class_)):
        if mapper.local_table is not None and hasattr(mapper.local_table, "columns"):
            yield _mapped(mapper, places)


def _registries() -> Iterator[Any]:
    mapper_module: Any = sys.modules["sqlalchemy.orm.mapper"]
    listed = getattr(mapper_module, "_all_registries", None)
    if listed is not None:
        yield from listed()
        return
    registry = sys.modules["sqlalchemy.orm"].registry
    seen: dict[int, Any] = {}
    for module in list(sys.modules.values()):
        for value in list(vars(module).values()):
            owned = getattr(value, "registry", None) if isinstance(value, type) else value
            if isinstance(owned, registry):
                seen[id(owned)] = owned
    yield from seen.values()


def _mapped(mapper: Any, places: Places) -> dict[str, Any]:
    table = mapper.local_table
    attributes: dict[Any, str] = {}
    for attribute in mapper.column_attrs:
        for column in attribute.columns:
            attributes[column] = attribute.key
    columns = [
        _column(column, attributes.get(column) or column.key)
        for column in table.columns
        if not getattr(column, "_omit_from_statements", False)
    ]
    return places.of(mapper.class_) | {
        "orm": "sqlalchemy",
        "table": table.name,
        "schema_name": getattr(table, "schema", None),
        "columns": columns,
        "unique": [list(columns) for columns in _unique(table)],
        "indexes": [
            {"columns": [column.name for column in index.columns], "unique": bool(index.unique)}
            for index in getattr(table, "indexes", ())
        ],
        "relationships": [_relationship(item) for item in mapper.relationships],
        "version_column": getattr(mapper.version_id_col, "name", None),
    }


def _unique(table: Any) -> Iterator[list[str]]:
    for constraint in getattr(table, "constraints", ()):
        if type(constraint).__name__ == "UniqueConstraint":
            yield [column.name for column in constraint.columns]


def _column(column: Any, attribute: str) -> dict[str, Any]:
    kind = column.type
    kind = getattr(kind, "impl", kind) if _is_decorator(kind) else kind
    return {
        "name": column.name,
        "attribute": attribute,
        "type": type(kind).__name__,
        "decorated": type_name(class_of(column.type)) if kind is not column.type else None,
        "python_type": _python_type(kind),
        "length": plain(getattr(kind, "length", None)),
        "precision": plain(getattr(kind, "precision", None)),
        "scale": plain(getattr(kind, "scale", None)),
        "timezone": plain(getattr(kind, "timezone", None)),
        "values": plain(getattr(kind, "enums", None)),
        "none_as_null": bool(getattr(kind, "none_as_null", False)),
        "nullable": bool(column.nullable),
        "primary_key": bool(column.primary_key),
        "unique": bool(column.unique),
        "index": bool(column.index),
        "default": _default(column.default),
        "onupdate": _default(column.onupdate),
        "server_default": column.server_default is not None,
        "computed": bool(getattr(column, "computed", None) or getattr(column, "identity", None)),
        "references": [
            {"target": key.target_fullname, "on_delete": key.ondelete}
            for key in column.foreign_keys
        ],
    }


def _is_decorator(kind: Any) -> bool:
    return any(base.__name__ == "TypeDecorator" for base in type(kind).__mro__)


def _python_type(kind: Any) -> str | None:
    try:
        return type_name(kind.python_type)
    except (NotImplementedError, AttributeError):
        return None


def _default(default: Any) -> dict[str, Any] | None:
    if default is None:
        return None
    value = getattr(default, "arg", None)
    kinds = ("is_callable", "is_scalar", "is_clause_element", "is_sequence")
    kind = next((name[3:] for name in kinds if getattr(default, name, False)), "other")
    described: dict[str, Any] = {"kind": kind}
    if kind == "scalar":
        described["value"] = plain(value)
        described["moment"] = _is_now(value)
    elif kind == "callable":
        # SQLAlchemy wraps a callable that takes no context.
        inner = getattr(value, "__wrapped__", value)
        described["value"] = type_name(inner) if hasattr(inner, "__qualname__") else None
    return described


def _is_now(value: Any) -> bool:
    """Tell whether a value is the time of the import: nobody wrote it down."""
    if isinstance(value, dt.datetime):
        moments = [dt.datetime.now(value.tzinfo)]
        if value.tzinfo is None:
            moments.append(dt.datetime.now(dt.timezone.utc).replace(tzinfo=None))
        return any(abs((now - value).total_seconds()) < _IMPORT_SECONDS for now in moments)
    today = dt.datetime.now(dt.timezone.utc).date()
    return isinstance(value, dt.date) and abs((today - value).days) <= 1


def _relationship(item: Any) -> dict[str, Any]:
    return {
        "name": item.key,
        "target": type_name(item.mapper.class_),
        "lazy": str(item.lazy),
        "many": bool(item.uselist),
        "direction": item.direction.name,
        "cascade": sorted(item.cascade),
        "view_only": bool(item.viewonly),
        "secondary": None if item.secondary is None else str(item.secondary),
        "columns": sorted(column.key for column in item.local_columns),
    }


def tortoise_entities(places: Places) -> Iterator[dict[str, Any]]:
    """Yield every Tortoise model that was imported; nothing without Tortoise."""
    models: Any = sys.modules.get("tortoise.models")
    if models is None:
        return
    pending = list(models.Model.__subclasses__())
    seen: set[int] = set()
    while pending:
        model = pending.pop(0)
        pending += model.__subclasses__()
        if id(model) in seen or getattr(model._meta, "abstract", False):  # noqa: SLF001 - Tortoise's documented name
            continue
        seen.add(id(model))
        yield _tortoise(model, places)


def _tortoise(model: Any, places: Places) -> dict[str, Any]:
    meta = model._meta  # noqa: SLF001 - Tortoise's documented name
    fields: list[tuple[str, Any]] = list(meta.fields_map.items())
    stored = [
        (name, field) for name, field in fields if not type(field).__name__.startswith("Backward")
    ]
    together = getattr(meta, "unique_together", None) or ()
    return places.of(model) | {
        "orm": "tortoise",
        "table": getattr(meta, "db_table", None) or model.__name__.lower(),
        "schema_name": getattr(meta, "schema", None),
        "columns": [
            _tortoise_column(name, field)
            for name, field in stored
            if "ManyToMany" not in type(field).__name__
        ],
        "unique": [list(names) for names in together if not isinstance(names, str)],
        "indexes": [],
        "relationships": [
            {"name": name, "target": str(getattr(field, "model_name", "")), "many": True}
            for name, field in stored
            if "ManyToMany" in type(field).__name__
        ],
    }


_TORTOISE_TYPES = {
    "CharField": "String",
    "TextField": "Text",
    "IntField": "Integer",
    "SmallIntField": "SmallInteger",
    "BigIntField": "BigInteger",
    "BooleanField": "Boolean",
    "DecimalField": "Numeric",
    "FloatField": "Float",
    "DatetimeField": "DateTime",
    "DateField": "Date",
    "UUIDField": "Uuid",
    "JSONField": "JSON",
    "BinaryField": "LargeBinary",
}


def _tortoise_column(name: str, field: Any) -> dict[str, Any]:
    kind = type(field).__name__
    target = getattr(field, "model_name", None)
    default = getattr(field, "default", None)
    stored = f"{name}_id" if target else name  # as Tortoise names it when it starts
    return {
        "name": getattr(field, "source_field", None) or stored,
        "attribute": name,
        "type": "ForeignKey" if target else _TORTOISE_TYPES.get(kind, kind),
        "length": getattr(field, "max_length", None),
        "precision": getattr(field, "max_digits", None),
        "scale": getattr(field, "decimal_places", None),
        "nullable": bool(getattr(field, "null", False)),
        "primary_key": bool(getattr(field, "pk", False)),
        "unique": bool(getattr(field, "unique", False)),
        "index": bool(getattr(field, "index", False)) or bool(target),
        "default": None
        if default is None
        else {"kind": "callable" if callable(default) else "scalar"},
        "server_default": bool(
            getattr(field, "auto_now_add", False) or getattr(field, "generated", False)
        ),
        "references": [{"target": str(target), "on_delete": None}] if target else [],
    }
