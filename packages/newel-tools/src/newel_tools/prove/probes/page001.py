"""A list stays as short as a page, however much there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from newel_tools.prove.documents import list_of, object_of
from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource

__all__ = ["PROBE"]

_ROWS: Final = 25


def _run(lab: Lab) -> Iterator[Result]:
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the statements of this database library are not seen")
        return
    for resource, operation in lab.lists:
        if resource.create is not None:
            yield _filled(lab, resource, operation)


def _filled(lab: Lab, resource: Resource, operation: Operation) -> Result:
    caller = lab.fresh_maker(resource)
    if caller is None:
        return PROBE.skipped(operation.label, "no such thing could be made")
    for _ in range(_ROWS - 2):
        lab.world.make(resource, caller)
    made = lab.world.make(resource, caller)
    if made is None:
        return PROBE.skipped(operation.label, f"{_ROWS} such things could not be made")
    request = lab.request(operation, caller)
    exchange = None if request is None else lab.send(request, caller)
    if exchange is None or not exchange.answer.is_success:
        return PROBE.skipped(operation.label, "it could not be asked")
    shown = _length(exchange.answer.json)
    reads = [one for one in exchange.answer.statements if not one.writes]
    limited = any(
        re.search(r"\b(LIMIT|FETCH\s+(FIRST|NEXT)|TOP)\b", one.sql, re.IGNORECASE) for one in reads
    )
    if shown < _ROWS or limited or not reads:
        return PROBE.kept(operation.label)
    said = f"it answers all {shown} rows; no statement of it has a limit"
    table = re.compile(
        rf"FROM\s+[\"`]?(\w+\.)?{made.tables[0] if made.tables else ''}\b", re.IGNORECASE
    )
    where = next((o.where for o in reversed(reads) if table.search(o.sql)), reads[-1].where)
    return PROBE.broke(operation.label, said, exchange, where=where)


def _length(answer: Any) -> int:
    """Return the length of the answer's list, bare or in a page."""
    if isinstance(answer, list):
        return len(list_of(answer))
    return max((_length(value) for value in object_of(answer).values()), default=0)


_BAD = (
    DATABASE
    + """
# file: main.py
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/notes", status_code=201)
def create_note(text: str, session: Db) -> dict[str, int]:
    note = Note(text=text)
    session.add(note)
    session.commit()
    return {"id": note.id}


@app.get("/notes")
def list_notes(session: Db) -> list[str]:
    return list(session.scalars(select(Note.text).order_by(Note.id)))
"""
)
PROBE = Probe(
    id="PAGE001",
    title="A list has pages",
    severity="change",
    why="The answer grows with the table until it takes seconds, and then the memory.",
    fix="page the list: a limit with a default and a bound, and an order to page by",
    seed='003 "Always paginate list endpoints"',
    expected="lists whose statements have a limit",
    bad=_BAD,
    good=_BAD.replace("order_by(Note.id)", "order_by(Note.id).limit(20)"),
    run=_run,
)
