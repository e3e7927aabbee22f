"""A list costs as many statements for many rows as for few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.answer import Answer, Statement
from newel_tools.prove.callers import Caller
from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.requests import Request
from newel_tools.prove.resources import Resource
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]

_FEW: Final = 2
_MANY: Final = 8


def _run(lab: Lab) -> Iterator[Result]:
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the statements of this database library are not counted")
        return
    for resource, operation in lab.lists:
        yield _grown(lab, resource, operation)


def _grown(lab: Lab, resource: Resource, operation: Operation) -> Result:
    caller = lab.fresh_maker(resource)
    if caller is None:
        return PROBE.skipped(operation.label, "no such thing could be made")
    few = _asked_with(lab, resource, operation, caller, _FEW)
    many = _asked_with(lab, resource, operation, caller, _MANY - _FEW)
    if few is None or many is None:
        return PROBE.skipped(operation.label, "it could not be asked")
    more = many.answer.statement_count - few.answer.statement_count
    if more < _MANY - _FEW:
        return PROBE.kept(operation.label)
    repeated = _repeated(many.answer)
    said = (
        f"{few.answer.statement_count} statements for {_FEW} more rows, "
        f"{many.answer.statement_count} for {_MANY}"
    )
    details = [f"repeated: {repeated.sql}"] if repeated is not None else []
    where = repeated.where if repeated is not None else None
    return PROBE.broke(operation.label, said, few, many, where=where, details=details)


def _asked_with(
    lab: Lab, resource: Resource, operation: Operation, caller: Caller, count: int
) -> Exchange | None:
    """Make ``count`` more things, each with links of its own, and ask for the list."""
    for _ in range(count):
        if lab.world.make(resource, caller, own_links=True) is None:
            return None
    request: Request | None = lab.request(operation, caller)
    exchange = None if request is None else lab.send(request, caller)
    return exchange if exchange is not None and exchange.answer.is_success else None


def _repeated(answer: Answer) -> Statement | None:
    counted = Counter(statement.sql for statement in answer.statements)
    sql = counted.most_common(1)[0][0] if counted else None
    return next((one for one in answer.statements if one.sql == sql), None)


_BAD = (
    DATABASE
    + """
# file: main.py
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from database import Base, Db, engine


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    tags: Mapped[list["Tag"]] = relationship()


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"))
    name: Mapped[str]


class TagRead(BaseModel):
    name: str


class NoteRead(BaseModel):
    id: int
    text: str
    tags: list[TagRead]


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/notes", status_code=201, response_model=NoteRead)
def create_note(text: str, session: Db) -> Note:
    note = Note(text=text)
    session.add(note)
    session.commit()
    return note


@app.get("/notes", response_model=list[NoteRead])
def list_notes(session: Db) -> list[Note]:
    return list(session.scalars(select(Note).limit(100)))
"""
)
PROBE = Probe(
    id="NPLUS2",
    title="The number of statements does not grow with the rows",
    severity="block",
    why="A page that takes 5 ms with ten rows on a laptop takes seconds in production.",
    fix="load what the answer shows with the list: `selectinload`, a join, or one query for all",
    seed='"Queries optimized"',
    expected="chunks: the statements have to grow by one a row at least",
    bad=_BAD,
    good=_BAD.replace("select(Note)", "select(Note).options(selectinload(Note.tags))"),
    run=_run,
)
