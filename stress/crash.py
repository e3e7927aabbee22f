"""Kill the parts of a service at any moment, and see that it keeps every promise.

Ten clients place orders and move money, with keys, while the API, two workers and the database are
killed. Then the clients stop, the jobs end, and the tables have to agree with what was answered.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from newel.db import Database
from newel.entity import Entity
from stress.blows import KILL_FILE, Blow, Blows, Kind, find_strace, plan
from stress.clients import Clients
from stress.databases import Backend, DatabaseUnderTest, opened
from stress.figures import Figure, Result
from stress.fleet import ROOT, Fleet
from stress.invariants import EXAMPLES, find, invariants
from stress.monitor import Monitor
from stress.shop import application
from stress.shop.orders import Customer, Purse

__all__ = ["Crash", "Progress"]

Progress = Callable[[int, int, str], None]
"""Called with how many blows were dealt, of how many, and what comes now."""

LEASE_SECONDS: Final = 2.0
OVERDUE_SECONDS: Final = 1.0
RESTART_SECONDS: Final = 3.0

_CUSTOMERS: Final = 5
_PURSES: Final = 6
_PURSE_CENTS: Final = 100_000
_MOST_OPEN: Final = 30  # clients wait for workers: SQLite's lock is not for who floods it
_ANSWERS_BETWEEN: Final = (3, 15)
_STALLED_SECONDS: Final = 15.0
_IDLE_SECONDS: Final = LEASE_SECONDS + 5.0
_REPLAYED_AT_THE_END: Final = 50
_SECRET: Final = "kX3vR8qTz1mWb7LpYc5NdJf2HsGe9Ua4"  # noqa: S105 - of a service that lives for minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """One run: ``kills`` at random moments and ``syscalls`` at system calls.

    ``only`` leaves kinds of blows out. ``folder`` keeps the logs, and SQLite's file.
    """

    database: Backend
    kills: int
    syscalls: int
    seed: int
    folder: Path
    sabotage: str | None = None
    only: Sequence[Kind] = ()

    async def run(self, progress: Progress) -> Result:
        """Run it; ``ConfigurationError`` when it cannot be run here."""
        began = time.monotonic()
        if self.syscalls:
            find_strace()
        blows = plan(
            self.database, kills=self.kills, syscalls=self.syscalls, seed=self.seed, only=self.only
        )
        with opened(self.database, self.folder) as database:
            return await _Run(self, database).run(blows, progress, began=began)


class _Run:
    def __init__(self, setting: Crash, database: DatabaseUnderTest) -> None:
        self._setting = setting
        self._database = database
        self._fleet = Fleet(
            environment=self._environment(), folder=setting.folder, port=_free_port()
        )
        self._monitor = Monitor(database, working=self._fleet.working)
        self._blows = Blows(
            self._fleet, database, self._monitor, seed=setting.seed, folder=setting.folder
        )

    def _environment(self) -> dict[str, str]:
        folder = self._setting.folder
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return kept | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "DATABASE_URL": self._database.url,
            "SECRET_KEY": _SECRET,
            "MIGRATIONS": str(folder / "migrations"),
            "MAIL_URL": f"file:{folder}/mails",
            "API_LIMIT": "1000000/minute",
            "ROLE": "web",
            "JOB_CONCURRENCY": "4",
            "JOB_LEASE_SECONDS": str(LEASE_SECONDS),
            "KILL_FILE": str(folder / KILL_FILE),
            "DELIVERIES": str(folder / "deliveries"),
            "SABOTAGE": self._setting.sabotage or "",
        }

    async def run(self, blows: Sequence[Blow], progress: Progress, *, began: float) -> Result:
        customers, purses = await self._fill()
        clients = Clients(
            self._fleet.api.url,
            seed=self._setting.seed,
            customers=customers,
            purses=purses,
            may_go_on=lambda: self._monitor.open < _MOST_OPEN,
        )
        try:
            await self._fleet.start()
            self._fleet.restart_seconds.clear()  # the first start compiles modules
            async with _beside(self._monitor.watch()):
                await self._under_load(clients, blows, progress)
                progress(len(blows), len(blows), "waiting for the jobs")
                await self._idle()
                await clients.replay_some(_REPLAYED_AT_THE_END)
            exit_codes = await self._fleet.stop()
        finally:
            await self._fleet.end()
            await clients.close()
        figures = await self._figures(clients, exit_codes)
        await self._database.engine.dispose()
        return self._result(figures, seconds=time.monotonic() - began)

    async def _fill(self) -> tuple[list[UUID], list[UUID]]:
        (self._setting.folder / "migrations").mkdir()  # empty: what a service makes them of
        database = Database(self._database.url)
        async with database.engine.begin() as connection:
            await connection.run_sync(Entity.metadata.create_all, application.tables())
        async with database.write(None) as work:
            customers = [Customer() for _ in range(_CUSTOMERS)]
            purses = [Purse(balance_cents=_PURSE_CENTS) for _ in range(_PURSES)]
            work.session.add_all([*customers, *purses])
        await database.close()
        return [one.id for one in customers], [one.id for one in purses]

    async def _under_load(
        self, clients: Clients, blows: Sequence[Blow], progress: Progress
    ) -> None:
        """Deal the blows, each after some more answers; then let the clients get theirs."""
        answered = asyncio.create_task(clients.run())
        try:
            for number, blow in enumerate(blows):
                progress(number, len(blows), blow.kind)
                await self._answered(clients, self._blows.chance.randint(*_ANSWERS_BETWEEN))
                await self._blows.strike(blow)
            clients.stop()
            await answered
        finally:
            answered.cancel()

    async def _answered(self, clients: Clients, more: int) -> None:
        """Wait until so many more requests were answered, or nothing has been for long."""
        goal = len(clients.ledger.acknowledged) + more
        end = time.monotonic() + _STALLED_SECONDS
        while len(clients.ledger.acknowledged) < goal:
            if time.monotonic() > end:
                clients.ledger.unexpected.append(f"no {more} answers in {_STALLED_SECONDS:.0f} s")
                return
            await asyncio.sleep(0.005)

    async def _idle(self) -> None:
        """Wait until nothing is open, or until nothing has moved for longer than a lease."""
        looks, least, moved = self._monitor.looks, self._monitor.open, time.monotonic()
        while self._monitor.open or self._monitor.looks < looks + 2:
            if self._monitor.open < least:
                least, moved = self._monitor.open, time.monotonic()
            if time.monotonic() - moved > _IDLE_SECONDS:
                return
            await asyncio.sleep(0.05)

    async def _figures(self, clients: Clients, exit_codes: Sequence[int]) -> list[Figure]:
        folder, ledger = self._setting.folder, clients.ledger
        found = await find(self._database, deliveries=folder / "deliveries", mails=folder / "mails")
        told = {
            "replays with another answer": ledger.different,
            "answers that no promise allows": ledger.unexpected,
            "processes that did not stop cleanly": [
                f"exit code {code}" for code in exit_codes if code
            ],
        }
        return [
            Figure(name="kills", value=self._blows.dealt.total()),
            Figure(name="kills that missed their aim", value=self._blows.missed),
            Figure(name="acknowledged", value=len(ledger.acknowledged)),
            Figure(name="replayed", value=ledger.replayed),
            *invariants(found, acknowledged=ledger.acknowledged, purse_cents=_PURSE_CENTS),
            *(
                Figure(name=name, value=len(cases), most=0, examples=cases[:EXAMPLES])
                for name, cases in told.items()
            ),
            Figure(
                name="longest a job was left after its lease, s",
                value=round(self._monitor.overdue_seconds, 2),
                most=OVERDUE_SECONDS,
            ),
            Figure(
                name="slowest restart until ready, s",
                value=round(max(self._fleet.restart_seconds, default=0.0), 2),
                most=RESTART_SECONDS,
            ),
        ]

    def _result(self, figures: Sequence[Figure], *, seconds: float) -> Result:
        setting = self._setting
        return Result(
            scenario="crash",
            database=setting.database,
            seed=setting.seed,
            sabotage=setting.sabotage,
            blows=self._blows.dealt,
            seconds=round(seconds, 1),
            figures=figures,
        )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Have ``work`` done as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
