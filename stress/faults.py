"""Take away what a service depends on, and see that it says so, goes on as it can, and recovers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from benchmarks.report import markdown

from stress.crash import Progress
from stress.depot.sabotage import SABOTAGES
from stress.figures import Figure, Result
from stress.hazards import HAZARDS, Hazard, jumping, start
from stress.load import Load
from stress.machine import Clock, Missing, mounted
from stress.outages import OUTAGES, Outage, loaded, run_outage
from stress.site import Site, opened_site, opened_small_site

__all__ = ["FAULTS", "Faults", "as_rows"]

Place = Literal["network", "disk", "processes' clock", "database's clock"]
"""What a fault is done to decides what it is done on: services are started anew between them."""

_OUTAGES: Final[Mapping[str, Outage]] = {one.name: one for one in OUTAGES}
_PLACES: Final[Mapping[str, Place]] = {
    **{name: "disk" if one.port == "disk" else "network" for name, one in _OUTAGES.items()},
    **dict.fromkeys(HAZARDS, "network"),
    "clock-of-processes": "processes' clock",
    "clock-of-database": "database's clock",
}
FAULTS: Final[Sequence[str]] = tuple(_PLACES)
LONG_CYCLES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """One run: every fault, or ``only`` some; what can come back does so ``cycles`` times.

    In 20 cycles and more, the broker is away for a minute once. ``folder`` keeps the logs.
    """

    cycles: int
    seed: int
    folder: Path
    sabotage: str | None = None
    only: Sequence[str] = ()

    async def run(self, progress: Progress, tell: Callable[[Result], None]) -> list[Result]:
        """Run it, and ``tell`` each result when it is there; a fault that cannot be is one, too."""
        wanted = [name for name in FAULTS if name in self.only or not self.only]
        if self.sabotage is not None and not self.only:
            wanted = [SABOTAGES[self.sabotage].fault]
        results: list[Result] = []
        places: list[Place] = [_PLACES[name] for name in wanted]
        for place in dict[Place, None].fromkeys(places):
            names = [name for name in wanted if _PLACES[name] == place]
            folder = self.folder / place.replace("'", "").replace(" ", "-")
            folder.mkdir()
            try:
                async with _opened(place, folder, sabotage=self.sabotage) as (site, load, jumps):
                    for name in names:
                        progress(len(results), len(wanted), name)
                        results.append(await self._one(name, site, load, jumps))
                        tell(results[-1])
            except Missing as error:
                if len(wanted) == 1:
                    raise
                results += [self._skipped(name, error) for name in names]
                for one in results[-len(names) :]:
                    tell(one)
        return results

    async def _one(self, name: str, site: Site, load: Load, jumps: Hazard | None) -> Result:
        began = time.monotonic()
        if name in _OUTAGES:
            is_long = self.cycles >= LONG_CYCLES
            outage = _OUTAGES[name]
            figures = await run_outage(site, load, outage, cycles=self.cycles, is_long=is_long)
        else:
            hazard = HAZARDS.get(name, jumps)
            assert hazard is not None, "a clock is there when it is asked for"
            figures = await hazard(site, load)
        return self._result(name, figures, seconds=time.monotonic() - began)

    def _skipped(self, name: str, error: Missing) -> Result:
        why = f"{error.detail}; {error.fix}"
        return replace(self._result(name, (), seconds=0.0), skipped=why)

    def _result(self, name: str, figures: Sequence[Figure], *, seconds: float) -> Result:
        return Result(
            scenario="faults",
            database=name,
            seed=self.seed,
            sabotage=self.sabotage,
            blows={},
            seconds=round(seconds, 1),
            figures=figures,
        )


@asynccontextmanager
async def _opened(
    place: Place, folder: Path, *, sabotage: str | None
) -> AsyncGenerator[tuple[Site, Load, Hazard | None]]:
    """Have the service run under a light load, where a fault can be done to it."""
    async with AsyncExitStack() as stack:
        jumps: Hazard | None = None
        if place == "disk":
            disk = stack.enter_context(mounted(folder / "disk"))
            opened = opened_small_site(folder, disk, sabotage=sabotage)
            site = await stack.enter_async_context(opened)
        else:
            clock = None if place == "network" else Clock(folder / "clock")
            is_database = place == "database's clock"
            opened = opened_site(
                folder,
                sabotage=sabotage,
                clock=None if is_database else clock,
                database_clock=clock if is_database else None,
            )
            site = await stack.enter_async_context(opened)
            if clock is not None:
                jumps = jumping(clock, restarts_allowed=is_database)
        await start(site.api, site.worker)
        yield site, await stack.enter_async_context(loaded(site)), jumps


_COLUMNS: Final = {
    "state in /ready, s": "in `/ready`, s",
    "slowest answer during it, s": "slowest answer, s",
    "answers of another class": "wrong answers",
    "recovery, s": "recovery, s",
    "processes that ended": "restarts",
    "acknowledged and lost": "lost",
    "jobs that did not finish": "jobs left",
    "growth of connections, threads, files": "growth",
}


def as_rows(results: Sequence[Result]) -> str:
    """Return results below each other, as the docs show them, with what each may be at most."""
    head = ["", *_COLUMNS.values(), "missed"]
    rows: list[list[str]] = []
    for one in results:
        known = {figure.name: figure for figure in one.figures}
        cells = [known[name].said if name in known else "" for name in _COLUMNS]
        rows.append(
            [f"`{one.database}`", *cells, "skipped" if one.skipped else str(len(one.missed))]
        )
    return markdown(head, rows)
