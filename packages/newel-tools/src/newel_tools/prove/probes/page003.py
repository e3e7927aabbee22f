"""A page's size and place have bounds on both sides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.variants import Change, broken_by

__all__ = ["PROBE"]

_NAMES: Final = re.compile(
    r"^(limit|offset|skip|take|top|first|count|size|page|page_?size|per_?page|page_?num(ber)?|"
    r"start|rows|n)$",
    re.IGNORECASE,
)
_VALUES: Final = (-1, 0, 2**31, 2**63, 10**20)


def _run(lab: Lab) -> Iterator[Result]:
    for operation in lab.operations:
        if operation.method == "GET":
            names = [item.name for item in operation.queries() if _NAMES.match(item.name)]
            if names:
                yield from _bounded(lab, operation, names)


def _bounded(lab: Lab, operation: Operation, names: list[str]) -> Iterator[Result]:
    for result in broken_by(PROBE, lab, operation, _queries(names)):
        negative = _negative(lab, operation, names) if result.state == "kept" else None
        yield negative or result


def _queries(names: list[str]) -> Iterator[Change]:
    for name in names:
        for value in _VALUES:
            yield Change(said=f"{name}={value}", query={name: value})


def _negative(lab: Lab, operation: Operation, names: list[str]) -> Result | None:
    """Look for a negative number that reaches the database; SQLite takes it for "all rows"."""
    for name in names:
        request = lab.request(operation, lab.user, query={name: -1})
        exchange = None if request is None else lab.send(request, lab.user)
        if exchange is None or not exchange.answer.is_success:
            continue
        for statement in exchange.answer.statements:
            if -1 in statement.numbers and "LIMIT" in statement.sql.upper():
                said = f"{name}=-1 reaches the database: every row on SQLite, an error elsewhere"
                return PROBE.broke(operation.label, said, exchange, where=statement.where)
    return None


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
def list_notes(session: Db, limit: Annotated[int, Query(le=100)] = 20) -> list[str]:
    return list(session.scalars(select(Note.text).order_by(Note.id).limit(limit)))
"""
)
PROBE = Probe(
    id="PAGE003",
    title="Page sizes and offsets are bounded below and above",
    severity="change",
    why="A negative limit is an error on one database and the whole table on another.",
    fix="declare the bounds: `Query(ge=1, le=100)` for a size, `Query(ge=0, le=...)` for an offset",
    seed="pagination",
    expected="values that are refused, or brought within bounds",
    bad=_BAD,
    good=_BAD.replace("le=100", "ge=1, le=100"),
    run=_run,
)
