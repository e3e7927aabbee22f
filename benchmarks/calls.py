"""What an awaited call costs, measured in whatever environment has the library that is called."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

Calls = Mapping[str, Callable[[], Awaitable[object]]]

TIMES = 20_000


def answer(calls: Calls) -> None:
    """Measure every call once for each line of standard input; print the figures as JSON."""
    with asyncio.Runner() as runner:
        for _ in sys.stdin:
            print(json.dumps(runner.run(_costs(calls))), flush=True)


async def _costs(calls: Calls) -> dict[str, float]:
    return {name: await _cost(call) for name, call in calls.items()}


async def _cost(call: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU time of one call in microseconds."""
    start = time.process_time()
    for _ in range(TIMES):
        await call()
    return (time.process_time() - start) / TIMES * 1e6
