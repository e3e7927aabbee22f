"""What finding a route costs: the last of 200 at include depth 3 beside the first of 10."""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median

import uvloop
from fastapi import APIRouter, FastAPI

from benchmarks.asgi import Client
from benchmarks.databases import SECRET
from benchmarks.report import markdown, tell
from benchmarks.servers import BenchmarkError
from newel.app import create_app
from newel.auth import public
from newel.logs import configure_logs
from newel.modules import Module
from newel.settings import Settings

NAME = "routing"
ROUNDS = 9
REQUESTS = 400
UNREACHED = "100000000/minute"


def measure() -> str:
    """Return the table."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        costs = runner.run(_costs())
    rows = [
        [name, f"{first:.0f} us", f"{last:.0f} us", f"{last / first:.2f}"]
        for name, (first, last) in costs.items()
    ]
    return markdown(["CPU a request", "first of 10", "last of 200, depth 3", "ratio"], rows)


def plain(routes: int) -> FastAPI:
    """Return FastAPI's own application with so many routes."""
    app = FastAPI()
    app.include_router(_router(routes), prefix="/api/v1")
    return app


def newel(routes: int) -> FastAPI:
    """Return a newel application with so many routes."""
    configure_logs(level="ERROR", format="json")  # its log line is the same for every route
    settings = Settings(secret_key=SECRET, api_limit=UNREACHED, _env_file=None)
    module = Module("shelf", routers=[_router(routes)], dependencies=[public()])
    return create_app(settings, module)


def _router(routes: int) -> APIRouter:
    """Return routes ``/r/s/0`` and so on, two levels below what it is included in."""
    outer, inner = APIRouter(prefix="/r"), APIRouter(prefix="/s")
    for number in range(routes):
        inner.add_api_route(f"/{number}/{{item}}", _answer, methods=["GET"], name=f"r{number}")
    outer.include_router(inner)
    return outer


async def _answer(item: int) -> dict[str, int]:
    return {"item": item}


async def _costs() -> dict[str, tuple[float, float]]:
    """Return the CPU of the first of 10 and the last of 200, in microseconds, by application."""
    builders = {"FastAPI": plain, "newel": newel}
    targets = {
        (name, routes): (Client(build(routes)), f"/api/v1/r/s/{number}/1")
        for name, build in builders.items()
        for routes, number in ((10, 0), (200, 199))
    }
    samples: dict[tuple[str, int], list[float]] = {key: [] for key in targets}
    for _ in range(ROUNDS + 1):
        for key, (client, target) in targets.items():
            samples[key].append(await _cost(client, target))
    return {
        name: (median(samples[name, 10][1:]), median(samples[name, 200][1:])) for name in builders
    }


async def _cost(client: Client, target: str) -> float:
    start = time.process_time()
    for _ in range(REQUESTS):
        status = await client.ask("GET", target)
        if status != 200:
            raise BenchmarkError(f"{target} was answered with {status}", "mend the benchmark")
    return (time.process_time() - start) / REQUESTS * 1e6


if __name__ == "__main__":
    sys.exit(tell(measure))
