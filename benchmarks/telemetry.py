"""What is on by default costs a request, and what traces do: of a tenth of all requests, of all.

"On by default" is the middleware and what ``newel serve`` adds to uvicorn; see ``variants.bare``.

The servers run all the time on the first core and are measured in turns, as `bench` does; the
collector, on the second, reads what it gets. A turn is longer than spans wait to be sent, so what
sending them costs is in the figures.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

from benchmarks.bench import Cell, progress, rounds
from benchmarks.databases import prepared
from benchmarks.report import Sample, markdown, save, tell, write_section
from benchmarks.servers import BenchmarkError, Variant, pinned, serving
from benchmarks.service import newel_service

NAME = "telemetry"
OPERATIONS = {"get": "GET one", "list": "GET list", "post": "POST"}
ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 16
RATIOS = ("0.1", "1")
ALLOWED = {"0.1": 1.5}
"""How many times the CPU of a request without traces, as issue 3 allows."""

BARE = "bare"


class Collector(ThreadingHTTPServer):
    """Takes spans and counts their bytes."""

    bytes_taken = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)  # noqa: S101 - it is the one below
        self.server.bytes_taken += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting() -> Generator[Collector]:
    """Run a collector inside the block, in a thread of this process."""
    with Collector(("127.0.0.1", 0), _Handler) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def variants(collector: Collector) -> list[Variant]:
    """Return the service as it is, with each ratio of traces, and without what is on by default."""
    url = f"http://127.0.0.1:{collector.server_port}"
    chosen: dict[str, Mapping[str, str]] = {"off": {}}
    chosen |= {ratio: {"TRACES_URL": url, "TRACES_RATIO": ratio} for ratio in RATIOS}
    served = [
        Variant(name=name, home="newel", variables={"ROLE": "web", **variables})
        for name, variables in chosen.items()
    ]
    return [*served, replace(served[0], name=BARE, module="variants.bare")]


def measure() -> str:
    """Return the table; raises ``BenchmarkError`` when a ratio is above what is allowed."""
    samples = _samples()
    off = {operation: samples["off", operation] for operation in OPERATIONS}
    ratios = {
        (name, operation): _ratio(samples[name, operation], off[operation])
        for name in RATIOS
        for operation in OPERATIONS
    }
    for operation in OPERATIONS:
        ratios[BARE, operation] = _ratio(off[operation], samples[BARE, operation])
    save(NAME, {f"{name} {operation}": ratio for (name, operation), ratio in ratios.items()})
    for (name, operation), ratio in ratios.items():
        if ratio > ALLOWED.get(name, ratio):
            raise BenchmarkError(
                f"{operation} with {name} traced costs {ratio:.2f} times as much as without, "
                f"at most {ALLOWED[name]}",
                "profile it",
            )
    rows = [["as it is", *(f"{_middle(off[operation]):.0f} us" for operation in OPERATIONS)]]
    said = {BARE: "by that without what is on by default"}
    said |= {name: f"TRACES_RATIO={name}, by that without" for name in RATIOS}
    for name, words in said.items():
        rows.append([words, *(f"x {ratios[name, operation]:.2f}" for operation in OPERATIONS)])
    return markdown(["server CPU a request", *OPERATIONS.values()], rows)


def _samples() -> dict[tuple[str, str], list[Sample]]:
    service = newel_service()
    with ExitStack() as stack:
        core, load_core = stack.enter_context(pinned())
        collector = stack.enter_context(collecting())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress("database and servers")
        database = stack.enter_context(prepared("postgresql", service=service, directory=directory))
        servers = [
            stack.enter_context(
                serving(variant, variables=database.environment(), directory=service, core=core)
            )
            for variant in variants(collector)
        ]
        cells = [
            Cell(server=server, operation=operation, connections=CONNECTIONS)
            for operation in OPERATIONS
            for server in servers
        ]
        seen = rounds(cells, database, count=ROUNDS, core=load_core, seconds=SECONDS)
        if not collector.bytes_taken:
            raise BenchmarkError("No span has come", "read .benchmarks/logs")
    return {(cell.server.variant.name, cell.operation): taken for cell, taken in seen.items()}


def _ratio(samples: list[Sample], off: list[Sample]) -> float:
    pairs = zip(samples, off, strict=True)
    return round(median(mine.cpu_us / its.cpu_us for mine, its in pairs), 3)


def _middle(samples: list[Sample]) -> float:
    return median(sample.cpu_us for sample in samples)


def written() -> str:
    """Measure, put the table into the docs, and return it."""
    table = measure()
    write_section(NAME, table)
    return table


if __name__ == "__main__":
    sys.exit(tell(written))
