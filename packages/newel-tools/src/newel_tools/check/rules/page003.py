"""PAGE003: a page may begin before the first row, or have less than none."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.sizes import (
    bound_in_code,
    declared_at,
    is_offset,
    is_page_size,
    query_params,
)
from newel_tools.facts.shapes import Field

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find offsets and page sizes without `ge` or `gt` that reach a query."""
    for route in review.http_routes:
        params = list(query_params(review, route))
        for param in params:
            is_page = is_offset(param) or is_page_size(param, params)
            if not is_page or _is_bounded(param):
                continue
            if not bound_in_code(review, route, param, side="lower"):
                file, line = declared_at(review, route, param)
                yield RULE.found(
                    f"`{param.alias}` has no lower bound: `?{param.alias}=-1` is tried",
                    file=file,
                    line=line,
                    route=route.label,
                )


def _is_bounded(param: Field) -> bool:
    limits = param.shape.limits
    return limits.ge is not None or limits.gt is not None or param.shape.values is not None


RULE = Rule(
    id="PAGE003",
    title="A page may have a negative size or offset",
    severity="change",
    how="import",
    why="PostgreSQL refuses a negative LIMIT or OFFSET: the client gets a 500 for what is its "
    "own mistake; SQLite takes -1 for no limit at all.",
    fix="bound it where it is declared: `Query(ge=1, le=100)`, `Query(ge=0)` for an offset",
    seed='003 "Pagination"',
    expected="parameters that the code clamps or refuses, closed choices, routes that read no "
    "table, numbers that are only repeated in the answer.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def size(limit: Annotated[int, Query(le=100)] = 20) -> int:  # finding
    return limit


@app.get("/notes")
def notes(limit: Annotated[int, Depends(size)], skip: int = 0) -> list[int]:  # finding
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).offset(skip).limit(limit)))


@app.get("/in-a-thread")
async def in_a_thread(skip: int = 0) -> list[int]:  # finding
    def load() -> list[int]:
        with Session(engine) as session:
            return list(session.scalars(select(Note.id).offset(skip).limit(20)))

    return await run_in_threadpool(load)
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI, Query
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
def notes(
    skip: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(gt=0, le=100)] = 20
) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).offset(skip).limit(limit)))


@app.get("/tiers")
def tiers(
    page_size: Annotated[int, Query(ge=1, le=100)] = 20, limit: int | None = None
) -> list[int]:
    with Session(engine) as session:
        found = select(Note.id).filter_by(id=limit).limit(page_size)
        return list(session.scalars(found))


@app.get("/clamped")
def clamped(page: int = 1) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).offset((max(page, 1) - 1) * 20).limit(20)))


class Page(BaseModel):
    number: int = Field(ge=1)


def page(page: int = 1) -> Page:
    return Page(number=page)


@app.get("/modelled")
def modelled(found: Annotated[Page, Depends(page)]) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.id).offset(found.number * 20).limit(20)))


class Echo(BaseModel):
    ids: list[int]
    offset: int


@app.get("/repeated", response_model=Echo)
def repeated(offset: int = 0) -> object:
    with Session(engine) as session:
        return Echo(ids=list(session.scalars(select(Note.id).limit(20))), offset=offset)


@app.get("/link")
def link(page: int) -> dict[str, str]:
    with Session(engine) as session:
        session.get(Note, 1)
    return {"next": f"/link?page={page + 1}"}


@app.get("/numbers")
def numbers(limit: int = 10) -> list[int]:
    return list(range(limit))
""",
    find=find,
    is_habit=True,
)
