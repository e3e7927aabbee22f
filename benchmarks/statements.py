"""How many SQL statements a request sends, counted exactly by the database itself."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.databases import Prepared
from benchmarks.load import STATUS, Connection, requests
from benchmarks.servers import BenchmarkError, Server

REQUESTS = 10
HEARD_SECONDS = 5.0
SETTLED_SECONDS = 0.1
SAID = re.compile(r"^\[([^]]*)] LOG:  (?:statement|execute [^:]*):\s*(.*)", re.MULTILINE)
FRAME = re.compile(r"(?i)^(BEGIN|COMMIT|ROLLBACK|START TRANSACTION|SELECT 1\b|;|$)")


def statements(server: Server, database: Prepared, operation: str) -> tuple[float, float] | None:
    """Return the statements that a request sends, and apart those that only frame them.

    BEGIN, COMMIT, ROLLBACK and pings are the frame. PostgreSQL logs every statement meanwhile;
    ``None`` on SQLite, which keeps no log. What a server remembers between requests (prepared
    statements, callers) it has seen before the counting.
    """
    if database.log is None:
        return None
    workload = json.loads(database.workload.read_text())
    feed = requests(operation, workload)
    connection = Connection(server.port)
    with connection.socket:
        _ask(connection, feed, operation, count=3 * len(workload["users"]))
        ask = partial(_ask, connection, feed, operation, count=REQUESTS)
        logged = asyncio.run(_logged(database, database.log, ask))
    said = [statement for user, statement in logged if user == server.variant.name]
    database.reset()
    frame = sum(bool(FRAME.match(statement)) for statement in said)
    return (len(said) - frame) / REQUESTS, frame / REQUESTS


def _ask(connection: Connection, feed: Iterator[bytes], operation: str, *, count: int) -> None:
    for _ in range(count):
        connection.send(next(feed))
        while not connection.is_answered(STATUS[operation]):
            pass


async def _logged(database: Prepared, log: Path, work: Callable[[], None]) -> list[tuple[str, str]]:
    """Return who sent what while ``work`` ran."""
    async with database.session() as session:
        await _log_statements(session, "all")
        start = _settled_size(log)  # and every process has heard by then
        work()
        end = _settled_size(log)
        await _log_statements(session, "none")
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read(end - start).decode(errors="replace")
    return [(found[1], found[2]) for found in SAID.finditer(lines)]


def _settled_size(log: Path) -> int:
    """Return the size when it has stopped growing: some end their transaction after the answer."""
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(SETTLED_SECONDS)
    return size


async def _log_statements(session: AsyncConnection, what: str) -> None:
    """Tell all connections what to log, and wait until they have heard.

    PostgreSQL signals its processes in one sweep: what one has heard, all have.
    """
    await session.exec_driver_sql("ALTER SYSTEM SET log_line_prefix = '[%u] '")
    await session.exec_driver_sql(f"ALTER SYSTEM SET log_statement = '{what}'")
    await session.exec_driver_sql("SELECT pg_reload_conf()")
    end = time.monotonic() + HEARD_SECONDS
    while await session.scalar(text("SHOW log_statement")) != what:
        if time.monotonic() > end:
            raise BenchmarkError("PostgreSQL does not log statements.", "read its log")
