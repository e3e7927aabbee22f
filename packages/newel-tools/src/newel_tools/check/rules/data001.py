"""DATA001: null is accepted for a column that must not be null."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.stores import Store
from newel_tools.facts.entities import Column
from newel_tools.facts.shapes import Field

__all__ = ["RULE"]

_JSON: Final = frozenset({"JSON", "JSONB"})  # SQLAlchemy writes JSON's own null there, no NULL
_FAILURE: Final = re.compile(r"\b(HTTP_)?500(_\w+)?\b|\bINTERNAL_SERVER_ERROR\b")
_REFUSED: Final = re.compile(r"\b(HTTP_)?4\d\d(_\w+)?\b|\b(BAD_REQUEST|CONFLICT)\b")
_REFUSALS: Final = re.compile(r"(IntegrityError|SQLAlchemyError|DBAPIError|DatabaseError)\b")


def find(review: Review) -> Iterator[Finding]:
    """Find fields that may be null and are written, unchecked, to columns that may not."""
    for store in review.stores:
        if store.skips_null or store.model.checked_whole:
            continue
        for field, column in store.pairs:
            if _clashes(store, field, column):
                caught = _is_caught(review, store)
                file, line = review.field_place(store.model, field.name)
                yield RULE.found(
                    f"`{field.name}` may be null, `{store.entity.table}.{column.name}` may not",
                    file=file,
                    line=line,
                    route=store.labels[0],
                    also=store.labels[1:],
                    severity="change" if caught else None,
                )


def _is_caught(review: Review, store: Store) -> bool:
    """Tell whether the database's refusal is caught somewhere, so that it is no 500 but odd."""
    for item in review.facts.handlers:
        function = review.function(item.handler)
        fails = function is not None and _fails(function.nodes)
        if _REFUSALS.search(item.exception or "") and not fails:
            return True
    starts = {*review.starts(store.routes[0]), store.function}
    return any(_catches(node) for function in starts for node in function.nodes)


