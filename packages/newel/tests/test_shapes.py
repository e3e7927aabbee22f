"""An entity is plain when it is the columns of one table: any more, and it is the session's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sample_entities import Agent, Board, Measure, Tag
from sqlalchemy import JSON, Computed, Integer, String, func, inspect, text
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, column_property, composite, mapped_column

from newel.entity import Entity
from newel.events import OutboxEvent
from newel.shapes import column_names, is_plain, shape_of


def test_columns_of_one_table_are_plain() -> None:
    assert is_plain(Measure)
    assert is_plain(Tag)
    assert is_plain(Counted)


class Inked(Entity):
    __tablename__ = "shapes_inked"
    ink: Mapped[str] = mapped_column(String(8), server_default=text("'blue'"), init=False)


class Deferred(Entity):
    __tablename__ = "shapes_deferred"
    body: Mapped[str] = mapped_column(String(8), deferred=True)


class Renamed(Entity):
    __tablename__ = "shapes_renamed"
    body: Mapped[str] = mapped_column("text", String(8))


class Expressed(Entity):
    __tablename__ = "shapes_expressed"
    body: Mapped[str] = mapped_column(String(8))


Expressed.size = column_property(func.length(Expressed.body))  # pyright: ignore[reportAttributeAccessIssue] - how SQLAlchemy adds one


class Generated(Entity):
    __tablename__ = "shapes_generated"
    a: Mapped[int]
    b: Mapped[int] = mapped_column(Integer, Computed("a + 1"), init=False)


class Drawn(Entity):
    __tablename__ = "shapes_drawn"
    a: Mapped[int] = mapped_column(insert_default=func.random(), init=False)


def spelled(context: Any) -> str:
    return context.get_current_parameters()["a"][::-1]


class Mirrored(Entity):
    __tablename__ = "shapes_mirrored"
    a: Mapped[str] = mapped_column(String(8))
    b: Mapped[str] = mapped_column(String(8), insert_default=spelled, init=False)


class Counted(Entity):
    __tablename__ = "shapes_counted"
    a: Mapped[str] = mapped_column(String(8), insert_default=lambda: "a", init=False)
    b: Mapped[str] = mapped_column(String(8), onupdate=lambda: "b")


class Touched(Entity):
    __tablename__ = "shapes_touched"
    a: Mapped[int] = mapped_column(onupdate=text("1"))


class Parent(Entity):
    __tablename__ = "shapes_parents"
    kind: Mapped[str] = mapped_column(String(8), init=False)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "parent"}  # noqa: RUF012 - as SQLAlchemy wants it


class Child(Parent):
    __mapper_args__ = {"polymorphic_identity": "child"}  # noqa: RUF012 - as above


@dataclass
class Point:
    x: int
    y: int


class Composed(Entity):
    __tablename__ = "shapes_composed"
    point: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))


class Mutable(Entity):
    __tablename__ = "shapes_mutable"
    bag: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON()))


@pytest.mark.parametrize(
    "kind",
    [
        *(Agent, Board, Inked, Deferred, Renamed, Expressed, Generated, Drawn, Touched),
        *(Mirrored, Parent, Child, Composed, Mutable, OutboxEvent),
    ],
)
def test_what_a_session_has_to_do_more_for_is_not_plain(kind: type[Entity]) -> None:
    assert not is_plain(kind)


def test_the_statements_of_a_shape_are_of_its_columns() -> None:
    shape = shape_of(Tag)
    assert column_names(Tag) == ("id", "label", "created_at", "updated_at", "version")
    assert str(shape.insert).startswith("INSERT INTO tags (id, label, created_at")
    assert str(shape.update).endswith("tags.id = :newel_id AND tags.version = :newel_version")


def test_what_asks_for_the_defaults_of_a_class_is_still_there() -> None:
    """It is no public name of SQLAlchemy's."""
    mapper: Any = inspect(Measure)
    assert mapper._insert_orm_defaults[mapper.local_table] == []
