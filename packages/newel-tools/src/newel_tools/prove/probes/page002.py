"""Nobody asks for a million rows at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]

_SIZES: Final = re.compile(
    r"^(limit|take|top|count|size|page_?size|per_?page|max_?results|rows)$", re.IGNORECASE
)
_HUGE: Final = 1_000_003  # a number that stands for nothing else in a statement


def _run(lab: Lab) -> Iterator[Result]:
    if lab.service.dialect is None:
        yield PROBE.skipped("", "the statements of this database library are not seen")
        return
    for operation in lab.operations:
        names = [item.name for item in operation.queries() if _SIZES.match(item.name)]
        if operation.method == "GET" and names:
            yield _huge(lab, operation, names[0])


def _huge(lab: Lab, operation: Operation, name: str) -> Result:
    for caller in lab.callers_for(operation):
        request = lab.request(operation, caller, query={name: _HUGE})
        if request is None:
            continue
        exchange = lab.send(request, caller)
        if not exchange.answer.is_success:
            continue
        asked = [one for one in exchange.answer.statements if _HUGE in one.numbers]
        if asked:
            said = f"{name}={_HUGE} is handed to the database"
            return PROBE.broke(operation.label, said, exchange, where=asked[0].where)
        return PROBE.kept(operation.label)
    return PROBE.kept(operation.label)


_BAD = (
    DATABASE
    + """
# file: main.py
from typing import Annotated

from fastapi import FastAPI, Query
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


Base.metadata.create_all(engine)
app = FastAPI()


@app.get("/notes")
def list_notes(session: Db, limit: Annotated[int, Query(ge=1)] = 20) -> list[str]:
    return list(session.scalars(select(Note.text).order_by(Note.id).limit(limit)))
"""
)
PROBE = Probe(
    id="PAGE002",
    title="A page has a greatest size",
    severity="change",
    why="One request reads the whole table into memory, and so does the next.",
    fix="declare the greatest size: `Query(ge=1, le=100)`",
    seed='"max: 100"',
    expected="sizes that are refused or cut",
    bad=_BAD,
    good=_BAD.replace("ge=1)", "ge=1, le=100)"),
    run=_run,
)
