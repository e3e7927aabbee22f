"""What the edge of a service costs on top of a bare call or request, beside libraries for it.

Each side runs in an environment of its own and is measured in turns. The figures are medians over
the rounds; a bare call, measured beside, is subtracted.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple
from uuid import UUID, uuid4

from fastapi import FastAPI
from starlette.middleware import Middleware

from benchmarks.calls import Calls, answer, asking
from benchmarks.peers_environment import ensure_peers
from benchmarks.report import markdown, tell
from benchmarks.servers import PEERS_PYTHON, ROOT, BenchmarkError, pinned
from newel.cache import cached
from newel.context import accepted_request_id, request_id, trace_ids
from newel.db import Database, Work
from newel.limits import MemoryLimiter, Rate
from newel.logs import configure_logs, log_request
from newel.metrics import RequestMetrics
from newel.middleware import RequestContext
from newel.principal import Principal

NAME = "edge"
ROUNDS = 9
SIDES: Mapping[str, Sequence[str]] = {
    "newel": (sys.executable, "-m", "benchmarks.edge", "calls"),
    "library": (str(PEERS_PYTHON), "-m", "benchmarks.peers.edge_calls"),
}


class Row(NamedTuple):
    """What is measured, and how many microseconds of it issue 5 allows newel."""

    what: str
    limit_us: float


ROWS: Mapping[str, Row] = {
    "cache": Row("a hit in the memory of the process, of a method with a caller and an id", 2),
    "limit": Row("one use of a limit, counted in the process", 2),
    "metrics": Row("counting a request for Prometheus", 5),
    "log": Row("the log line of a request, as JSON", 25),
    "request_id": Row("the id of a request", 3),
    # More than the three: the client's address, the route's name, headers. It has no limit.
    "request": Row("all three, as middleware around a route of FastAPI", math.inf),
}


class Reports:
    """A service whose values are kept."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def bare(self, caller: Principal, report_id: UUID) -> int:
        """Return what costs nothing."""
        del caller
        return report_id.version or 0

    @cached(expire=3600, tags=["reports:{report_id}"])
    async def kept(self, caller: Principal, report_id: UUID) -> int:
        """Return the same, kept."""
        return await self.bare(caller, report_id)


def own_calls() -> Calls:
    """Return newel's calls."""
    caller = Principal(
        id=uuid4(), roles=frozenset({"user"}), permissions=frozenset({"reports:read"})
    )
    reports = Reports(Database("sqlite+aiosqlite:///./unused.db").read(caller))
    report_id, limiter, rate = uuid4(), MemoryLimiter(), Rate.parse("1000000/second")
    configure_logs(stream=Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process
    return {
        **_of_requests(),
        "bare": lambda: reports.bare(caller, report_id),
        "cache": lambda: reports.kept(caller, report_id),
        "limit": lambda: limiter.hit("user:1", rate),
    }


def _of_requests() -> Calls:
    counted = RequestMetrics()
    template = "/agents/{agent_id}"

    async def metrics() -> None:
        counted.in_flight += 1
        counted.observe(method="GET", route=template, status=200, seconds=0.003)
        counted.in_flight -= 1

    async def log() -> None:
        facts = {"request_id": "0190c5a1e0f27c3b8a5d2f4e6b7c8d9e", "method": "GET"}
        facts |= {"route": template, "client_ip": "127.0.0.1"}
        log_request(**facts, status=200, duration_ms=3.14, user_id=None, **trace_ids())

    async def identified() -> None:
        identity = accepted_request_id(None)
        before = request_id.set(identity)
        identity.encode()
        request_id.reset(before)

    around = Middleware(RequestContext, metrics=counted)
    return {
        "metrics": metrics,
        "log": log,
        "request_id": identified,
        "request": asking(_service(around)),
        "request_without": asking(_service()),
    }


def _service(*middleware: Middleware) -> FastAPI:
    app = FastAPI(middleware=list(middleware))

    @app.get("/agents/{agent_id}")
    async def agent(agent_id: int) -> int:
        return agent_id

    return app


def measure() -> str:
    """Return the table; what newel's may cost at most stands beside what it costs."""
    ensure_peers()
    costs = {side: _on_top(rounds) for side, rounds in _rounds().items()}
    rows = [
        [
            row.what,
            f"{costs['newel'][call]:.2f} us",
            f"{row.limit_us:.0f} us" if math.isfinite(row.limit_us) else "",
            f"{costs['library'][call]:.2f} us",
        ]
        for call, row in ROWS.items()
    ]
    return markdown(
        ["CPU on top of a bare call, or of a request without", "newel", "at most", "a library"],
        rows,
    )


def _rounds() -> dict[str, list[dict[str, float]]]:
    with ExitStack() as stack:
        stack.enter_context(pinned())
        sides = {side: stack.enter_context(_started(command)) for side, command in SIDES.items()}
        rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(ROUNDS + 1):
            for side, process in sides.items():
                seen = _ask(process)
                if number:  # the first warms up
                    rounds[side].append(seen)
        for process in sides.values():
            process.communicate()  # the end of its input is its end
        return rounds


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _ask(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - as above
    process.stdin.write("measure\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise BenchmarkError("What is measured has ended early", "read the lines above")
    seen: dict[str, float] = json.loads(line)
    return seen


def _on_top(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    def cost(call: str) -> float:
        return median(one[call] - one.get(f"{call}_without", one["bare"]) for one in rounds)

    return {call: cost(call) for call in ROWS}


if __name__ == "__main__":
    if sys.argv[1:] == ["calls"]:
        answer(own_calls())
    else:
        sys.exit(tell(measure))
