"""One load for every job engine: no-op jobs, enqueued fifty at a time while two workers run them.

    python -m benchmarks.peers.NAME_engine work|produce URL [JOBS]

`work` prints a line when it begins. `produce` prints one when it could begin, waits for one, and
prints how long it took from the first enqueue to the end of the last job; it stays until its
standard input ends, so that who started it can read what the processes have used.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import uvloop

A_UNIT = 50
CONCURRENCY = 50


class Engine(Protocol):
    """What a job engine has to do here, as its own guide says it."""

    async def open(self) -> None:
        """Connect, and make the tables that there are not."""
        ...

    async def work(self) -> None:
        """Run jobs until cancelled."""
        ...

    async def enqueue(self, numbers: Sequence[int]) -> None:
        """Enqueue a job for each number."""
        ...

    async def left(self) -> int:
        """Return how many jobs have not ended."""
        ...


def main(make: Callable[[str], Engine]) -> None:
    """Run the program of one engine."""
    role, url, *rest = sys.argv[1:]
    engine = make(url)
    uvloop.run(_work(engine) if role == "work" else _produce(engine, int(rest[0])))


async def _work(engine: Engine) -> None:
    await engine.open()
    working = asyncio.ensure_future(_said(engine.work))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    await asyncio.wait([working])


async def _said(work: Callable[[], Awaitable[None]]) -> None:
    print("working", flush=True)
    await work()


async def _produce(engine: Engine, jobs: int) -> None:
    await engine.open()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    for start in range(0, jobs, A_UNIT):
        await engine.enqueue(range(start, min(start + A_UNIT, jobs)))
    while await engine.left():  # noqa: ASYNC110 - they end in other processes
        await asyncio.sleep(0.02)
    print(time.perf_counter() - began, flush=True)
    await asyncio.to_thread(sys.stdin.read)
