"""Do to a service what a stranger can: too much of everything, too slowly, in too many pieces.

    python -m stress abuse

Each abuse has to be refused as it should be, in little memory, while somebody else is served: one
light client asks fifty times a second all the while.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stress.assaults import ASSAULTS, Assault, Target
from stress.crash import Progress
from stress.crowd import Crowd, Reply, percentile, request
from stress.databases import Backend
from stress.desk_site import Desk, opened_desk
from stress.figures import Figure, Result

__all__ = ["Abuse", "Suffered", "figures"]

MIB: Final = 2**20
OTHERS_MS: Final = 250
_PAUSE_SECONDS: Final = 0.02
_HEADER_SECONDS: Final = 3.0
_REQUEST_SECONDS: Final = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffered:
    """What one abuse did: what of it was not refused as it should be, memory, other clients."""

    assault: Assault
    unrefused: Sequence[str]
    more_bytes: int
    others: Sequence[Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class Abuse:
    """One run of the assaults, ``only`` some of them, ``scale`` as large as their names say."""

    database: Backend
    folder: Path
    sabotage: str | None = None
    only: Sequence[str] = ()
    scale: float = 1.0

    async def run(self, progress: Progress) -> Result:
        """Run it; ``ConfigurationError`` when the service does not start."""
        began = time.monotonic()
        chosen = [one for one in ASSAULTS if not self.only or one.key in self.only]
        settings = {
            "HEADER_TIMEOUT_SECONDS": str(_HEADER_SECONDS),
            "REQUEST_TIMEOUT_SECONDS": str(_REQUEST_SECONDS),
        }
        suffered: list[Suffered] = []
        async with opened_desk(
            self.database, self.folder, sabotage=self.sabotage, **settings
        ) as desk:
            users = max(1, math.ceil(self.scale * max(one.users for one in chosen)))
            tokens = [await desk.token(f"user{number}") for number in range(users)]
            target = Target(
                port=desk.port, tokens=tokens, scale=self.scale, connections=desk.connections
            )
            reads = [request("GET", f"/api/v1/tickets/{one}") for one in await desk.open_tickets(5)]
            for number, assault in enumerate(chosen):
                progress(number, len(chosen), assault.name)
                suffered.append(await _suffer(desk, assault, target, reads))
        return Result(
            scenario="abuse",
            database=self.database,
            seed=0,
            sabotage=self.sabotage,
            blows={},
            seconds=round(time.monotonic() - began, 1),
            figures=figures(suffered),
        )


async def _suffer(desk: Desk, assault: Assault, target: Target, reads: Sequence[bytes]) -> Suffered:
    crowd = Crowd(desk.port, itertools.cycle(reads), pid=desk.pid)
    for _ in range(5):
        await crowd.ask()
    before = desk.resident_bytes()
    desk.forget_peak()
    async with _light_client(crowd) as others:
        unrefused = await assault.commit(target)
    suffered = Suffered(
        assault=assault,
        unrefused=unrefused,
        more_bytes=max(0, desk.peak_bytes() - before),
        others=others,
    )
    crowd.close()
    return suffered


@asynccontextmanager
async def _light_client(crowd: Crowd) -> AsyncGenerator[list[Reply]]:
    """Have somebody ask all the time; yield what they are answered."""
    replies: list[Reply] = []

    async def ask() -> None:
        while True:
            replies.append(await crowd.ask())
            await asyncio.sleep(_PAUSE_SECONDS)

    asking = asyncio.create_task(ask())
    try:
        yield replies
        while len(replies) < 10:  # noqa: ASYNC110 - a task of ours fills it
            await asyncio.sleep(_PAUSE_SECONDS)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def figures(suffered: Sequence[Suffered]) -> list[Figure]:
    """Return three figures for each abuse: what got through, memory, how long others waited."""
    found: list[Figure] = []
    for one in suffered:
        name = one.assault.name
        slowest = 1000 * percentile([reply.seconds for reply in one.others], 0.99)
        unserved = sum(not reply.is_good for reply in one.others)
        found += [
            Figure(
                name=f"{name}: not refused, or others not served",
                value=len(one.unrefused) + unserved,
                most=0,
                examples=one.unrefused[:5],
            ),
            Figure(
                name=f"{name}: memory, MiB",
                value=round(one.more_bytes / MIB),
                most=one.assault.most_mib,
            ),
            Figure(name=f"{name}: others wait, ms", value=round(slowest), most=OTHERS_MS),
        ]
    return found
