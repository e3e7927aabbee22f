"""Kill the parts of a service at any moment, and see that it keeps every promise.

Ten clients place orders and move money, with keys, while the API, two workers and the database are
killed. Then the clients stop, the jobs end, and the tables have to agree with what was answered.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stress.blows import Blow, Blows, Kind, find_strace, plan
from stress.databases import Backend, DatabaseUnderTest, opened
from stress.figures import Figure, Result
from stress.fleet import Fleet
from stress.monitor import Monitor
from stress.trade import Trade, beside, shop_environment

__all__ = ["Crash", "Progress"]

Progress = Callable[[int, int, str], None]
"""Called with how many blows were dealt, of how many, and what comes now."""

OVERDUE_SECONDS: Final = 1.0
RESTART_SECONDS: Final = 3.0

_ANSWERS_BETWEEN: Final = (3, 15)
_REPLAYED_AT_THE_END: Final = 50


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
        folder, seed = setting.folder, setting.seed
        environment = shop_environment(folder, url=database.url, sabotage=setting.sabotage)
        self._fleet = Fleet(environment=environment, folder=folder, port=_free_port())
        self._monitor = Monitor(database, working=self._fleet.working)
        self._blows = Blows(self._fleet, database, self._monitor, seed=seed, folder=folder)
        self._trade = Trade(
            database, monitor=self._monitor, url=self._fleet.api.url, seed=seed, folder=folder
        )

    async def run(self, blows: Sequence[Blow], progress: Progress, *, began: float) -> Result:
        await self._trade.fill()
        try:
            await self._fleet.start()
            self._fleet.restart_seconds.clear()  # the first start compiles modules
            async with beside(self._monitor.watch()):
                await self._under_load(blows, progress)
                progress(len(blows), len(blows), "waiting for the jobs")
                await self._trade.idle()
                await self._trade.clients.replay_some(_REPLAYED_AT_THE_END)
            exit_codes = await self._fleet.stop()
        finally:
            await self._fleet.end()
            await self._trade.close()
        figures = await self._figures(exit_codes)
        await self._database.engine.dispose()
        return self._result(figures, seconds=time.monotonic() - began)

    async def _under_load(self, blows: Sequence[Blow], progress: Progress) -> None:
        """Deal the blows, each after some more answers; then let the clients get theirs."""
        async with self._trade.open():
            for number, blow in enumerate(blows):
                progress(number, len(blows), blow.kind)
                await self._trade.answered(self._blows.chance.randint(*_ANSWERS_BETWEEN))
                await self._blows.strike(blow)

    async def _figures(self, exit_codes: Sequence[int]) -> list[Figure]:
        return [
            Figure(name="kills", value=self._blows.dealt.total()),
            Figure(name="kills that missed their aim", value=self._blows.missed),
            *await self._trade.figures(exit_codes),
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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
