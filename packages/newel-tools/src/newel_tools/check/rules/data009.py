"""DATA009: a lazy relationship is read while an asynchronous application answers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rows import Row, Rows
from newel_tools.check.rule import Rule
from newel_tools.facts.entities import Entity, Relationship
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Model
from newel_tools.facts.source import Function

__all__ = ["RULE"]

# The last two refuse to load instead: the answer is a 500 all the same.
_LAZY: Final = frozenset({"select", "True", "raise", "raise_on_sql"})
_LOADS: Final = re.compile(
    r"(selectin|joined|subquery|immediate|contains_)(load|eager)|selectinload|joinedload|subqueryload"
    r"|immediateload|contains_eager|refresh|awaitable_attrs|run_sync|fetch_related|prefetch_related"
)


def find(review: Review) -> Iterator[Finding]:
    """Find relationships in answers that are loaded lazily and that no query loads before."""
    if not any(engine.asynchronous for engine in review.facts.engines):
        return
    rows = review.rows
    for route in review.http_routes:
        function = review.function(route.endpoint)
        if function is None or not function.is_async:
            continue
        row = _answer(rows, function)
        for model in review.models_in(route.response.model):
            for relationship in _lazy(row, model) if row is not None else ():
                if row is not None and not _loads(review, function, relationship):
                    yield _finding(review, row.entity, relationship, model, route)
            break  # the first is the answer itself; the others are inside it


def _answer(rows: Rows, function: Function) -> Row | None:
    """Return the rows that an endpoint returns, as they came from the database."""
    returned = [node.value for node in function.nodes if isinstance(node, ast.Return)]
    found = map(partial(rows.of, function=function), filter(None, returned))
    return next((row for row in found if row is not None), None)


def _lazy(row: Row, model: Model) -> Iterator[Relationship]:
    if model.full_name == row.entity.full_name:
        return  # SQLModel leaves the relationships of a table out of its answers
    for relationship in row.entity.relationships:
        field = model.field(relationship.name)
        if field is not None and not field.exclude and relationship.lazy in _LAZY:
            yield relationship


def _loads(review: Review, function: Function, relationship: Relationship) -> bool:
    """Tell whether the request names a way to load, and the relationship."""
    for inner in review.calls.reached(function):
        text = ast.unparse(inner.node)
        if _LOADS.search(text) and re.search(rf"\b{relationship.name}\b", text):
            return True
        if any(_makes_with(node, relationship.name) for node in inner.nodes):
            return True
    return False


def _makes_with(node: ast.AST, name: str) -> bool:
    """Tell whether a row is made together with what it refers to.

    `Note(labels=[...])`, `note.labels.append(...)`, `note.labels = [...]`.
    """
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=held), attr="append" | "extend")):
            return held == name
        case ast.Call(keywords=keywords):
            return any(keyword.arg == name for keyword in keywords)
        case ast.Assign(targets=[ast.Attribute(attr=held)]):
            return held == name
        case _:
            return False


def _finding(
    review: Review, entity: Entity, relationship: Relationship, model: Model, route: Route
) -> Finding:
    cls = review.class_(entity)
    file, line = entity.file, review.line_of(entity)
    if cls is not None:
        file, line = review.attribute_place(cls, relationship.name)
    return RULE.found(
        f"`{model.name}.{relationship.name}` is loaded while the answer is made",
        file=file,
        line=line,
        route=route.label,
    )


RULE = Rule(
    id="DATA009",
    title="A lazy relationship is part of an answer",
    severity="change",
    how="import",
    why="An AsyncSession cannot load when an attribute is read: MissingGreenlet, and the client "
    "gets a 500 (and where it works, one query for each row).",
    fix="load it with the rows: `select(Note).options(selectinload(Note.tags))`, or "
    '`lazy="selectin"` at the relationship',
    seed="N+1, async",
    expected="relationships that a query of the request loads, that are refreshed, or that the "
    "request itself fills; answers that the code builds itself; synchronous sessions.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

engine = create_async_engine("sqlite+aiosqlite://")
sessions = async_sessionmaker(engine)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"))


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[Tag]] = relationship()  # finding


class TagRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int


class NoteRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    tags: list[TagRead]


@app.get("/notes/{note_id}", response_model=NoteRead)
async def read(note_id: int) -> object:
    async with sessions() as session:
        return await session.get(Note, note_id)


@app.get("/notes", response_model=list[NoteRead])
async def listed() -> object:
    async with sessions() as session:
        notes = await session.scalars(select(Note).limit(20))
        return notes.all()
""",
    good="""
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

engine = create_async_engine("sqlite+aiosqlite://")
sessions = async_sessionmaker(engine)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"))


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[Tag]] = relationship()
    eager: Mapped[list[Tag]] = relationship(lazy="selectin", viewonly=True)


class NoteShort(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int


class NoteRead(NoteShort):
    tags: list[NoteShort]
    eager: list[NoteShort]


@app.get("/notes", response_model=list[NoteRead])
async def listed() -> object:
    async with sessions() as session:
        notes = await session.scalars(select(Note).options(selectinload(Note.tags)).limit(20))
        return notes.all()


@app.get("/short/{note_id}", response_model=NoteShort)
async def short(note_id: int) -> object:
    async with sessions() as session:
        return await session.get(Note, note_id)


@app.get("/built/{note_id}", response_model=NoteRead)
async def built(note_id: int) -> object:
    async with sessions() as session:
        note = await session.get_one(Note, note_id)
        return NoteRead(id=note.id, tags=[], eager=[])


@app.post("/filled", response_model=NoteRead)
async def filled() -> object:
    async with sessions(expire_on_commit=False) as session:
        note = Note(id=1)
        note.tags.append(Note(id=2))
        session.add(note)
        await session.commit()
        return note


@app.get("/none", response_model=NoteShort)
async def nothing() -> object:
    return {"id": 1}
""",
    find=find,
)
