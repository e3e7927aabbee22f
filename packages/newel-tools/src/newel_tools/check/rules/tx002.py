"""TX002: the answer is sent before the commit."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import is_commit, writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.transactions import begins, commit_at_exit, is_apart
from newel_tools.facts.routes import Route
from newel_tools.facts.source import Function

__all__ = ["RULE"]

# What stands after a `yield` ran before the answer in these releases, and after it in all others.
_BEFORE_THE_ANSWER: Final = ((0, 106), (0, 118))


def find(review: Review) -> Iterator[Finding]:
    """Find dependencies that commit after their `yield`, of routes that write and do not commit."""
    first, last = _BEFORE_THE_ANSWER
    if first <= _version(review) < last:
        return
    for route in review.http_routes:
        for node in route.dependencies if route.writes and _only_writes(review, route) else ():
            line = commit_at_exit(review, node) if node.scope != "function" else None
            if line is not None and node.call is not None:
                yield RULE.found(
                    f"`{node.call.name}` commits when the answer has been sent",
                    file=node.call.file,
                    line=line,
                    route=route.label,
                )


def _version(review: Review) -> tuple[int, ...]:
    parts = review.facts.versions.get("fastapi", "").split(".")
    return tuple(int(part) for part in parts[:2] if part.isdigit())


def _only_writes(review: Review, route: Route) -> bool:
    """Tell whether the endpoint writes and leaves the commit to somebody else."""
    function = review.function(route.endpoint)
    if function is None:
        return False
    reached = review.calls.reached(function)
    apart = {inner for inner in reached if inner is not function and is_apart(review, inner)}
    together = [
        inner
        for inner, way in reached.items()
        if inner not in apart and not any(call and call.caller in apart for call in way)
    ]
    calls = [call for inner in together for call in review.calls.of(inner)]
    commits = any(map(is_commit, calls)) or any(map(_has_block, together))
    return any(map(writes_rows, calls)) and not commits


def _has_block(function: Function) -> bool:
    """Tell whether a function holds a block that commits at its end: `with session.begin():`."""
    return any(
        begins(entered.context_expr)
        for node in function.nodes
        if isinstance(node, ast.With | ast.AsyncWith)
        for entered in node.items
    )


RULE = Rule(
    id="TX002",
    title="The answer is sent before the commit",
    severity="block",
    how="import",
    why="What stands after a `yield` runs when the answer has been sent: if the commit fails, the "
    "client was told 201 for a row that does not exist.",
    fix='commit before the answer: `Depends(get_session, scope="function")` (FastAPI 0.121 and '
    "newer), or commit in the function that writes",
    seed='"Database transactions"',
    expected="dependencies of the scope `function`, routes that commit themselves or by a block "
    "`with session.begin()`, FastAPI 0.106 to 0.117, which ran the end of a dependency before it "
    "answered. What a function writes in a transaction of its own, as an audit log, is not the "
    "route's commit.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

sessions = sessionmaker(create_engine("sqlite://"))
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def open_session():
    with sessions() as session:
        yield session
        session.commit()  # finding


def begin_session():
    with sessions.begin() as session:  # finding
        yield session


def delegate():
    with begin_session() as session:  # finding
        yield session


@app.post("/notes", status_code=201)
def create(session: Annotated[Session, Depends(open_session)]) -> None:
    session.add(Note())


@app.post("/begun", status_code=201)
def create_begun(session: Annotated[Session, Depends(begin_session)]) -> None:
    session.add(Note())


@app.post("/delegated", status_code=201)
def create_delegated(session: Annotated[Session, Depends(delegate)]) -> None:
    session.add(Note())
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

sessions = sessionmaker(create_engine("sqlite://"))
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def committing():
    with sessions() as session:
        yield session
        session.commit()


def plain():
    with sessions() as session:
        yield session


@app.post("/early", status_code=201)
def early(session: Annotated[Session, Depends(committing, scope="function")]) -> None:
    session.add(Note())


@app.post("/itself", status_code=201)
def itself(session: Annotated[Session, Depends(committing)]) -> None:
    session.add(Note())
    session.commit()


@app.post("/block", status_code=201)
def by_block(session: Annotated[Session, Depends(committing)]) -> None:
    with session.begin():
        session.add(Note())


@app.post("/plain", status_code=201)
def by_itself(session: Annotated[Session, Depends(plain)]) -> None:
    session.add(Note())
    session.commit()


@app.get("/notes")
def read(session: Annotated[Session, Depends(committing)]) -> list[int]:
    return list(session.scalars(select(Note.id).limit(10)))
""",
    find=find,
)
