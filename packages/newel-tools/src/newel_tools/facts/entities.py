"""The typed model of the database: entities, columns, relationships, engines."""

from __future__ import annotations

from typing import Any

from newel_tools.facts.shapes import Fact, Place

__all__ = ["Column", "Engine", "Entity", "Index", "Reference", "Relationship"]


class Reference(Fact):
    """A foreign key: ``target`` is `table.column` (Tortoise: `app.Model`)."""

    target: str
    on_delete: str | None = None

    @property
    def table(self) -> str:
        """Return the table that it points to."""
        return self.target.rpartition(".")[0]


class Column(Fact):
    """A column. ``type`` is SQLAlchemy's class name; ``decorated`` a TypeDecorator around it.

    ``default``: ``{"kind": "scalar" | "callable" | "clause_element" | "sequence", "value": ...}``;
    a scalar with ``"moment": true`` is a date or time that was computed once, on import.
    ``none_as_null``: of JSON, `None` is written as NULL rather than as JSON's own null.
    """

    name: str
    attribute: str
    type: str
    decorated: str | None = None
    python_type: str | None = None
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    timezone: bool | None = None
    values: tuple[Any, ...] | None = None
    none_as_null: bool = False
    nullable: bool = True
    primary_key: bool = False
    unique: bool = False
    index: bool = False
    default: dict[str, Any] | None = None
    onupdate: dict[str, Any] | None = None
    server_default: bool = False
    computed: bool = False
    references: tuple[Reference, ...] = ()

    @property
    def is_filled(self) -> bool:
        """Tell whether the database or the mapper fills it in when nothing is given."""
        return self.default is not None or self.server_default or self.computed

    @property
    def is_converted(self) -> bool:
        """Tell whether a TypeDecorator changes values; SQLModel's own changes none."""
        return self.decorated is not None and not self.decorated.startswith("sqlmodel.")


class Relationship(Fact):
    """A relationship; ``lazy`` is SQLAlchemy's loading strategy, ``target`` a full class name."""

    name: str
    target: str
    lazy: str = "select"
    many: bool = False
    direction: str | None = None
    cascade: tuple[str, ...] = ()
    view_only: bool = False
    secondary: str | None = None
    columns: tuple[str, ...] = ()


class Index(Fact):
    """An index over one or more columns."""

    columns: tuple[str, ...]
    unique: bool = False


class Entity(Place):
    """A mapped class. ``orm`` is `sqlalchemy` (SQLModel too) or `tortoise`."""

    orm: str
    table: str
    schema_name: str | None = None
    columns: tuple[Column, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[Index, ...] = ()
    relationships: tuple[Relationship, ...] = ()
    version_column: str | None = None

    def column(self, attribute: str) -> Column | None:
        """Return the column behind an attribute."""
        return next((column for column in self.columns if column.attribute == attribute), None)


class Engine(Fact):
    """An SQLAlchemy engine that the import made, and its pool."""

    dialect: str
    driver: str
    asynchronous: bool = False
    in_memory: bool = False
    echo: bool = False
    pool: str = ""
    pool_size: int | None = None
    max_overflow: int | None = None
    timeout_seconds: float | None = None
    recycle_seconds: int | None = None
    pre_ping: bool = False
