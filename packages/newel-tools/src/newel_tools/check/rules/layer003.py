"""LAYER003: a model was changed, and no migration says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.entities import Entity
from newel_tools.facts.source import Module

__all__ = ["RULE"]

_FOLDER: Final = re.compile(r"(^|/)(migrations|alembic|versions)/")
_REVISION: Final = re.compile(
    r"^def upgrade\(|^async def upgrade\(|^class Migration\b", re.MULTILINE
)
_WHOLE: Final = re.compile(r"create_all\(|\.read_text\(|\bopen\(|op\.f?execute\(\s*\w+\s*\)")


def find(review: Review) -> Iterator[Finding]:
    """Find columns that no migration names, of tables that some migration makes.

    A migration that makes all tables of the models at once, or runs a file, names none.
    """
    migrations = [module for module in review.source.files.values() if _is_migration(module)]
    text = "\n".join(module.text for module in migrations)
    if not migrations or _WHOLE.search(text):
        return
    for entity in review.facts.entities:
        if _makes(text, entity.table.rpartition(".")[2]):
            yield from _unmade(review, entity, text)


def _is_migration(module: Module) -> bool:
    return _FOLDER.search(module.file) is not None and _REVISION.search(module.text) is not None


def _unmade(review: Review, entity: Entity, text: str) -> Iterator[Finding]:
    cls = review.class_(entity)
    for column in entity.columns if cls is not None else ():
        if cls is not None and not _says(text, column.name):
            file, line = review.attribute_place(cls, column.attribute)
            yield RULE.found(
                f"no migration makes the column `{entity.table}.{column.name}`",
                file=file,
                line=line,
            )


def _makes(text: str, table: str) -> bool:
    """Tell whether a migration makes or renames to a table; one that only alters it is not it."""
    calls = rf"\b(create|rename)_table\([^)]{{0,80}}[\"']{re.escape(table)}[\"']"
    sql = rf"\b(CREATE TABLE|RENAME TO)\b[^(]{{0,60}}?(?<!\w){re.escape(table)}(?!\w)"
    return re.search(f"{calls}|{sql}", text, re.IGNORECASE) is not None


def _says(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


RULE = Rule(
    id="LAYER003",
    title="A model was changed without a migration",
    severity="change",
    how="import",
    why="The first request to the new code fails: the database has no such column. Tests that make "
    "their tables from the models never notice.",
    fix='write it: `alembic revision --autogenerate -m "..."`, read it, and commit it with the '
    "model",
    seed='003 "/models/ is READ-ONLY", "Wait for migration"',
    expected="projects without migrations; tables that no migration makes, though one alters it; "
    "migrations that make "
    "all tables of the models, or run files of SQL. What a column's type was is not compared.",
    bad="""
# file: main.py
from fastapi import FastAPI
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    phone: Mapped[str | None]  # finding
# file: migrations/versions/0001_users.py
import sqlalchemy as sa
from alembic import op


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
""",
    good="""
# file: main.py
from fastapi import FastAPI
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    mail: Mapped[str] = mapped_column("email")
    phone: Mapped[str | None]


class Elsewhere(Base):
    __tablename__ = "made_by_others"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]
# file: migrations/versions/0001_users.py
import sqlalchemy as sa
from alembic import op


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
# file: migrations/versions/0002_phone.py
from alembic import op


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN phone TEXT")
    op.create_index("ix_made", "made_by_others", ["id"])
""",
    find=find,
)
