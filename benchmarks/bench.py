"""Measure what a request costs in each variant; `make bench`, or python -m benchmarks.bench.

Every variant runs all the time and answers only while it is measured. A round measures each
operation in one variant after the other, so that whatever disturbs the machine disturbs all; the
figures are medians over the rounds. How and why: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.conformance import conforms
from benchmarks.databases import Backend, Prepared, prepared
from benchmarks.report import Measured, Report, show
from benchmarks.servers import (
    ROOT,
    VARIANTS,
    BenchmarkError,
    Server,
    Variant,
    cores,
    serving,
)
from benchmarks.service import newel_service
from benchmarks.statements import statements

OPERATIONS = ("get", "list", "post", "patch", "delete")
QUICK_OPERATIONS = ("get", "list", "post", "patch")
QUICK_VARIANTS = ("floor", "hand", "newel")
WARM_UP_SECONDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measurement: an operation of a server under so many connections."""

    server: Server
    operation: str
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one measurement saw."""

    cpu_us: float
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def measure(cell: Cell, database: Prepared, *, core: int, seconds: float) -> Sample:
    """Put load on a server for ``seconds`` and return the CPU time that a request cost it."""
    before = cell.server.cpu_seconds()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.load",
            database.workload,
            cell.operation,
            str(cell.server.port),
            str(cell.connections),
            str(seconds),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    spent = cell.server.cpu_seconds() - before
    seen: dict[str, Any] = json.loads(done.stdout or '{"error": "the load ended early"}')
    if "error" in seen:
        name = cell.server.variant.name
        raise BenchmarkError(f"{cell.operation} on {name}: {seen['error']}", "mend the variant")
    return Sample(cpu_us=spent / seen["requests"] * 1e6, **seen)


def rounds(
    cells: Sequence[Cell], database: Prepared, *, count: int, core: int, seconds: float
) -> dict[Cell, list[Sample]]:
    """Measure all ``cells``, one after the other, ``count`` times; a first round warms up."""
    samples: dict[Cell, list[Sample]] = {cell: [] for cell in cells}
    for number in range(count + 1):
        progress(f"{database.backend}: round {number} of {count}")
        for cell in _turned(cells, number):
            duration = seconds if number else WARM_UP_SECONDS
            sample = measure(cell, database, core=core, seconds=duration)
            if number:
                samples[cell].append(sample)
            if cell.operation not in {"get", "list"}:
                database.reset()
    return samples


def _turned(cells: Sequence[Cell], number: int) -> Iterator[Cell]:
    """Yield the cells in another order each round: nobody is always the first after a reset."""
    operations = dict.fromkeys((cell.operation, cell.connections) for cell in cells)
    for operation in operations:
        row = [cell for cell in cells if (cell.operation, cell.connections) == operation]
        turn = number % len(row)
        yield from row[turn:] + row[:turn]


def medians(samples: Iterable[Sample]) -> dict[str, float]:
    """Return the median of each figure, and how far the CPU figures lie apart."""
    seen = list(samples)
    cpu = [sample.cpu_us for sample in seen]
    return {
        "cpu_us": statistics.median(cpu),
        "cpu_us_lowest": min(cpu),
        "cpu_us_highest": max(cpu),
        "requests_per_second": statistics.median(s.requests / s.seconds for s in seen),
        "p50_ms": statistics.median(s.p50_ms for s in seen),
        "p99_ms": statistics.median(s.p99_ms for s in seen),
    }


def progress(text: str) -> None:
    print(f"{text} ...", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run: which variants, which operations, how long."""

    variants: Sequence[Variant]
    operations: Sequence[str]
    connections: Sequence[int]
    rounds: int
    seconds: float

    def run(self, backend: Backend, service: Path) -> list[Measured]:
        """Start database and servers, check that they agree, measure them."""
        core, load_core = cores()
        os.sched_setaffinity(0, {load_core})  # the database inherits it
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            progress(f"{backend}: database and servers")
            database = stack.enter_context(prepared(backend, service=service, directory=directory))
            servers = [
                stack.enter_context(
                    serving(
                        variant,
                        variables=database.environment(),
                        directory=service if variant.home == "newel" else ROOT,
                        log=directory / f"{variant.name}.log",
                        core=core,
                    )
                )
                for variant in self.variants
            ]
            workload = json.loads(database.workload.read_text())
            for server in servers:
                conforms(server, workload)
                database.reset()
            return self._measure(servers, database, load_core)

    def _measure(self, servers: Sequence[Server], database: Prepared, core: int) -> list[Measured]:
        cells = [
            Cell(server=server, operation=operation, connections=connections)
            for connections in self.connections
            for operation in self.operations
            for server in servers
        ]
        samples = rounds(cells, database, count=self.rounds, core=core, seconds=self.seconds)
        progress(f"{database.backend}: counting statements")
        counted = {
            (server, operation): statements(server, database, operation)
            for operation in self.operations
            for server in servers
        }
        memory = {server: server.resident_bytes() for server in servers}
        return [
            Measured(
                backend=database.backend,
                variant=cell.server.variant.name,
                operation=cell.operation,
                connections=cell.connections,
                statements=counted[cell.server, cell.operation],
                resident_bytes=memory[cell.server],
                samples=[asdict(sample) for sample in samples[cell]],
                **medians(samples[cell]),
            )
            for cell in cells
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a request costs in each variant.")
    parser.add_argument("--quick", action="store_true", help="under 90 s: floor, hand, newel")
    parser.add_argument("--variant", action="append", help="only this one; may be repeated")
    parser.add_argument("--only", action="append", choices=OPERATIONS, help="only this operation")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        report = Report(measured=_measured(options))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    show(report, seconds=time.monotonic() - start)
    return 0


def _measured(options: argparse.Namespace) -> list[Measured]:
    names = options.variant or (QUICK_VARIANTS if options.quick else [v.name for v in VARIANTS])
    variants = [variant for variant in VARIANTS if variant.name in names]
    if unknown := set(names) - {variant.name for variant in variants}:
        raise BenchmarkError(
            f"There is no variant {', '.join(sorted(unknown))}.",
            f"take of {', '.join(variant.name for variant in VARIANTS)}",
        )
    service = newel_service()
    quick = Session(
        variants=variants,
        operations=options.only or QUICK_OPERATIONS,
        connections=[16],
        rounds=5,
        seconds=0.7,
    )
    return quick.run("postgresql", service)


if __name__ == "__main__":
    sys.exit(main())
