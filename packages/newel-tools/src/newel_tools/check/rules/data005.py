"""DATA005: a foreign key without an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.entities import Column, Entity

__all__ = ["RULE"]

_FEW: Final = 3  # keys of an entity that are named one by one


def find(review: Review) -> Iterator[Finding]:
    """Find foreign keys that no index begins with; MySQL makes one itself."""
    if any(engine.dialect in ("mysql", "mariadb") for engine in review.facts.engines):
        return
    for entity in review.facts.entities:
        cls = review.class_(entity)
        bare = [
            item for item in entity.columns if item.references and not _is_indexed(entity, item)
        ]
        if cls is None or not bare:
            continue
        if len(bare) > _FEW:
            names = ", ".join(f"`{column.name}`" for column in bare)
            said = f"{len(bare)} foreign keys of `{entity.table}` have no index: {names}"
            yield RULE.found(said, file=cls.module.file, line=cls.node.lineno)
            continue
        for column in bare:
            file, line = review.attribute_place(cls, column.attribute)
            yield RULE.found(
                f"`{entity.table}.{column.name}` refers to `{column.references[0].table}`"
                " and has no index",
                file=file,
                line=line,
            )


def _is_indexed(entity: Entity, column: Column) -> bool:
    """Tell whether an index begins with a column. Parts of a primary key count as one."""
    if column.index or column.unique or column.primary_key:
        return True
    listed = [*(index.columns for index in entity.indexes), *entity.unique]
    return any(columns[:1] == (column.name,) for columns in listed)


RULE = Rule(
    id="DATA005",
    title="A foreign key has no index",
    severity="note",
    how="import",
    why="Joins and lists by parent read the whole table, and so does each delete of a parent, "
    "while it holds its locks.",
    fix="`mapped_column(ForeignKey(...), index=True)` and a migration",
    seed='004 "Index usage"',
    expected="columns that an index, a unique constraint or the primary key begins with; parts of"
    " a primary key; MySQL, which makes the index itself.",
    bad="""
from fastapi import FastAPI
from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class Note(Base):
    __tablename__ = "notes"
    __table_args__ = (UniqueConstraint("title", "editor_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))  # finding
    editor_id: Mapped[int] = mapped_column(ForeignKey("users.id"))  # finding


class Order(Base):  # finding
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    maker_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    buyer_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    payer_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    sender_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
""",
    good="""
from fastapi import FastAPI
from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class Note(Base):
    __tablename__ = "notes"
    __table_args__ = (UniqueConstraint("owner_id", "title"), Index("by_editor", "editor_id", "id"))
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    editor_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("notes.id"), index=True)
    cover_id: Mapped[int | None] = mapped_column(ForeignKey("notes.id"), unique=True)


class Member(Base):
    __tablename__ = "members"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"), primary_key=True)
""",
    find=find,
    is_habit=True,
)
