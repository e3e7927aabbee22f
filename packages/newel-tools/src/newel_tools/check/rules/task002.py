"""TASK002: work that must not be lost runs in a background task."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_RECORDS: Final = re.compile(
    r"log|audit|track|metric|analytic|statistic|stat|seen|last_|view|visit|clean|purge|expire|touch|hit",
    re.IGNORECASE,
)


def find(review: Review) -> Iterator[Finding]:
    """Find background tasks that write rows."""
    for call, reach in review.reached_calls():
        task = _task(review, call)
        if task is not None and not _RECORDS.search(task.name) and _writes(review, task):
            yield RULE.found(
                f"`{task.node.name}` writes rows, after the answer and only in memory",
                file=call.caller.file,
                line=call.line,
                route=reach.route,
            )


def _task(review: Review, call: Call) -> Function | None:
    """Return the function that `add_task` is given."""
    called = call.node.func
    if not isinstance(called, ast.Attribute) or called.attr != "add_task" or not call.node.args:
        return None
    given = call.node.args[0]
    for function in review.calls.mentions(call.caller):
        if function.node.name == ast.unparse(given).rpartition(".")[2]:
            return function
    return None


def _writes(review: Review, function: Function) -> bool:
    return any(
        writes_rows(call)
        for inner in review.calls.reached(function)
        for call in review.calls.of(inner)
    )


RULE = Rule(
    id="TASK002",
    title="A background task does what must not be lost",
    severity="note",
    how="source",
    why="Background tasks live in the process: a restart loses them, nobody tries again, and the "
    "client has been told that all is well.",
    fix="do it before the answer, or record a job in the same transaction and let a worker do it",
    seed='"BackgroundTasks < 30 s"',
    expected="mails and calls, whose loss is a nuisance; rows that are records only: logs, audits, "
    "counts, clean-up.",
    bad="""
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)


def make_invoice() -> None:
    with Session(engine) as session:
        session.add(Invoice())
        session.commit()


@app.post("/orders", status_code=202)
def order(tasks: BackgroundTasks) -> None:
    tasks.add_task(make_invoice)  # finding
""",
    good="""
from fastapi import BackgroundTasks, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Visit(Base):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)


def track_visit() -> None:
    with Session(engine) as session:
        session.add(Visit())
        session.commit()


def greet(name: str) -> None:
    print(name)


@app.post("/orders", status_code=202)
def order(tasks: BackgroundTasks) -> None:
    tasks.add_task(greet, "Ada")
    tasks.add_task(track_visit)
    tasks.add_task(lambda: None)
""",
    find=find,
)
