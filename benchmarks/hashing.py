"""What log-ins do to everybody else: the latency of GET with and without passwords being hashed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.databases import Prepared, prepared
from benchmarks.load import load_command
from benchmarks.report import markdown, tell
from benchmarks.servers import ROOT, VARIANTS, BenchmarkError, Server, pinned, serving
from benchmarks.service import newel_service

NAME = "hashing"
ROUNDS = 5
SECONDS = 2.0
CONNECTIONS, LOGINS_AT_ONCE = 4, 4
FIGURES = ("p50_ms", "p99_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What the load saw of GET alone and of GET beside log-ins."""

    alone: dict[str, Any]
    beside: dict[str, Any]
    logins_per_second: float


def measure() -> str:
    """Return the table."""
    service = newel_service()
    everything = os.sched_getaffinity(0)
    [newel] = [variant for variant in VARIANTS if variant.name == "newel"]
    with (
        pinned() as (core, _),
        tempfile.TemporaryDirectory() as directory,
        prepared("postgresql", service=service, directory=Path(directory)) as database,
        serving(
            newel,
            variables=database.environment() | {"LOGIN_LIMIT": "100000000/minute"},
            directory=service,
            core=core,
        ) as server,
    ):
        # Hashing runs in threads: they may have both cores, as in production.
        os.sched_setaffinity(server.pid, everything)
        return _table([_round(server, database) for _ in range(ROUNDS)])


def _round(server: Server, database: Prepared) -> Round:
    alone = _finish(_start(server, database, "get", CONNECTIONS))
    logins = _start(server, database, "login", LOGINS_AT_ONCE)
    beside = _finish(_start(server, database, "get", CONNECTIONS))
    hashed = _finish(logins)
    return Round(
        alone=alone, beside=beside, logins_per_second=hashed["requests"] / hashed["seconds"]
    )


def _start(
    server: Server, database: Prepared, operation: str, connections: int
) -> subprocess.Popen[str]:
    command = load_command(
        database.workload, operation, port=server.port, connections=connections, seconds=SECONDS
    )
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _finish(load: subprocess.Popen[str]) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(load.communicate()[0] or '{"error": "the load ended early"}')
    if "error" in seen:
        raise BenchmarkError(f"The load failed: {seen['error']}", "read .benchmarks/logs")
    return seen


def _table(rounds: Sequence[Round]) -> str:
    alone, beside = [one.alone for one in rounds], [one.beside for one in rounds]
    rows = [
        [what, *(f"{median(each[figure] for each in seen):.1f} ms" for figure in FIGURES)]
        for what, seen in (("GET one", alone), ("GET one beside log-ins", beside))
    ]
    logins = median(one.logins_per_second for one in rounds)
    rows.append(["log-ins a second meanwhile", f"{logins:.0f}", ""])
    return markdown(["", "p50", "p99"], rows)


if __name__ == "__main__":
    sys.exit(tell(measure))
