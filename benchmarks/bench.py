"""Measure what a request costs in each variant; `make bench`, or python -m benchmarks.bench.

Every variant runs all the time and answers only while it is measured. A round measures each
operation in one variant after the other, so that whatever disturbs the machine disturbs all; the
figures are medians over the rounds. How and why: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import edge, hashing, openapi, routing, startup
from benchmarks.conformance import conforms
from benchmarks.databases import Backend, Prepared, prepared
from benchmarks.load import load_command
from benchmarks.peers_environment import ensure_peers
from benchmarks.performance import OPERATIONS, OWN, page
from benchmarks.report import Measured, Report, Sample, plain, save, show, write_section
from benchmarks.servers import (
    LIBRARIES,
    ROOT,
    STATE,
    VARIANTS,
    BenchmarkError,
    Server,
    Variant,
    pinned,
    serving,
)
from benchmarks.service import newel_service
from benchmarks.statements import statements

QUICK_OPERATIONS = ("get", "list", "post", "patch")
QUICK_VARIANTS = ("floor", "hand", "newel", "newel-web")
WARM_UP_SECONDS = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measurement: an operation of a server under so many connections."""

    server: Server
    operation: str
    connections: int


def measure(cell: Cell, database: Prepared, *, core: int, seconds: float) -> Sample:
    """Put load on a server for ``seconds`` and return the CPU time that a request cost it."""
    before = cell.server.cpu_seconds()
    done = subprocess.run(
        load_command(
            database.workload,
            cell.operation,
            port=cell.server.port,
            connections=cell.connections,
            seconds=seconds,
        ),
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
        with ExitStack() as stack:
            core, load_core = stack.enter_context(pinned())  # the database inherits it
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            progress(f"{backend}: database and servers")
            database = stack.enter_context(prepared(backend, service=service, directory=directory))
            servers = [
                stack.enter_context(
                    serving(
                        variant,
                        variables=database.environment(variant.name),
                        directory=service if variant.home == "newel" else ROOT,
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
        if not self.rounds:
            return []
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
                samples=samples[cell],
                resident_bytes=memory[cell.server],
                statements=counted[cell.server, cell.operation],
            )
            for cell in cells
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a request costs in each variant.")
    parser.add_argument("--quick", action="store_true", help="80 s: floor, hand, newel")
    parser.add_argument("--check", action="store_true", help="compare the answers, time nothing")
    parser.add_argument("--variant", action="append", help="only this one; may be repeated")
    parser.add_argument("--only", action="append", choices=OPERATIONS, help="only this operation")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        report = Report(measured=_measured(options))
        if not options.check:
            show(report, seconds=time.monotonic() - start)
            save("last", plain(report.measured), directory=STATE)
        if _is_whole(options):
            save("requests", _without_names(report))
            write_section("requests", page(report))
            for figure in (startup, openapi, routing, hashing, edge):
                progress(figure.NAME)
                write_section(figure.NAME, figure.measure())
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _is_whole(options: argparse.Namespace) -> bool:
    return not (options.quick or options.check or options.variant or options.only)


def _without_names(report: Report) -> list[dict[str, Any]]:
    """Return what is committed: see benchmarks/performance.py for why without names."""
    return [
        one | {"variant": "library" if one["variant"] in LIBRARIES else one["variant"]}
        for one in plain(report.measured)
    ]


def _measured(options: argparse.Namespace) -> list[Measured]:
    variants = _chosen(options)
    if any(variant.home == "peers" for variant in variants):
        ensure_peers()
    service = newel_service()
    measured: list[Measured] = []
    for backend, session in _sessions(options, variants):
        measured += session.run(backend, service)
    return measured


def _chosen(options: argparse.Namespace) -> list[Variant]:
    names = options.variant or (QUICK_VARIANTS if options.quick else [v.name for v in VARIANTS])
    if unknown := set(names) - {variant.name for variant in VARIANTS}:
        raise BenchmarkError(
            f"There is no variant {', '.join(sorted(unknown))}.",
            f"take of {', '.join(variant.name for variant in VARIANTS)}",
        )
    return [variant for variant in VARIANTS if variant.name in names]


def _sessions(
    options: argparse.Namespace, variants: Sequence[Variant]
) -> Iterator[tuple[Backend, Session]]:
    """Yield what to run: in a whole run everything, else PostgreSQL at 16 connections."""
    operations = options.only or (QUICK_OPERATIONS if options.quick else OPERATIONS)
    first = Session(
        variants=variants,
        operations=operations,
        connections=[16],
        rounds=0 if options.check else 5 if options.quick else 7,
        seconds=0.45,
    )
    yield "postgresql", first
    own = [variant for variant in variants if variant.name in OWN]
    if not options.quick and own:
        other_loads = replace(first, variants=own, connections=[1, 64], rounds=min(first.rounds, 5))
        yield "postgresql", other_loads
        without_usual = [variant for variant in own if variant.name in QUICK_VARIANTS]
        yield "sqlite", replace(first, variants=without_usual, rounds=min(first.rounds, 5))


if __name__ == "__main__":
    sys.exit(main())
