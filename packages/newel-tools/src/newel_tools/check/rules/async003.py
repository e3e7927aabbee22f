"""ASYNC003: a call that waits on the event loop, further down."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.blocking import blocking_calls
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find blocking calls in plain functions that coroutines call directly."""
    for call, reach in blocking_calls(review):
        if not call.caller.is_async:
            start = reach.starts[0]
            yield RULE.found(
                f"`{call.target}` blocks the event loop: `async def {start.node.name}` > "
                f"{reach.steps()}",
                file=call.caller.file,
                line=call.line,
                route=reach.route,
            )


RULE = Rule(
    id="ASYNC003",
    title="A helper blocks the event loop",
    severity="change",
    how="source",
    why="The function looks harmless where it is called, but while it waits no other "
    "request is served.",
    fix="hand the helper to a thread where a coroutine calls it: `await "
    "asyncio.to_thread(helper, ...)`, or make it asynchronous",
    seed='003 "Blocking calls in async context"',
    expected="helpers that only `def` endpoints call, helpers handed to a thread, start-up code, "
    "a pause before the process ends.",
    bad="""
import time

from fastapi import FastAPI

app = FastAPI()


def fetch() -> str:
    return wait()


def wait() -> str:
    time.sleep(1)  # finding
    return "done"


@app.get("/slow")
async def slow() -> str:
    return fetch()
""",
    good="""
import asyncio
import sys
import time

from fastapi import FastAPI

app = FastAPI()


def fetch() -> str:
    time.sleep(1)
    return "done"


@app.get("/slow")
async def slow() -> str:
    return await asyncio.to_thread(fetch)


def give_up() -> None:
    try:
        raise RuntimeError("no database")
    except RuntimeError:
        time.sleep(5)
        sys.exit(1)


@app.get("/last")
async def last() -> None:
    give_up()


@app.get("/thread")
def thread() -> str:
    return fetch()
""",
    find=find,
    is_habit=True,
)
