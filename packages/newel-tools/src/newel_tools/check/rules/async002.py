"""ASYNC002: a synchronous session on the event loop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_LISTED: Final = 20  # routes that are named with a finding
_CAUSE: Final = "the session"  # all of them use it: an asynchronous one mends them
_WAITS: Final = re.compile(
    r"(sqlalchemy\.orm(\.session)?|sqlmodel(\.orm\.session)?)\.Session\."
    r"(execute|exec|query|get|get_one|scalar|scalars|commit|flush|refresh|merge|rollback|bulk_\w+)"
)


def find(review: Review) -> Iterator[Finding]:
    """Find coroutines that use a synchronous SQLAlchemy session, themselves or further down."""
    labels: dict[Function, dict[str, None]] = {}
    for route in review.routes:
        for start in review.starts(route):
            labels.setdefault(start, {})[route.label] = None
    found: dict[Function, Finding] = {}
    places: dict[Function, int] = {}
    for function, reach in review.on_loop.items():
        waits = [
            call
            for call in review.calls.of(function)
            if not call.is_awaited and _WAITS.fullmatch(call.target or "")
        ]
        for start in dict.fromkeys(reach.starts) if waits else ():
            places[start] = places.get(start, 0) + len(waits)
            line = waits[0].line if start is function else start.line
            if start not in found or start is function:
                first, *others = labels[start]
                found[start] = RULE.found(
                    "",
                    file=start.file,
                    line=line,
                    route=first,
                    also=others[:_LISTED],
                    cause=_CAUSE,
                )
    for start, finding in found.items():
        times = "" if places[start] == 1 else f" in {places[start]} places"
        yield replace(
            finding, what=f"`async def {start.node.name}` waits for a synchronous session{times}"
        )


RULE = Rule(
    id="ASYNC002",
    title="A synchronous session is used on the event loop",
    severity="block",
    how="source",
    why="Each statement stops the whole process until the database answers: under load, requests "
    "are served one after the other, and the health check fails.",
    fix="make the endpoint or dependency a plain `def` (FastAPI runs it in a thread), or use "
    "AsyncSession with an asynchronous driver",
    seed='"Mix sync/async code"',
    expected="`def` endpoints and dependencies, AsyncSession (also `run_sync`), sessions that are "
    "handed to a thread.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

sessions = sessionmaker(create_engine("sqlite://"))
app = FastAPI()


def open_session():
    with sessions() as session:
        yield session


def count(session: Session) -> int:
    return session.execute(text("select 1")).scalar_one()


@app.get("/direct")
async def direct(session: Annotated[Session, Depends(open_session)]) -> int:
    return session.execute(text("select 1")).scalar_one()  # finding


@app.get("/below")
async def below(session: Annotated[Session, Depends(open_session)]) -> int:  # finding
    return count(session)
""",
    good="""
import asyncio
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

sessions = sessionmaker(create_engine("sqlite://"))
async_sessions = async_sessionmaker(create_async_engine("sqlite+aiosqlite://"))
app = FastAPI()


def open_session():
    with sessions() as session:
        yield session


def count(session: Session) -> int:
    return session.execute(text("select 1")).scalar_one()


@app.get("/thread")
def thread(session: Annotated[Session, Depends(open_session)]) -> int:
    return count(session)


@app.get("/handed")
async def handed(session: Annotated[Session, Depends(open_session)]) -> int:
    return await asyncio.to_thread(count, session)


@app.get("/async")
async def asynchronous() -> int:
    async with async_sessions() as session:
        await session.execute(text("select 1"))
        return await session.run_sync(count)
""",
    find=find,
)
