"""LAYER001: a route does the work of a service."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import is_query, writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_STATEMENTS: Final = 2
_LINES: Final = 15
_SENDS: Final = frozenset(
    {"execute", "exec", "scalar", "scalars", "get", "get_one", "query", "fetch_one", "fetch_all"}
    | {"fetchrow", "find", "find_one"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find endpoints that send several statements and decide between them."""
    for route in review.http_routes:
        function = review.function(route.endpoint)
        if function is None:
            continue
        statements = _statements(review, function)
        lines = len({node.lineno for node in function.nodes if isinstance(node, ast.stmt)})
        branches = sum(isinstance(node, ast.If | ast.For | ast.Try) for node in function.nodes)
        if statements > _STATEMENTS and branches > 1 and lines > _LINES:
            file, line = review.at(route)
            yield RULE.found(
                f"the route sends {statements} statements and decides {branches} times",
                file=file,
                line=line,
                route=route.label,
            )


def _statements(review: Review, function: Function) -> int:
    """Count the statements that a function sends itself; a commit and a refresh are none."""
    count = 0
    for call in review.calls.of(function):
        method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
        reads = method in _SENDS and is_query(call)
        count += reads or (method in ("add", "delete", "add_all", "merge") and writes_rows(call))
    return count


RULE = Rule(
    id="LAYER001",
    title="A route does the work of a service",
    severity="note",
    how="source",
    why="The rule in it can neither be tested without HTTP nor used from a job or a command.",
    fix="move the statements and what is decided between them into a service or a repository",
    seed='003 "Keep routers thin"',
    expected="simple CRUD: up to two statements, or less than 15 lines, or no decisions.",
    bad="""
from fastapi import FastAPI, HTTPException
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


class Transfer(Base):
    __tablename__ = "transfers"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.post("/transfers", status_code=201)
def transfer(source_id: int, target_id: int, cents: int) -> None:  # finding
    with Session(engine) as session:
        source = session.get(Account, source_id)
        if source is None:
            raise HTTPException(404, "no such account")
        target = session.get(Account, target_id)
        if target is None:
            raise HTTPException(404, "no such account")
        if source.cents < cents:
            raise HTTPException(409, "not enough")
        waiting = session.scalar(select(Transfer.id))
        if waiting is not None:
            raise HTTPException(409, "another one waits")
        source.cents -= cents
        target.cents += cents
        session.add(Transfer())
        session.commit()
""",
    good="""
from fastapi import FastAPI, HTTPException
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.put("/notes/{note_id}")
def update(note_id: int) -> None:
    with Session(engine) as session:
        note = session.get(Note, note_id)
        if note is None:
            raise HTTPException(404, "no such note")
        session.add(note)
        session.commit()
        session.refresh(note)
""",
    find=find,
    is_habit=True,
)
