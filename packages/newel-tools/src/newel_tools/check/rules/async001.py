"""ASYNC001: a call that waits on the event loop."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.blocking import blocking_calls
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find blocking calls in the bodies of `async def` functions that requests run."""
    for call, reach in blocking_calls(review):
        if call.caller.is_async:
            yield RULE.found(
                f"`{call.target}` blocks the event loop in `async def {call.caller.node.name}`",
                file=call.caller.file,
                line=call.line,
                route=reach.route,
            )


RULE = Rule(
    id="ASYNC001",
    title="A call blocks the event loop",
    severity="change",
    how="source",
    why="While it waits, no other request of this process is served, not even the health check.",
    fix="use the library's asynchronous counterpart, or hand it to a thread: "
    "`await asyncio.to_thread(...)`; or make the endpoint a plain `def`",
    seed='003 "Blocking calls in async context"',
    expected="code that no route reaches, `def` endpoints (FastAPI runs them in threads), calls "
    "handed to a thread, reading small local files.",
    bad="""
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/slow")
async def slow() -> str:
    time.sleep(1)  # finding
    return "done"
""",
    good="""
import asyncio
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(1)
    await asyncio.to_thread(time.sleep, 1)
    return "done"


@app.get("/thread")
def thread() -> str:
    time.sleep(1)
    return "done"


async def never_called() -> None:
    time.sleep(1)
""",
    find=find,
)
