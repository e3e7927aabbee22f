"""A page is cut from rows that stand in an order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource

__all__ = ["PROBE"]

_LIMIT: Final = re.compile(r"\bLIMIT\b|\bFETCH\s+(FIRST|NEXT)\b", re.IGNORECASE)
_ORDER: Final = re.compile(r"\bORDER\s+BY\b", re.IGNORECASE)


def _run(lab: Lab) -> Iterator[Result]:
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the statements of this database library are not seen")
        return
    for resource, operation in lab.lists:
        yield _ordered(lab, resource, operation)


def _ordered(lab: Lab, resource: Resource, operation: Operation) -> Result:
    caller = lab.maker_for(resource)
    request = lab.request(operation, caller)
    exchange = None if request is None else lab.send(request, caller)
    if exchange is None or not exchange.answer.is_success:
        return PROBE.skipped(operation.label, "it could not be asked")
    for statement in exchange.answer.statements:
        # A look-up of one row has a limit of 1 or 2, and needs no order.
        pages = _LIMIT.search(statement.sql) and max(statement.numbers, default=0) > 2
        if pages and not _ORDER.search(statement.sql):
            said = "its statement has a limit and no order: pages may repeat and skip rows"
            details = [statement.sql]
            return PROBE.broke(
                operation.label, said, exchange, where=statement.where, details=details
            )
    return PROBE.kept(operation.label)


_BAD = (
    DATABASE
    + """
# file: main.py
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class NoteRead(BaseModel):
    id: int
    text: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/notes", status_code=201, response_model=NoteRead)
def create_note(text: str, session: Db) -> Note:
    note = Note(text=text)
    session.add(note)
    session.commit()
    return note


@app.get("/notes", response_model=list[NoteRead])
def list_notes(session: Db, page: int = 0) -> list[Note]:
    return list(session.scalars(select(Note).offset(20 * page).limit(20)))
"""
)
PROBE = Probe(
    id="PAGE004",
    title="Pages are cut in an order",
    severity="change",
    why="Without an order the database may answer in another one each time.",
    fix="order by something unique: the key, or what is sorted by and then the key",
    seed='004 "pagination"',
    expected="look-ups of one row",
    bad=_BAD,
    good=_BAD.replace("select(Note)", "select(Note).order_by(Note.id)"),
    run=_run,
)
