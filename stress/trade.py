"""The shop's trade during a scenario: goods, clients who buy, jobs that are worked off."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from newel.db import Database
from newel.entity import Entity
from stress.blows import KILL_FILE
from stress.clients import CLIENTS, Clients
from stress.databases import DatabaseUnderTest
from stress.figures import Figure
from stress.fleet import ROOT
from stress.invariants import EXAMPLES, find, invariants
from stress.monitor import Monitor
from stress.shop import application
from stress.shop.orders import Customer, Purse

__all__ = ["LEASE_SECONDS", "Trade", "beside", "shop_environment"]

LEASE_SECONDS: Final = 2.0

_CUSTOMERS: Final = 5
_PURSES: Final = 6
_PURSE_CENTS: Final = 100_000
_MOST_OPEN: Final = 30  # clients wait for workers: SQLite's lock is not for who floods it
_STALLED_SECONDS: Final = 15.0
_IDLE_SECONDS: Final = LEASE_SECONDS + 5.0
_SECRET: Final = "kX3vR8qTz1mWb7LpYc5NdJf2HsGe9Ua4"  # noqa: S105 - of a service that lives for minutes


def shop_environment(folder: Path, *, url: str, sabotage: str | None) -> dict[str, str]:
    """Return the variables of the shop's processes, whose database is at ``url``."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "DATABASE_URL": url,
        "SECRET_KEY": _SECRET,
        "MIGRATIONS": str(folder / "migrations"),
        "MAIL_URL": f"file:{folder}/mails",
        "API_LIMIT": "1000000/minute",
        "ROLE": "web",
        "JOB_CONCURRENCY": "4",
        "JOB_LEASE_SECONDS": str(LEASE_SECONDS),
        "KILL_FILE": str(folder / KILL_FILE),
        "DELIVERIES": str(folder / "deliveries"),
        "SABOTAGE": sabotage or "",
    }


class Trade:
    """The clients of the shop at ``url``, with their goods in ``database``."""

    def __init__(
        self,
        database: DatabaseUnderTest,
        *,
        monitor: Monitor,
        url: str,
        seed: int,
        folder: Path,
        answer_seconds: float = 5.0,
        clients: int = CLIENTS,
    ) -> None:
        self._database = database
        self._monitor = monitor
        self._url = url
        self._seed = seed
        self._folder = folder
        self._answer_seconds = answer_seconds
        self._count = clients
        self._clients: Clients | None = None

    @property
    def clients(self) -> Clients:
        """Those who buy, once the tables are filled."""
        assert self._clients is not None, "fill first"
        return self._clients

    async def fill(self) -> None:
        """Make the tables, customers and purses, and the clients who use them."""
        (self._folder / "migrations").mkdir()  # empty: what a service makes them of
        database = Database(self._database.url)
        async with database.engine.begin() as connection:
            await connection.run_sync(Entity.metadata.create_all, application.tables())
        async with database.write(None) as work:
            customers = [Customer() for _ in range(_CUSTOMERS)]
            purses = [Purse(balance_cents=_PURSE_CENTS) for _ in range(_PURSES)]
            work.session.add_all([*customers, *purses])
        await database.close()
        self._clients = Clients(
            self._url,
            seed=self._seed,
            customers=_ids(customers),
            purses=_ids(purses),
            may_go_on=lambda: self._monitor.open < _MOST_OPEN,
            answer_seconds=self._answer_seconds,
            count=self._count,
        )

    async def close(self) -> None:
        """Close the clients' connections."""
        if self._clients is not None:
            await self._clients.close()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Let the clients buy as long as the block lasts, and get their last answers."""
        trading = asyncio.create_task(self.clients.run())
        try:
            yield
            self.clients.stop()
            await trading
        finally:
            trading.cancel()

    async def answered(self, more: int) -> None:
        """Wait until so many more requests were answered, or nothing has been for long."""
        ledger = self.clients.ledger
        goal = len(ledger.acknowledged) + more
        end = time.monotonic() + _STALLED_SECONDS
        while len(ledger.acknowledged) < goal:
            if time.monotonic() > end:
                ledger.unexpected.append(f"no {more} answers in {_STALLED_SECONDS:.0f} s")
                return
            await asyncio.sleep(0.005)

    async def idle(self) -> None:
        """Wait until nothing is open, or until nothing has moved for longer than a lease."""
        looks, least, moved = self._monitor.looks, self._monitor.open, time.monotonic()
        while self._monitor.open or self._monitor.looks < looks + 2:
            if self._monitor.open < least:
                least, moved = self._monitor.open, time.monotonic()
            if time.monotonic() - moved > _IDLE_SECONDS:
                return
            await asyncio.sleep(0.05)

    async def figures(self, exit_codes: Sequence[int]) -> list[Figure]:
        """Return what was answered, and how often each promise was broken."""
        folder, ledger = self._folder, self.clients.ledger
        found = await find(self._database, deliveries=folder / "deliveries", mails=folder / "mails")
        told: Mapping[str, Sequence[str]] = {
            "replays with another answer": ledger.different,
            "answers that no promise allows": ledger.unexpected,
            "processes that did not stop cleanly": [
                f"exit code {code}" for code in exit_codes if code
            ],
        }
        return [
            Figure(name="acknowledged", value=len(ledger.acknowledged)),
            Figure(name="replayed", value=ledger.replayed),
            *invariants(found, acknowledged=ledger.acknowledged, purse_cents=_PURSE_CENTS),
            *(
                Figure(name=name, value=len(cases), most=0, examples=cases[:EXAMPLES])
                for name, cases in told.items()
            ),
        ]


def _ids(rows: Sequence[Customer | Purse]) -> list[UUID]:
    return [one.id for one in rows]


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Have ``work`` done as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
