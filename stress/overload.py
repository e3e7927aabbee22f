"""Ask twice as much of a service as it can do: it goes on doing what it can, and says so at once.

    python -m stress overload

What it can do is measured first, by clients that ask again when they are answered. Then requests
come at twice that rate, whether or not they are answered, and then nobody comes.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stress.crash import Progress
from stress.crowd import Crowd, Reply, percentile, request
from stress.databases import Backend
from stress.desk_site import Desk, opened_desk
from stress.figures import Figure, Result

__all__ = ["Overload", "figures"]

CLIENTS: Final = 32
"""Enough to keep the service busy, few enough that nobody waits for a place."""

NORMAL_SECONDS: Final = 0.25
_WARM_UP_SECONDS: Final = 1.0
_REST_SECONDS: Final = 5.0
_WRITES_IN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """One run: capacity is measured for a third of ``seconds``, then comes the overload."""

    database: Backend
    seconds: float
    folder: Path
    sabotage: str | None = None
    times: float = 2.0

    async def run(self, progress: Progress) -> Result:
        """Run it; ``ConfigurationError`` when the service does not start."""
        began = time.monotonic()
        async with opened_desk(self.database, self.folder, sabotage=self.sabotage) as desk:
            found = await self._measure(desk, progress)
        return Result(
            scenario="overload",
            database=self.database,
            seed=0,
            sabotage=self.sabotage,
            blows={},
            seconds=round(time.monotonic() - began, 1),
            figures=found,
        )

    async def _measure(self, desk: Desk, progress: Progress) -> list[Figure]:
        crowd = Crowd(desk.port, _requests(await desk.open_tickets(20)), pid=desk.pid)
        await crowd.busy(clients=CLIENTS, seconds=_WARM_UP_SECONDS)
        progress(0, 3, "measuring what it can do")
        calm = await crowd.busy(clients=CLIENTS, seconds=self.seconds / 3)
        before = desk.resident_bytes()
        capacity = rate(calm)
        progress(1, 3, f"asking for {self.times * capacity:.0f} a second")
        storm = await crowd.steady(per_second=self.times * capacity, seconds=self.seconds)
        over = time.monotonic()
        progress(2, 3, "resting")
        rest = await crowd.busy(clients=1, seconds=_REST_SECONDS)
        crowd.close()
        growth = 100 * (desk.resident_bytes() / before - 1)
        return figures(calm, storm, rest, over=over, growth_percent=growth)


def _requests(tickets: Sequence[str]) -> Iterator[bytes]:
    """Yield reads of tickets, and every tenth time a new one."""
    reads = itertools.cycle([request("GET", f"/api/v1/tickets/{one}") for one in tickets])
    body = json.dumps({"text": "It does not work."}).encode()
    write = request("POST", "/api/v1/tickets", body, content_type="application/json")
    while True:
        yield from itertools.islice(reads, _WRITES_IN - 1)
        yield write


def rate(replies: Sequence[Reply]) -> float:
    """Return how many good answers a second there were."""
    good = [one for one in replies if one.is_good]
    began = min((one.sent_at for one in replies), default=0.0)
    ended = max((one.sent_at + one.seconds for one in replies), default=1.0)
    return len(good) / max(ended - began, 0.001)


def figures(
    calm: Sequence[Reply],
    storm: Sequence[Reply],
    rest: Sequence[Reply],
    *,
    over: float,
    growth_percent: float,
) -> list[Figure]:
    """Return what the answers show; ``over`` is when the overload ended."""
    refused = [one for one in storm if one.status == 503]
    others = [one for one in storm if not one.is_good and one.status != 503]
    accepted = [one.seconds for one in storm if one.is_good]
    capacity = rate(calm)
    slow = [one for one in rest if not one.is_good or one.seconds > NORMAL_SECONDS]
    normal_after = max((one.sent_at + one.seconds - over for one in slow), default=0.0)
    return [
        Figure(name="capacity, requests a second", value=round(capacity)),
        Figure(name="answered in 99 of 100, at capacity, ms", value=_ms(calm)),
        Figure(name="sent in the overload", value=len(storm)),
        Figure(name="refused in it", value=len(refused)),
        Figure(
            name="answered in 99 of 100, in it, ms",
            value=round(1000 * percentile(accepted, 0.99)),
        ),
        Figure(
            name="capacity lost in it, %",
            value=round(max(0.0, 100 * (1 - rate(storm) / max(capacity, 0.001))), 1),
            most=20,
        ),
        Figure(name="refusal in 99 of 100, ms", value=_ms(refused), most=100),
        Figure(
            name="refusals without Retry-After",
            value=sum(not one.has_retry_after for one in refused),
            most=0,
        ),
        Figure(
            name="neither answered nor refused",
            value=len(others),
            most=0,
            examples=[f"{one.status} after {one.seconds:.2f} s" for one in others[:5]],
        ),
        Figure(name="as before it after, s", value=round(normal_after, 2), most=2),
        Figure(name="memory more than before it, %", value=round(growth_percent, 1), most=20),
    ]


def _ms(replies: Sequence[Reply]) -> float:
    return round(1000 * percentile([one.seconds for one in replies], 0.99))
