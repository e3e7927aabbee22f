"""What runs under callgrind: one variant in this process, called through ASGI, and counted.

    valgrind --tool=callgrind ... python -m benchmarks.counted WORKLOAD [module:build]

Without a factory it is the service in this folder.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

from benchmarks.asgi import Client, living
from benchmarks.callgrind import Callgrind, Request
from benchmarks.load import PATH
from benchmarks.servers import BenchmarkError

OPERATIONS = ("get", "list", "post", "patch")
WARM_UP = 40
REQUESTS = 1
PAIRS = 15
"""How often N and 2N requests are counted.

The lowest of each leaves out what happens once in many requests (a garbage collection) or in some
seconds (a caller is looked up again), which under callgrind are 50 times fewer requests.
"""


async def repeat(client: Client, operation: str, agent: str, body: bytes, count: int) -> None:
    """Ask ``operation`` so many times, one after the other."""
    for number in range(count):
        match operation:
            case "get":
                status = await client.ask("GET", f"{PATH}/{agent}")
            case "list":
                status = await client.ask("GET", f"{PATH}?page=2&page_size=20")
            case "post":
                status = await client.ask("POST", PATH, body)
            case _:
                change = b'{"name":"renamed %04d"}' % (number + count)
                status = await client.ask("PATCH", f"{PATH}/{agent}", change)
        if status not in {200, 201}:
            raise BenchmarkError(f"{operation} was answered with {status}", "see benchmarks.bench")


async def count(app: Any, workload: Mapping[str, Any]) -> None:
    """Ask every operation N and 2N times, and have callgrind write a count after each."""
    user = workload["users"][0]
    body = json.dumps(workload["body"]).encode()
    client = Client(app, token=user["token"])
    callgrind = Callgrind()
    async with living(app):
        for operation in OPERATIONS:
            await repeat(client, operation, user["agents"][0], body, WARM_UP)
            gc.collect()  # now, and what is left is never looked at again: not somewhere in between
            gc.freeze()
            callgrind.send(Request.START)
            for requests in PAIRS * (REQUESTS, 2 * REQUESTS):
                callgrind.send(Request.ZERO)
                await repeat(client, operation, user["agents"][0], body, requests)
                callgrind.send(Request.DUMP)
            callgrind.send(Request.STOP)


def built(target: str) -> Any:
    """Return the application that a factory makes, or the service's."""
    if target:
        module, _, factory = target.partition(":")
        return getattr(import_module(module), factory)()
    # Imported for it alone: the environment of other libraries has no newel.
    from newel.project import Project  # noqa: PLC0415 - see above

    # A NOTIFY, at most fifty a second for all writes: told once, it falls into no single request.
    patch("newel.outbox.ANNOUNCE_SECONDS", 3600).start()
    return Project.find().load_app()


def main(workload: str, target: str = "") -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(count(built(target), json.loads(Path(workload).read_text())))


if __name__ == "__main__":
    main(*sys.argv[1:])
