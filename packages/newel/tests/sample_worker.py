"""A worker in a process of its own, which tests stop in the middle of what it does.

    python sample_worker.py URL [SABOTAGE]

Its jobs wait for files, so that a test decides when what happens.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from sample_entities import Tag

from newel.db import Database, Work
from newel.dispatch import open_carrier
from newel.job_queue import JobQueue
from newel.jobs import JobRun, job
from newel.worker import Background, Worker, WorkerLimits

LIMITS = WorkerLimits(lease_seconds=1.0, stop_seconds=5.0, poll_seconds=0.1, concurrency=5)


@job(timeout_seconds=60)
async def hold(job: JobRun, folder: str) -> None:
    """Say that it has started, wait for the file `go`, and then change something."""
    await meet(folder, job)
    job.work.session.add(Tag(label=f"held {job.attempt}"))


@job()
async def load(job: JobRun, folder: str) -> None:
    """Do four steps, and wait for the file `go` in the middle."""
    for page in range(4):
        await job.step(f"page {page}", load_page, page)
        if page == 1:
            await meet(folder, job)


async def load_page(work: Work, page: int) -> None:
    work.session.add(Tag(label=f"page {page}"))


async def meet(folder: str, job: JobRun) -> None:
    await asyncio.to_thread(wait_for_go, Path(folder), job.attempt)


def wait_for_go(folder: Path, attempt: int) -> None:
    (folder / f"started-{attempt}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)


async def main(url: str, sabotage: str = "") -> None:
    if sabotage == "fence":

        async def no_fence(*_: Any) -> bool:
            return True

        async def no_beat(_: Any) -> None:
            """Learn of nothing: else the lost lease may end the job before the fence is asked."""

        JobQueue.finish_in = no_fence  # type: ignore[method-assign] # the defect that a test finds
        Worker._beat = no_beat  # type: ignore[method-assign] # the rest of that defect
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    app = FastAPI()
    app.state.database = database = Database(url)
    name = os.environ.get("SERVICE_NAME", "sample")
    app.state.carrier = carrier = open_carrier(
        os.environ.get("JOBS_URL"), name=name, is_sqlite=database.is_sqlite
    )
    background = Background(jobs={"hold": hold, "load": load}, handlers={}, schedules=())
    worker = Worker(app, background, limits=LIMITS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    if carrier is not None:
        await carrier.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
