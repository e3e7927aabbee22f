"""RESP003: a row of the database is sent as it is."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.answers import returned
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rows import Rows
from newel_tools.check.rule import Rule
from newel_tools.check.secret import is_sent_nowhere
from newel_tools.facts.routes import Route

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find endpoints that return rows without a model, or with the table as their model."""
    rows = review.rows
    for route in review.http_routes:
        if route.response.model is None:
            yield from _unfiltered(review, rows, route)
        else:
            yield from _table(review, route)


def _unfiltered(review: Review, rows: Rows, route: Route) -> Iterator[Finding]:
    function = review.function(route.endpoint)
    for value in returned(function) if function is not None else ():
        row = rows.of(value, function) if function is not None else None
        if row is not None and function is not None:
            names = (column.attribute for column in row.entity.columns)
            secret = next(filter(is_sent_nowhere, names), None)
            yield RULE.found(
                f"every column of `{row.entity.table}` is sent"
                + (f", `{secret}` among them" if secret else ""),
                file=function.file,
                line=value.lineno,
                route=route.label,
                severity="block" if secret else None,
            )


def _table(review: Review, route: Route) -> Iterator[Finding]:
    """Find SQLModel tables that are the response model themselves."""
    for model in list(review.models_in(route.response.model))[:1]:
        if model.table and model.file is not None:
            yield RULE.found(
                f"the table `{model.name}` is itself what clients get",
                file=model.file,
                line=review.line_of(model),
                route=route.label,
                severity="note",
            )


RULE = Rule(
    id="RESP003",
    title="A row is sent as it is",
    severity="change",
    how="import",
    why="Whatever column is added later goes to clients too, without anybody having decided it.",
    fix="declare a model with the fields that clients may see, `response_model=NoteRead`",
    seed='003 "exclude sensitive"',
    expected="answers with a response model; rows that the code turns into something else. An "
    "SQLModel table as the response model is a note; a row with a password or its hash blocks.",
    bad="""
from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


def load(session: Session, user_id: int) -> User | None:
    return session.get(User, user_id)


@app.get("/users/{user_id}")
def read(user_id: int):
    with Session(engine) as session:
        return load(session, user_id)  # finding


@app.get("/users")
def listed():
    with Session(engine) as session:
        users = session.scalars(select(User).limit(10)).all()
        return users  # finding
""",
    good="""
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


class UserRead(BaseModel):
    id: int


@app.get("/users/{user_id}", response_model=UserRead)
def read(user_id: int):
    with Session(engine) as session:
        return session.get(User, user_id)


@app.get("/names/{user_id}")
def name(user_id: int):
    with Session(engine) as session:
        user = session.get_one(User, user_id)
        return {"email": user.email}
""",
    find=find,
)
