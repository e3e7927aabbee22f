"""The databases under test: an SQLite file, or a real PostgreSQL server that can be crashed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from newel.clock import utc_now
from newel.embedded import embedded_postgres

__all__ = ["Backend", "DatabaseUnderTest", "PostgresUnderTest", "SqliteUnderTest", "opened"]

Backend = Literal["sqlite", "postgresql"]
_LOOK_SECONDS: Final = 0.02
_RECOVERY_SECONDS: Final = 30.0


class DatabaseUnderTest:
    """A database at ``url``; ``engine`` is the harness's own, without newel's pools.

    ``up_since`` is when it last began to accept connections, ``None`` while it does not.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine: AsyncEngine = create_async_engine(url, poolclass=NullPool)
        self.up_since: datetime | None = utc_now()

    async def is_locked(self) -> bool:
        """Tell whether somebody holds up all who write."""
        return False

    async def faults(self) -> list[str]:
        """Return what the database itself finds wrong with its files."""
        raise NotImplementedError


class SqliteUnderTest(DatabaseUnderTest):
    """A file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite+aiosqlite:///{path}")
        self._path = path

    async def is_locked(self) -> bool:
        return await asyncio.to_thread(self._is_locked)

    def _is_locked(self) -> bool:
        connection = sqlite3.connect(self._path, timeout=0.3, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
        finally:
            connection.close()
        return False

    async def faults(self) -> list[str]:
        async with self.engine.connect() as connection:
            found = await connection.scalars(text("PRAGMA integrity_check"))
            return [line for line in found if line != "ok"]


class PostgresUnderTest(DatabaseUnderTest):
    """A database on a server of its own, whose main process is ``pid``."""

    def __init__(self, url: str, *, pid: int, log: Path) -> None:
        super().__init__(url)
        self._server = psutil.Process(pid)
        self._log = log
        # How it was started, to start it again in the same way.
        self._command = self._server.cmdline()
        self._account = {"user": self._server.uids().real, "group": self._server.gids().real}
        self._restarted: subprocess.Popen[Any] | None = None

    async def kill_backend(self, number: int) -> None:
        """Kill the process behind one of the service's connections; the server starts afresh."""
        backends = [one for one in self._server.children() if self._serves(one)]
        self.up_since = None
        if backends:
            victim = sorted(backends, key=lambda one: one.pid)[number % len(backends)]
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        await self._recovered()

    @staticmethod
    def _serves(process: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess, IndexError):
            return "[local]" in process.cmdline()[0]
        return False

    async def crash(self) -> None:
        """Stop the server as by ``pg_ctl -m immediate``, which a power cut is like; start it."""
        self.up_since = None
        self._server.send_signal(signal.SIGQUIT)
        while self._is_running():  # noqa: ASYNC110 - it ends in another process
            await asyncio.sleep(_LOOK_SECONDS)
        self._start()
        await self._recovered()

    def _is_running(self) -> bool:
        if self._restarted is not None:
            return self._restarted.poll() is None
        with suppress(psutil.NoSuchProcess):
            return self._server.status() != psutil.STATUS_ZOMBIE
        return False

    def _start(self) -> None:
        mine = os.geteuid() == self._account["user"]
        account: dict[str, Any] = {} if mine else {**self._account, "extra_groups": ()}
        with self._log.open("ab") as log:
            started: subprocess.Popen[Any] = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **account,
            )
        self._restarted, self._server = started, psutil.Process(started.pid)

    async def _recovered(self) -> None:
        async with asyncio.timeout(_RECOVERY_SECONDS):
            while not await self._answers():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(_LOOK_SECONDS)
        self.up_since = utc_now()

    async def _answers(self) -> bool:
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (DBAPIError, OSError):
            return False
        return True

    def end(self) -> None:
        """Stop the server if it is one that was started here."""
        if self._restarted is not None:
            self._restarted.send_signal(signal.SIGQUIT)
            self._restarted.wait()

    async def faults(self) -> list[str]:
        """Compare every index with its table, by PostgreSQL's own amcheck."""
        check = text(
            "SELECT c.relname, bt_index_check(c.oid, true) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam"
            " WHERE c.relkind = 'i' AND n.nspname = 'public' AND a.amname = 'btree'"
        )
        async with self.engine.begin() as connection:
            await connection.execute(text("CREATE EXTENSION IF NOT EXISTS amcheck"))
            try:
                await connection.execute(check)
            except DBAPIError as error:
                return [str(error.orig)]
        return []


@contextmanager
def opened(backend: Backend, folder: Path) -> Generator[DatabaseUnderTest]:
    """Have an empty database as long as the block lasts."""
    if backend == "sqlite":
        yield SqliteUnderTest(folder / "shop.db")
        return
    with embedded_postgres(durable=True) as server:
        database = PostgresUnderTest(server.url(), pid=server.pid, log=folder / "postgresql.log")
        try:
            yield database
        finally:
            database.end()
