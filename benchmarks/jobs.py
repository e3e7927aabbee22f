"""How many jobs a second two worker processes do, and what finished rows cost.

    python -m benchmarks.jobs            # both databases, into docs/performance.md; two minutes
    python -m benchmarks.jobs --quick    # a fifth of the jobs, one round

The producer is this process: it enqueues no-op jobs, fifty and then one a transaction, while the
workers run them; the time is from the first enqueue to the end of the last job. Everything is on
one machine, the database too; where other programs run as well, compare the CPU time a job takes.
Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import structlog
import uvloop
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, text

from benchmarks.report import markdown, write_section
from newel.db import Database
from newel.embedded import embedded_postgres
from newel.events import OUTBOX
from newel.job_queue import PURGE_ROWS, JobQueue, Outcome
from newel.job_rows import JOBS, STEPS
from newel.jobs import JobRun, job
from newel.testing import PostgresDatabases
from newel.worker import Background, Worker, WorkerLimits

Backend = Literal["postgresql", "sqlite"]
GOALS: dict[tuple[str, Backend], float] = {
    ("jobs a second, 50 a transaction", "postgresql"): 2500.0,
    ("jobs a second, 50 a transaction", "sqlite"): 2000.0,
    ("claim among 1,000,000 finished rows / among none", "postgresql"): 1.2,
    ("claim among 1,000,000 finished rows / among none", "sqlite"): 1.2,
    ("started twice, of 3,000 by 3 workers", "postgresql"): 0.0,
    ("started twice, of 3,000 by 3 workers", "sqlite"): 0.0,
}
FINISHED_ROWS = 1_000_000
HEAD = ("", "database", "figure", "range, or the two", "goal")


@job()
async def nothing(job: JobRun, number: int) -> None: ...


@job()
async def note(job: JobRun, number: int) -> None:
    """Write down who started it, in one write that no other process's can split."""
    os.write(job.app.state.notes, f"{number}\n".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    backend: Backend
    value: float
    spread: str = ""

    @property
    def goal(self) -> float | None:
        return GOALS.get((self.name, self.backend))

    @property
    def missed(self) -> bool:
        if self.goal is None:
            return False
        better_high = self.name.startswith("jobs a second")
        return self.value < self.goal if better_high else self.value > self.goal


# ---------------------------------------------------------------- workers


async def work(url: str, notes: Path) -> None:
    """Be a worker process until SIGTERM."""
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    app = FastAPI()
    app.state.database = database = Database(url)
    app.state.notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    background = Background(
        jobs={one.name: one for one in (nothing, note)}, handlers={}, schedules=()
    )
    worker = Worker(app, background, limits=WorkerLimits())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await database.close()


@contextmanager
def workers(url: str, count: int, notes: Path) -> Generator[None]:
    """Have ``count`` worker processes run inside the block."""
    command = [sys.executable, "-m", "benchmarks.jobs", "--worker", url, str(notes)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        for process in started:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            process.stdout.readline()  # the line worker_started
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate(timeout=60)


# ---------------------------------------------------------------- measuring


async def make_tables(database: Database) -> None:
    async with database.engine.begin() as connection:
        for table in (OUTBOX, JOBS, STEPS):
            await connection.run_sync(table.create)


async def left(database: Database) -> int:
    async with database.reading_engine.connect() as connection:
        unfinished = select(func.count()).where(JOBS.c.finished_at.is_(None))
        return (await connection.execute(unfinished)).scalar_one()


async def finished(database: Database) -> None:
    """Wait until all jobs have ended."""
    while await left(database):  # noqa: ASYNC110 - they end in other processes
        await asyncio.sleep(0.02)


async def clear(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(JOBS.delete())


async def throughput(database: Database, *, jobs: int, a_unit: int) -> float:
    """Return jobs a second, from the first enqueue to the end of the last."""
    began = time.perf_counter()
    for start in range(0, jobs, a_unit):
        async with database.write(None) as unit:
            for number in range(start, start + a_unit):
                unit.enqueue(nothing, number)
    await finished(database)
    return jobs / (time.perf_counter() - began)


async def started_twice(database: Database, notes: Path, jobs: int) -> int:
    for start in range(0, jobs, 100):
        async with database.write(None) as unit:
            for number in range(start, start + 100):
                unit.enqueue(note, number)
    await finished(database)
    counts = Counter(notes.read_text().split())  # noqa: ASYNC240 - nothing else runs now
    if len(counts) != jobs:
        raise SystemExit(f"{jobs - len(counts)} jobs never started")
    return sum(count > 1 for count in counts.values())


async def claim_ms(database: Database, rounds: int) -> list[float]:
    """Return how long it takes to claim ten jobs and to end them, round by round."""
    queue = JobQueue(database, worker="benchmark")
    found: list[float] = []
    for _ in range(rounds):
        async with database.write(None) as unit:
            for number in range(10):
                unit.enqueue(nothing, number)
        began = time.perf_counter()
        claimed = await queue.claim("default", most=10)
        await queue.finish([Outcome(one.id, one.attempt, "done") for one in claimed])
        found.append((time.perf_counter() - began) * 1000)
        if len(claimed) != 10:
            raise SystemExit("a claim did not find its ten jobs")
    return found


async def fill(database: Database, rows: int) -> None:
    """Make as many finished rows as there would be after some days."""
    names = [column.name for column in JOBS.columns]
    async with database.write(None) as unit:
        for number in range(1000):
            unit.enqueue(nothing, number)
    async with database.engine.begin() as connection:
        await connection.execute(
            JOBS.update().values(state="done", attempt=1, finished_at=func.current_timestamp())
        )
        copied = ", ".join(names[1:])
        fresh = "lower(hex(randomblob(16)))" if database.is_sqlite else "gen_random_uuid()"
        numbers = (
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :times)"
            " SELECT i FROM n)"
        )
        statement = (
            f"INSERT INTO jobs (id, {copied}) SELECT {fresh}, {copied} FROM jobs, {numbers} t"
        )
        await connection.execute(text(statement), {"times": rows // 1000 - 1})
    engine = database.engine if database.is_sqlite else database.reading_engine  # AUTOCOMMIT
    async with engine.connect() as connection:
        await connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE jobs"))
        await connection.commit()


# ---------------------------------------------------------------- the run


def cpu_seconds(server: int | None) -> float:
    """Return what this process, its workers and the database server have used so far."""
    found = [psutil.Process(), *psutil.Process().children()]
    if server is not None:
        found += [psutil.Process(server), *psutil.Process(server).children()]
    total = 0.0
    for process in found:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


async def measure(
    backend: Backend, urls: Sequence[str], *, server: int | None, quick: bool
) -> list[Figure]:
    database, empty, full = (Database(url) for url in urls)
    for one in (database, empty, full):
        await make_tables(one)
    figures: list[Figure] = []
    jobs, rounds = (2000, 1) if quick else (10_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        with workers(database.url, 2, notes):
            await throughput(database, jobs=500, a_unit=50)  # connections, caches
            for a_unit, share in ((50, 1), (1, 5)):
                cpu, count = cpu_seconds(server), jobs // share
                rates = [
                    await throughput(database, jobs=count, a_unit=a_unit) for _ in range(rounds)
                ]
                cost = (cpu_seconds(server) - cpu) / (count * rounds) * 1e6
                spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
                name = f"jobs a second, {a_unit} a transaction"
                value = statistics.median(rates)
                figures.append(Figure(name=name, backend=backend, value=value, spread=spread))
                name = f"CPU us a job, {a_unit} a transaction: producer, workers, server"
                figures.append(Figure(name=name, backend=backend, value=cost))
                await clear(database)
        with workers(database.url, 3, notes):
            twice = await started_twice(database, notes, 3000)
    name = "started twice, of 3,000 by 3 workers"
    figures.append(Figure(name=name, backend=backend, value=twice))
    figures.append(await claiming(backend, empty, full, rows=FINISHED_ROWS // (5 if quick else 1)))
    figures.append(await removing(backend, full))
    for one in (database, empty, full):
        await one.close()
    return figures


async def claiming(backend: Backend, empty: Database, full: Database, *, rows: int) -> Figure:
    """Compare claims in turns, so that what disturbs one disturbs the other."""
    await fill(full, rows)
    times: dict[Database, list[float]] = {empty: [], full: []}
    for database in (empty, full):
        await claim_ms(database, 20)
    for _ in range(15):
        for database in (empty, full):
            times[database] += await claim_ms(database, 10)
    middle = {database: statistics.median(found) for database, found in times.items()}
    return Figure(
        name=f"claim among {rows:,} finished rows / among none",
        backend=backend,
        value=middle[full] / middle[empty],
        spread=f"{middle[full]:.2f} / {middle[empty]:.2f} ms",
    )


async def removing(backend: Backend, full: Database) -> Figure:
    """Have old rows removed as a worker does, a thousand at a time."""
    queue, times = JobQueue(full, worker="benchmark"), list[float]()
    for _ in range(20):
        began = time.perf_counter()
        removed = await queue.purge("done", days=-1)
        times.append((time.perf_counter() - began) * 1000)
        if removed != PURGE_ROWS:
            raise SystemExit(f"{removed} rows were removed at once, not {PURGE_ROWS:,}")
    return Figure(
        name=f"ms in which {PURGE_ROWS:,} of the finished rows are removed",
        backend=backend,
        value=statistics.median(times),
        spread=f"{min(times):.0f} to {max(times):.0f}",
    )


def rows(figures: Sequence[Figure]) -> list[list[str]]:
    """Return the rows of the table under ``HEAD``."""
    found: list[list[str]] = []
    for figure in figures:
        goal = "" if figure.goal is None else f"{figure.goal:,g}{' missed' * figure.missed}"
        value = f"{figure.value:,.2f}" if "/" in figure.name else f"{figure.value:,.0f}"
        found.append([figure.name, figure.backend, value, figure.spread, goal])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the jobs, one round")
    parser.add_argument("--worker", nargs=2, metavar=("URL", "NOTES"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        uvloop.run(work(chosen.worker[0], Path(chosen.worker[1])))
        return 0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        urls = [f"sqlite+aiosqlite:///{folder}/{name}.db" for name in ("a", "b", "c")]
        figures += uvloop.run(measure("sqlite", urls, server=None, quick=chosen.quick))
    with embedded_postgres(durable=True) as server:
        databases = PostgresDatabases(server.url())
        urls = [databases.create() for _ in range(3)]
        figures += uvloop.run(measure("postgresql", urls, server=server.pid, quick=chosen.quick))
    table = Table(*HEAD, title="Jobs")
    for row in rows(figures):
        table.add_row(*row)
    Console(width=120).print(table)
    if not chosen.quick:
        write_section("jobs", markdown(HEAD, rows(figures)))
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
