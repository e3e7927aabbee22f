"""HTTP001: creating answers 200."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.database import writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find POST on a collection, which has members at `path/{id}`, that writes and answers 200."""
    members = {
        route.path.rpartition("/{")[0].rstrip("/")
        for route in review.http_routes
        if route.path.endswith("}") and "/{" in route.path
    }
    for route in review.http_routes:
        creates = route.methods == ("POST",) and route.path.rstrip("/") in members
        if creates and route.status_code in (None, 200) and _writes(review, route):
            file, line = review.at(route)
            yield RULE.found(
                "a row is created and the answer is 200", file=file, line=line, route=route.label
            )


def _writes(review: Review, route: Route) -> bool:
    function = review.function(route.endpoint)
    reached = review.calls.reached(function) if function is not None else ()
    return any(writes_rows(call) for inner in reached for call in review.calls.of(inner))


RULE = Rule(
    id="HTTP001",
    title="Creating answers 200",
    severity="note",
    how="import",
    why="Clients and caches cannot tell a new resource from an answer, nor where it is.",
    fix="`status_code=201`, and the new resource's path in the header Location",
    seed='003 "201 Created + Location"',
    expected="POST for actions and searches: only collections count, whose members have a path "
    "of their own.",
    bad="""
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.post("/notes/")
def create() -> int:  # finding
    with Session(engine) as session:
        session.add(Note())
        session.commit()
    return 1


@app.get("/notes/{note_id}")
def read(note_id: int) -> int:
    return note_id
""",
    good="""
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def store() -> None:
    with Session(engine) as session:
        session.add(Note())
        session.commit()


@app.post("/notes", status_code=201)
def create() -> int:
    store()
    return 1


@app.get("/notes/{note_id}")
def read(note_id: int) -> int:
    return note_id


@app.post("/notes/{note_id}/archive")
def archive(note_id: int) -> int:
    store()
    return note_id


@app.post("/searches")
def search() -> int:
    return 1


@app.get("/searches/{search_id}")
def found(search_id: int) -> int:
    return search_id
""",
    find=find,
    is_habit=True,
)
