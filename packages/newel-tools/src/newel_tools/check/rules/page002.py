"""PAGE002: the client chooses how many rows it gets, without an upper bound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.sizes import bound_in_code, declared_at, is_page_size, query_params
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field

__all__ = ["RULE"]

_LIST: Final = re.compile(r"list|Page|Sequence|Paginated|Results|Slice", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find page sizes without `le`, `lt` or a clamp in the code, on routes that read tables."""
    for route in review.http_routes:
        if "GET" not in route.methods:
            continue
        params = list(query_params(review, route))
        for param in params:
            unbounded = is_page_size(param, params) and not _is_bounded(param) and _lists(route)
            if unbounded and not bound_in_code(review, route, param):
                yield _finding(review, route, param)


def _is_bounded(param: Field) -> bool:
    limits = param.shape.limits
    return limits.le is not None or limits.lt is not None or param.shape.values is not None


def _lists(route: Route) -> bool:
    model = route.response.model
    return model is None or bool(_LIST.search(model.text)) or "model" in model.types


def _finding(review: Review, route: Route, param: Field) -> Finding:
    file, line = declared_at(review, route, param)
    return RULE.found(
        f"`{param.alias}` has no upper bound: `?{param.alias}=1000000` is served",
        file=file,
        line=line,
        route=route.label,
    )


RULE = Rule(
    id="PAGE002",
    title="A page may be of any size",
    severity="change",
    how="import",
    why="One request can ask for the whole table, and hold a worker and its memory for as "
    "long as that takes.",
    fix="bound it where it is declared: `Query(ge=1, le=100)`",
    seed='003 "Default: 20 items, max: 100"',
    expected="sizes that the code clamps with `min(...)` or refuses in an `if`, closed choices, "
    "routes that read no table, sizes that are only repeated in the answer.",
    bad="""
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.get("/notes")
def notes(skip: int = 0, limit: int = 100) -> list[int]:  # finding
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).offset(skip).limit(limit)))


class Page(BaseModel):
    skip: int = Field(0, ge=0)
    limit: int = Field(100, ge=1)  # finding


@app.get("/pages")
def pages(page: Annotated[Page, Query()]) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).offset(page.skip).limit(page.limit)))


@app.get("/in-a-thread")
async def in_a_thread(limit: int = 100) -> list[int]:  # finding
    def load() -> list[int]:
        with Session(engine) as session:
            return list(session.scalars(select(Note.id).limit(limit)))

    return await run_in_threadpool(load)
""",
    good="""
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


@app.get("/notes")
def notes(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).limit(limit)))


class Page(BaseModel):
    limit: int = Field(100, ge=1, le=100)
    size: int = 20


@app.get("/pages")
def pages(page: Annotated[Page, Query()]) -> list[int]:
    if page.size > 100:
        raise ValueError(page.size)
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).limit(page.limit)))


@app.get("/tiers")
def tiers(
    page_size: Annotated[int, Query(ge=1, le=100)] = 20, limit: int | None = None
) -> list[int]:
    with Session(engine) as session:
        found = select(Note.id).filter_by(id=limit).limit(page_size)
        return list(session.scalars(found))


class Echo(BaseModel):
    ids: list[int]
    limit: int


@app.get("/repeated", response_model=Echo)
def repeated(limit: int = 20) -> object:
    with Session(engine) as session:
        return Echo(ids=list(session.scalars(select(Note.id).limit(20))), limit=limit)


@app.get("/clamped")
def clamped(limit: int = 20) -> list[int]:
    limit = max(1, min(limit, 100))
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).limit(limit)))
""",
    find=find,
    is_habit=True,
)
