"""PAGE001: a list answers with every row of a table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.flow import answered
from newel_tools.check.review import Review
from newel_tools.check.rows import Rows
from newel_tools.check.rule import Rule
from newel_tools.check.sizes import is_offset, is_size, query_params
from newel_tools.facts.entities import Entity
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Shape
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_ENVELOPE: Final = 3  # fields: the rows, their number, a message
_LISTS: Final = frozenset({"list", "set", "tuple", "frozenset"})
_BOUNDS: Final = re.compile(
    r"limit|paginat|slice|fetchmany|page|cursor|first\(|offset|batch|top_?n|\[:", re.IGNORECASE
)
_SMALL: Final = re.compile(
    r"(role|permission|scope|countr|currenc|language|locale|time_?zone|categor|tag|setting|preference|option"
    r"|plan|tier|status|type|kind|unit|feature|config|label|session|device|key|token|provider|group)\w*$",
    re.IGNORECASE,
)
_PARAMETERS: Final = re.compile(
    r"limit|page|size|cursor|offset|skip|after|before|since|range|top|count", re.IGNORECASE
)


def find(review: Review) -> Iterator[Finding]:
    """Find GET routes that answer with a list of rows and bound it nowhere."""
    rows = review.rows
    for route in review.http_routes:
        function = review.function(route.endpoint)
        if function is None or "GET" not in route.methods or not _lists(review, route):
            continue
        params = [*route.params, *query_params(review, route)]
        if any(is_size(p) or is_offset(p) or _PARAMETERS.search(p.name) for p in params):
            continue
        reached = list(review.calls.reached(function))
        sent = _sent(review, route)
        whole = _reads_whole(rows, reached if sent else [function], sent)
        whole = whole or _answers_whole(review, function)
        named = [part for part in route.path.split("/") if part and "{" not in part]
        small = _SMALL.search(named[-1]) if named else None
        if whole and not small and not any(_bounds(inner) for inner in reached):
            file, line = review.at(route)
            yield RULE.found(
                f"nothing bounds how many rows of `{whole}` are sent",
                file=file,
                line=line,
                route=route.label,
            )


def _lists(review: Review, route: Route) -> bool:
    """Tell whether the answer is a list of objects, on its own or in an envelope."""
    shape = route.response.model
    if shape is None:
        return False
    model = review.facts.models.get(shape.models[0]) if shape.models else None
    inner = [field.shape for field in model.fields] if model is not None else []
    return _is_list(shape) or (len(inner) <= _ENVELOPE and any(map(_is_list, inner)))


def _sent(review: Review, route: Route) -> frozenset[str]:
    """Return the fields of what the list holds; none if nobody said them."""
    shape = route.response.model
    pending = [shape] if shape is not None else []
    while pending:
        shape = pending.pop()
        if _is_list(shape) and shape.item is not None and not shape.item.models:
            pending.append(shape.item)  # a list of lists, or of what has no model
            continue
        inner = shape.item if _is_list(shape) and shape.item is not None else shape
        model = review.facts.models.get(inner.models[0]) if inner.models else None
        if model is not None and inner is shape:
            pending += [field.shape for field in model.fields if _is_list(field.shape)]
        elif model is not None:
            return frozenset(field.name for field in model.fields)
    return frozenset()


def _is_list(shape: Shape) -> bool:
    return not _LISTS.isdisjoint(shape.types) and shape.item is not None


def _reads_whole(rows: Rows, functions: list[Function], sent: frozenset[str]) -> str | None:
    """Return the table that one of the functions reads all matching rows of, to send them.

    What is read on the way, to check something, has not got the fields that are sent.
    """
    for function in functions:
        for node in function.nodes:
            if isinstance(node, ast.Call) and _collects(node):
                row = rows.of(node, function)
                if row is not None and row.many and _is_of(row.entity, sent):
                    return row.entity.table
    return None


def _answers_whole(review: Review, function: Function) -> str | None:
    """Return the table that a function answers with all matching rows of, whatever it sends."""
    for call, owner in answered(review, function):
        row = review.rows.of(call, owner) if _collects(call) else None
        if row is not None and row.many:
            return row.entity.table
    return None


def _is_of(entity: Entity, sent: frozenset[str]) -> bool:
    """Tell whether rows of an entity may be what has these fields: it has half of them."""
    held = {column.attribute for column in entity.columns}
    held |= {relationship.name for relationship in entity.relationships}
    return not sent or 2 * len(sent & held) >= len(sent)


def _collects(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("all", "fetchall", "list", "scalars")


def _bounds(function: Function) -> bool:
    return _BOUNDS.search(ast.unparse(function.node)) is not None


RULE = Rule(
    id="PAGE001",
    title="A list answers with the whole table",
    severity="change",
    how="import",
    why="It is fast with ten rows; with a million it takes the memory of the process and the "
    "time of everybody else.",
    fix="take `limit: Annotated[int, Query(ge=1, le=100)] = 20` and a cursor or an offset, and "
    "order the rows",
    seed='003 "Always paginate list endpoints"',
    expected="lists that are small by nature (roles, countries, categories, tags, settings, a "
    "user's sessions), pages of any library, anything that mentions a limit; rows that are read to "
    "check something: less than half of what is sent is theirs, and no answer is made of them.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


class NoteRead(BaseModel):
    id: int


class Notes(BaseModel):
    data: list[NoteRead]


@app.get("/notes", response_model=list[NoteRead])
def notes() -> object:  # finding
    with Session(engine) as session:
        return session.scalars(select(Note)).all()


@app.get("/wrapped", response_model=Notes)
def wrapped() -> object:  # finding
    with Session(engine) as session:
        return {"data": session.query(Note).filter(Note.id > 0).all()}
""",
    good="""
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


class NoteRead(BaseModel):
    id: int


@app.get("/notes", response_model=list[NoteRead])
def notes(limit: int = 20) -> object:
    with Session(engine) as session:
        return session.scalars(select(Note).limit(limit)).all()


@app.get("/latest", response_model=list[NoteRead])
def latest() -> object:
    with Session(engine) as session:
        return session.scalars(select(Note).limit(10)).all()


@app.get("/categories", response_model=list[NoteRead])
def categories() -> object:
    with Session(engine) as session:
        return session.scalars(select(Note)).all()


@app.get("/fixed", response_model=list[NoteRead])
def fixed() -> object:
    return [{"id": 1}]


class Picture(BaseModel):
    url: str
    width: int


class Export(BaseModel):
    title: str
    pictures: list[Picture]


@app.get("/notes/{note_id}/export", response_model=Export)
def export(note_id: int) -> object:
    with Session(engine) as session:
        notes = session.scalars(select(Note)).all()
        return {"title": str(notes[note_id].id), "pictures": []}


@app.get("/notes/{note_id}", response_model=NoteRead)
def one(note_id: int) -> object:
    with Session(engine) as session:
        return session.get(Note, note_id)


@app.post("/search", response_model=list[NoteRead])
def search() -> object:
    with Session(engine) as session:
        return session.scalars(select(Note)).all()


@app.get("/raw")
def raw():
    with Session(engine) as session:
        return session.scalars(select(Note)).all()
""",
    find=find,
    is_habit=True,
)
