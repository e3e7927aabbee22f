"""What an awaited call costs, measured in whatever environment has the library that is called."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Calls = Mapping[str, Callable[[], Awaitable[object]]]

TIMES = 5_000


def answer(calls: Calls) -> None:
    """Measure every call once for each line of standard input; print the figures as JSON."""
    with asyncio.Runner() as runner:
        for _ in sys.stdin:
            print(json.dumps(runner.run(_costs(calls))), flush=True)


async def _costs(calls: Calls) -> dict[str, float]:
    return {name: await _cost(call) for name, call in calls.items()}


def asking(app: Any) -> Callable[[], Awaitable[None]]:
    """Return a call that asks an ASGI application for one thing."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: object) -> None:
        """Take it."""

    async def ask() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/agents/7",
            "raw_path": b"/agents/7",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"accept", b"application/json")],
            "client": ("127.0.0.1", 4711),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        await app(scope, receive, send)

    return ask


async def _cost(call: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU time of one call in microseconds."""
    start = time.process_time()
    for _ in range(TIMES):
        await call()
    return (time.process_time() - start) / TIMES * 1e6
