"""DATA004: times without a time zone."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_CODES = ("DTZ003", "DTZ004", "DTZ005")
_DEFAULTS = ("default", "default_factory", "onupdate")
_FEW = 5  # columns that are named one by one
_NAIVE = ("datetime.datetime.utcnow", "datetime.datetime.now")


def find(review: Review) -> Iterator[Finding]:
    """Find times that are made without a zone, and columns that hold none."""
    for lint, reach in review.reached_lints(*_CODES):
        yield RULE.found(
            "the time that is made here has no zone",
            file=lint.file,
            line=lint.line,
            route=reach.route,
        )
    defaults = list(_defaults(review))
    yield from defaults
    places = {(finding.file, finding.line) for finding in defaults}
    for finding in _columns(review):
        if (finding.file, finding.line) not in places:
            yield finding


def _defaults(review: Review) -> Iterator[Finding]:
    """Find `default=datetime.utcnow`, which is called for each row."""
    for module in review.source.own_modules():
        for node in module.nodes if "datetime" in module.text else ():
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                named = keyword.arg in _DEFAULTS
                if named and review.source.name_of(module, keyword.value) in _NAIVE:
                    yield RULE.found(
                        "the default is a time without a zone",
                        file=module.file,
                        line=keyword.value.lineno,
                    )


def _columns(review: Review) -> Iterator[Finding]:
    """Find columns without a zone, where a database that knows zones is used."""
    if not any(engine.dialect == "postgresql" for engine in review.facts.engines):
        return
    places: dict[tuple[str, int], str] = {}
    for entity in review.facts.entities:
        cls = review.class_(entity)
        for column in entity.columns:
            is_naive = column.type in ("DateTime", "TIMESTAMP") and not column.timezone
            if cls is not None and is_naive and not column.is_converted:
                places[review.attribute_place(cls, column.attribute)] = column.name
    if len(places) > _FEW:
        file, line = min(places)
        yield RULE.found(f"{len(places)} columns hold no time zone", file=file, line=line)
        return
    for (file, line), name in places.items():
        yield RULE.found(f"`{name}` holds no time zone", file=file, line=line)


RULE = Rule(
    id="DATA004",
    title="A time has no zone",
    severity="note",
    how="source",
    why="Whoever reads it has to guess the zone; compared with a time that has one it raises "
    "TypeError, and the driver refuses to store it.",
    fix="`datetime.now(UTC)`, and `DateTime(timezone=True)` for the column",
    seed="002's `utcnow` sample",
    expected="code that no request reaches, dates, columns of databases without zones.",
    bad="""
from datetime import datetime

from fastapi import FastAPI
from sqlalchemy import DateTime
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine("postgresql+asyncpg://user@localhost/app")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]  # finding
    read_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        default=datetime.utcnow,  # finding
    )


@app.get("/now")
def now() -> datetime:
    return datetime.utcnow()  # finding
""",
    good="""
from datetime import UTC, date, datetime

from fastapi import FastAPI
from sqlalchemy import DateTime
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine("postgresql+asyncpg://user@localhost/app")
app = FastAPI()


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date]
    seen_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))


@app.get("/now")
def now() -> datetime:
    return datetime.now(UTC)


def never_called() -> datetime:
    return datetime.now()
""",
    find=find,
    is_habit=True,
)
