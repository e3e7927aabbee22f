"""Replace every process of a service, one after the other, while clients use it.

Two processes serve behind HAProxy and two work, as compose.yaml has them. A release tells each to
stop, waits for its end, and for the new one to be ready; then comes the next. Nobody who asks may
notice, and no job may wait for the lease of a worker that was told to stop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from stress.clients import CLIENTS
from stress.crash import Progress
from stress.databases import DatabaseUnderTest, opened
from stress.figures import Figure, Result
from stress.fleet import Member
from stress.invariants import EXAMPLES
from stress.monitor import Monitor
from stress.topology import Topology
from stress.trade import Trade, beside, shop_environment

__all__ = ["Part", "Rolling"]

Part = Literal["web-1", "web-2", "worker-1", "worker-2"]

CARRIER_SECONDS: Final = 1.0
STOP_SECONDS: Final = 0.2
"""What a running job has to finish: a part of what most take, so that many are handed back."""

BUSY_JOBS: Final = 3
"""How many jobs a worker has when it is told to stop."""

_ANSWER_SECONDS: Final = 30.0
_ANSWERS_BETWEEN: Final = 20
_BUSY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """One run of ``releases``; ``only`` leaves processes out; ``folder`` keeps the logs."""

    releases: int
    seed: int
    folder: Path
    sabotage: str | None = None
    only: Sequence[Part] = ()
    clients: int = CLIENTS

    async def run(self, progress: Progress) -> Result:
        """Run it, on PostgreSQL and Valkey."""
        began = time.monotonic()
        with opened("postgresql", self.folder) as database:
            figures = await _Run(self, database).run(progress)
            await database.engine.dispose()
        return Result(
            scenario="rolling",
            database="postgresql",
            seed=self.seed,
            sabotage=self.sabotage,
            blows={"releases": self.releases},
            seconds=round(time.monotonic() - began, 1),
            figures=figures,
        )


class _Run:
    def __init__(self, setting: Rolling, database: DatabaseUnderTest) -> None:
        self._setting = setting
        folder = setting.folder
        environment = shop_environment(folder, url=database.url, sabotage=setting.sabotage)
        environment |= {
            "CARRIER_SECONDS": str(CARRIER_SECONDS),
            "JOB_CONCURRENCY": "10",
            "JOB_LEASE_SECONDS": "30",  # the default: longer than any wait for a processor
            "STOP_SECONDS": str(STOP_SECONDS),
        }
        self._topology = Topology(environment=environment, folder=folder)
        self._monitor = Monitor(database, working=list[Member])
        self._trade = Trade(
            database,
            monitor=self._monitor,
            url=self._topology.url,
            seed=setting.seed,
            folder=folder,
            answer_seconds=_ANSWER_SECONDS,
            clients=setting.clients,
        )
        self._restarts = self._under_way = self._kept = 0

    async def run(self, progress: Progress) -> list[Figure]:
        await self._trade.fill()
        try:
            async with self._topology, beside(self._monitor.watch()):
                exit_codes = await self._roll(progress)
                await self._trade.idle()
                exit_codes += await self._topology.stop()
        finally:
            await self._trade.close()
        return await self._figures(exit_codes)

    async def _roll(self, progress: Progress) -> list[int]:
        """Replace process after process; return their exit codes."""
        setting, exit_codes = self._setting, list[int]()
        chosen = [
            one for one in self._topology.processes if not setting.only or one.name in setting.only
        ]
        async with self._trade.open():
            for release in range(setting.releases):
                for member in chosen:
                    progress(self._restarts, setting.releases * len(chosen), f"release {release}")
                    await self._trade.answered(_ANSWERS_BETWEEN)
                    exit_codes.append(await self._replace(member))
            await self._trade.answered(_ANSWERS_BETWEEN)
        return exit_codes

    async def _replace(self, member: Member) -> int:
        pid = member.process.pid
        if member in self._topology.workers:
            self._under_way += await self._busy(pid)
        code = await member.stop()
        self._kept += await self._monitor.held_by(pid)
        await member.start()
        await member.ready()
        self._restarts += 1
        return code

    async def _busy(self, pid: int) -> int:
        """Wait until a worker has several jobs, as long as that may take; return how many."""
        end = time.monotonic() + _BUSY_SECONDS
        held = 0
        while held < BUSY_JOBS and time.monotonic() < end:
            held = await self._monitor.held_by(pid)
        return held

    async def _figures(self, exit_codes: Sequence[int]) -> list[Figure]:
        failed = self._trade.clients.ledger.failed
        return [
            Figure(name="releases", value=self._setting.releases),
            Figure(name="processes replaced", value=self._restarts),
            Figure(name="jobs under way when a worker was stopped", value=self._under_way),
            Figure(name="failed requests", value=len(failed), most=0, examples=failed[:EXAMPLES]),
            Figure(name="jobs that a stopped worker kept", value=self._kept, most=0),
            *await self._trade.figures(exit_codes),
        ]
