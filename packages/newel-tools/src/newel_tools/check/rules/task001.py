"""TASK001: a task that nobody holds."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find ruff's RUF006, also in code that runs at the start."""
    for lint in review.lints:
        if lint.code == "RUF006":
            function = review.function_around(lint.file, lint.line)
            reach = review.reached.get(function) if function is not None else None
            yield RULE.found(
                "the task is dropped",
                file=lint.file,
                line=lint.line,
                route=reach.route if reach is not None else None,
            )


RULE = Rule(
    id="TASK001",
    title="A task is started and dropped",
    severity="change",
    how="source",
    why="The event loop holds tasks weakly: this one may be collected half-way, and nobody sees "
    "how it ends or fails.",
    fix="keep it until it is done: `tasks.add(task); task.add_done_callback(tasks.discard)`, or "
    "a TaskGroup; what must happen belongs into a queue",
    seed="async",
    expected="tasks that are kept, awaited or returned; task groups; ruff's `noqa` comments.",
    bad="""
import asyncio

from fastapi import FastAPI

app = FastAPI()


async def work() -> None:
    await asyncio.sleep(1)


@app.post("/work", status_code=202)
async def start() -> None:
    asyncio.create_task(work())  # finding
""",
    good="""
import asyncio

from fastapi import FastAPI

app = FastAPI()
tasks: set[asyncio.Task[None]] = set()


async def work() -> None:
    await asyncio.sleep(1)


@app.post("/work", status_code=202)
async def start() -> None:
    task = asyncio.create_task(work())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


@app.post("/group", status_code=202)
async def start_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
""",
    find=find,
    is_habit=True,
)