def _catches(node: ast.AST) -> bool:
    """Tell whether a handler takes the refusal, and neither passes it on nor answers 500."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    if node.type is not None and not _REFUSALS.search(ast.unparse(node.type)):
        return False
    inside = tuple(ast.walk(node))
    return not _fails(inside) and not any(
        isinstance(inner, ast.Raise)
        and (inner.exc is None or (isinstance(inner.exc, ast.Name) and inner.exc.id == node.name))
        for inner in inside
    )


def _fails(nodes: Iterable[ast.AST]) -> bool:
    """Tell whether all that code says of a status is that the server failed: a 500."""
    said = " ".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Raise | ast.Call))
    return bool(_FAILURE.search(said)) and not _REFUSED.search(said)


def _clashes(store: Store, field: Field, column: Column) -> bool:
    if not field.shape.nullable or column.nullable or field.shape.validated:
        return False
    if column.is_converted or column.computed or column.primary_key:
        return False
    if column.type in _JSON and not column.none_as_null:
        return False
    # On INSERT, SQLAlchemy takes the default for a column that is None; on UPDATE it writes NULL.
    return store.updates or not column.is_filled


RULE = Rule(
    id="DATA001",
    title="Null is accepted for a column that must not be null",
    severity="block",
    how="import",
    why='A client that sends `{"name": null}` gets a 500 from the database instead of a 422.',
    fix="declare an update's field as `name: str = ...` with a default that is never written "
    "(`exclude_unset=True`), drop null with a validator, or make the column nullable",
    seed='003 "Pydantic validation on inputs"',
    expected="fields with a validator, values that the code tests or replaces, `exclude_none`, "
    "columns with a default on insert (the default is taken), of JSON without `none_as_null` (its "
    "null is its own), primary keys, columns that the code sets itself afterwards. Where the "
    "database's refusal is caught, in a dependency too, and not answered with 500, it is a change.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str | None]
    stars: Mapped[int] = mapped_column(default=0)
    extra: Mapped[dict[str, str]] = mapped_column(JSON(none_as_null=True), default=dict)


class NoteCreate(BaseModel):
    title: str | None = None  # finding
    text: str | None = None
    stars: int | None = None


class NoteUpdate(BaseModel):
    title: str | None = None  # finding
    text: str | None = None
    stars: int | None = None  # finding
    extra: dict[str, str] | None = None  # finding


class NoteRename(BaseModel):
    title: str | None  # finding


@app.post("/notes", status_code=201)
def create(body: NoteCreate) -> None:
    with Session(engine) as session:
        session.add(Note(**body.model_dump()))
        session.commit()


@app.patch("/notes/{note_id}")
def update(note_id: int, body: NoteUpdate) -> None:
    with Session(engine) as session:
        note = session.get(Note, note_id)
        for name, value in body.model_dump(exclude_unset=True).items():
            setattr(note, name, value)
        session.commit()


@app.put("/notes/{note_id}/title")
def rename(note_id: int, body: NoteRename) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        note.title = body.title
        session.commit()
""",
    good="""
from fastapi import FastAPI
from pydantic import BaseModel, field_validator
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str | None]
    stars: Mapped[int] = mapped_column(default=0)
    extra: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)


class NoteCreate(BaseModel):
    id: int | None = None
    title: str
    text: str | None = None
    stars: int | None = None


class NoteUpdate(BaseModel):
    title: str = ""
    text: str | None = None
    extra: dict[str, str] | None = None


class Checked(BaseModel):
    title: str | None = None

    @field_validator("title")
    @classmethod
    def not_null(cls, value: str | None) -> str:
        if value is None:
            raise ValueError("title must not be null")
        return value


class Loose(BaseModel):
    title: str | None = None


class Overwritten(BaseModel):
    title: str | None = None


def not_blank(field_name: str):
    return lambda method: method


class Library(BaseModel):
    title: str | None = None

    @not_blank(field_name="title")
    def get_title(self) -> str | None:
        return self.title


@app.post("/notes", status_code=201)
def create(body: NoteCreate) -> None:
    with Session(engine) as session:
        session.add(Note(**body.model_dump()))
        session.commit()


@app.post("/overwritten", status_code=201)
def create_titled(body: Overwritten) -> None:
    body.title = "untitled"
    save_titled(body)


def save_titled(values: Overwritten) -> None:
    with Session(engine) as session:
        session.add(Note(**values.model_dump()))
        session.commit()


@app.post("/library", status_code=201)
def create_by_library(body: Library) -> None:
    with Session(engine) as session:
        session.add(Note(**body.model_dump()))
        session.commit()


@app.patch("/notes/{note_id}")
def update(note_id: int, body: NoteUpdate) -> None:
    with Session(engine) as session:
        note = session.get(Note, note_id)
        for name, value in body.model_dump(exclude_unset=True).items():
            setattr(note, name, value)
        session.commit()


@app.patch("/checked/{note_id}")
def update_checked(note_id: int, body: Checked) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        for name, value in body.model_dump(exclude_unset=True).items():
            setattr(note, name, value)
        session.commit()


@app.patch("/skipped/{note_id}")
def update_skipping(note_id: int, body: Loose) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        for name, value in body.model_dump().items():
            if value is not None:
                setattr(note, name, value)
        session.commit()


@app.patch("/dropped/{note_id}")
def update_without_none(note_id: int, body: Loose) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        for name, value in body.model_dump(exclude_none=True).items():
            setattr(note, name, value)
        session.commit()


@app.patch("/tested/{note_id}")
def update_tested(note_id: int, body: Loose) -> None:
    with Session(engine) as session:
        note = session.get_one(Note, note_id)
        if body.title is not None:
            note.title = body.title
        session.commit()
""",
    find=find,
    is_habit=True,
)
