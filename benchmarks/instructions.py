"""How many processor instructions a request takes in newel: a figure that no other load disturbs.

    python -m benchmarks.instructions            # compares with the committed figures
    python -m benchmarks.instructions --accept   # writes them, after a change that was meant

The service runs in one process under callgrind, called through ASGI, on a real PostgreSQL outside.
Each operation is asked N and then 2N times; the difference by N is what one request takes, without
what starting and stopping the count adds. Only the same build of Python on the same kind of machine
takes the same number, so on another one nothing is compared, and that is said.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

from benchmarks.asgi import Client
from benchmarks.callgrind import Callgrind, Request
from benchmarks.databases import prepared
from benchmarks.load import PATH
from benchmarks.report import RESULTS, save
from benchmarks.servers import ROOT, BenchmarkError, inherited
from benchmarks.service import newel_service
from newel.project import Project

OPERATIONS = ("get", "list", "post", "patch")
WARM_UP = 40
REQUESTS = 1
PAIRS = 15
"""How often N and 2N requests are counted.

The lowest of each leaves out what happens once in many requests (a garbage collection) or in some
seconds (a caller is looked up again), which under callgrind are 50 times fewer requests.
"""
ALLOWED = 1.03
"""How much more a request may take than the committed figure."""

FIGURES = RESULTS / "instructions.json"


def build() -> str:
    """Return what has to be the same for two figures to be comparable."""
    valgrind = subprocess.run(
        ["valgrind", "--version"],  # noqa: S607 - whichever is installed
        capture_output=True,
        text=True,
        check=True,
    )
    libc = " ".join(platform.libc_ver())
    return f"{sys.version}, {platform.machine()}, {libc}, {valgrind.stdout.strip()}"


# ---------------------------------------------------------------- inside valgrind


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


async def inside(workload: Mapping[str, Any]) -> None:
    """Ask every operation N and 2N times, and have callgrind write a count after each."""
    app = Project.find().load_app()
    user = workload["users"][0]
    body = json.dumps(workload["body"]).encode()
    client = Client(app, token=user["token"])
    callgrind = Callgrind()
    # A NOTIFY, at most fifty a second for all writes: told once, it falls into no single request.
    patch("newel.outbox.ANNOUNCE_SECONDS", 3600).start()
    async with app.router.lifespan_context(app):
        for operation in OPERATIONS:
            await repeat(client, operation, user["agents"][0], body, WARM_UP)
            gc.collect()  # now, and what is left is never looked at again: not somewhere in between
            gc.freeze()
            callgrind.send(Request.START)
            for count in PAIRS * (REQUESTS, 2 * REQUESTS):
                callgrind.send(Request.ZERO)
                await repeat(client, operation, user["agents"][0], body, count)
                callgrind.send(Request.DUMP)
            callgrind.send(Request.STOP)


# ---------------------------------------------------------------- outside


def measure() -> dict[str, int]:
    """Return the instructions a request takes, by operation."""
    if shutil.which("valgrind") is None:
        raise BenchmarkError("There is no valgrind here.", "install it: apt install valgrind")
    service = newel_service()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        with prepared("postgresql", service=service, directory=directory) as database:
            # Counts are only compared with each other when the same dictionaries collide.
            variables = database.environment() | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
            variables["ROLE"] = "web"  # what runs by the clock is no part of a request
            command = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
            command += [f"--callgrind-out-file={directory / 'count'}"]
            command += [sys.executable, "-m", "benchmarks.instructions", "--inside"]
            done = subprocess.run(
                [*command, str(database.workload)],
                cwd=service,
                env={**inherited(), **variables},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if not line.startswith("==")]
            raise BenchmarkError(f"callgrind failed: {said[-1:]}", "run it by hand")
        dumps = range(1, 2 * PAIRS * len(OPERATIONS) + 1)
        counts = [_count(directory / f"count.{number}") for number in dumps]
    starts = range(0, len(counts), 2 * PAIRS)
    return {
        operation: _difference(counts[start : start + 2 * PAIRS])
        for operation, start in zip(OPERATIONS, starts, strict=True)
    }


def _difference(counts: Sequence[int]) -> int:
    """Return what one request takes, from the counts of N and 2N requests in turn."""
    return (min(counts[1::2]) - min(counts[::2])) // REQUESTS


def _count(path: Path) -> int:
    [number] = re.findall(r"^summary: (\d+)$", path.read_text(), re.MULTILINE)
    return int(number)


def exceeded(measured: Mapping[str, int], committed: Mapping[str, int]) -> Sequence[str]:
    """Return a line for each operation that takes more than it may."""
    return [
        f"{operation} takes {measured[operation]:,} instructions, "
        f"{measured[operation] / was - 1:+.1%} of {was:,}; {ALLOWED - 1:+.0%} is allowed"
        for operation, was in committed.items()
        if measured[operation] > was * ALLOWED
    ]


def compare() -> tuple[Sequence[str], str]:
    """Measure and compare; return what is exceeded, and what to tell.

    Nothing is measured where nothing can be compared.
    """
    committed: dict[str, Any] = json.loads(FIGURES.read_text())["figures"]
    if shutil.which("valgrind") is None:
        return [], "not compared: there is no valgrind here"
    if committed["build"] != build():
        return [], f"not compared: the figures are of {committed['build']}, this is {build()}"
    measured = measure()
    told = ", ".join(f"{operation} {count:,}" for operation, count in measured.items())
    return exceeded(measured, committed["instructions"]), told


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the instructions a request takes.")
    parser.add_argument("--accept", action="store_true", help="write the committed figures")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(inside(json.loads(options.inside.read_text())))
        return 0
    try:
        if options.accept:
            measured = measure()
            save("instructions", {"build": build(), "instructions": measured})
            print(json.dumps(measured))
            return 0
        faults, told = compare()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(*faults, told, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
