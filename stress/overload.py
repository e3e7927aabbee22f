"""Ask twice as much of a service as it can do: it goes on doing what it can, and says so at once.

    python -m stress overload

What it can do is measured first, by clients that ask again when they are answered. Then requests
come at twice that rate, whether or not they are answered, and then one client. What it can do is
measured once more after that: a machine does not do the same from one minute to the next. For the
same reason it is all done three times, and the round in the middle counts for what was lost.
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
from stress.machine import apart

__all__ = ["Overload", "figures", "middle"]

CLIENTS: Final = 32
"""Enough to keep the service busy, few enough that nobody waits for a place."""

NORMAL_SECONDS: Final = 0.25
_WARM_UP_SECONDS: Final = 1.0
_REST_SECONDS: Final = 5.0
_WRITES_IN: Final = 10
_LOST: Final = "capacity lost in it, %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """One run: capacity is measured for a sixth of ``seconds``, before and after each overload."""

    database: Backend
    seconds: float
    folder: Path
    sabotage: str | None = None
    times: float = 2.0
    rounds: int = 3

    async def run(self, progress: Progress) -> Result:
        """Run it; ``ConfigurationError`` when the service does not start."""
        began = time.monotonic()
        async with opened_desk(self.database, self.folder, sabotage=self.sabotage) as desk:
            crowd = Crowd(desk.port, _requests(await desk.open_tickets(20)), pid=desk.pid)
            with apart(desk.pid):
                await crowd.busy(clients=CLIENTS, seconds=_WARM_UP_SECONDS)
                found = [
                    await self._round(number, desk, crowd, progress)
                    for number in range(self.rounds)
                ]
            crowd.close()
        return Result(
            scenario="overload",
            database=self.database,
            seed=0,
            sabotage=self.sabotage,
            blows={},
            seconds=round(time.monotonic() - began, 1),
            figures=middle(found),
        )

    async def _round(
        self, number: int, desk: Desk, crowd: Crowd, progress: Progress
    ) -> list[Figure]:
        of = 4 * self.rounds
        progress(4 * number, of, "measuring what it can do")
        calm = await crowd.busy(clients=CLIENTS, seconds=self.seconds / 6)
        before = desk.resident_bytes()
        asked = self.times * rate(calm)
        progress(4 * number + 1, of, f"asking for {asked:.0f} a second")
        storm = await crowd.steady(per_second=asked, seconds=self.seconds)
        over = time.monotonic()
        progress(4 * number + 2, of, "resting")
        rest = await crowd.busy(clients=1, seconds=_REST_SECONDS)
        growth = 100 * (desk.resident_bytes() / before - 1)
        progress(4 * number + 3, of, "measuring again what it can do")
        again = await crowd.busy(clients=CLIENTS, seconds=self.seconds / 6)
        return figures(calm, storm, rest, again, over=over, growth_percent=growth)


def middle(rounds: Sequence[Sequence[Figure]]) -> list[Figure]:
    """Return the round in the middle by what was lost, but of all else the worst of any round."""

    def lost(found: Sequence[Figure]) -> float:
        return next(one.value for one in found if one.name == _LOST)

    worst = [max(same, key=lambda one: one.value) for same in zip(*rounds, strict=True)]
    chosen = sorted(rounds, key=lost)[len(rounds) // 2]
    return [
        mine if mine.name == _LOST or mine.most is None else most
        for mine, most in zip(chosen, worst, strict=True)
    ]


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
    again: Sequence[Reply],
    *,
    over: float,
    growth_percent: float,
) -> list[Figure]:
    """Return what the answers show; ``over`` is when the overload ended.

    Capacity is the mean of what was measured before it, ``calm``, and after it, ``again``.
    """
    refused = [one for one in storm if one.status == 503]
    others = [one for one in storm if not one.is_good and one.status != 503]
    accepted = [one.seconds for one in storm if one.is_good]
    capacity = (rate(calm) + rate(again)) / 2
    slow = [one for one in rest if not one.is_good or one.seconds > NORMAL_SECONDS]
    normal_after = max((one.sent_at + one.seconds - over for one in slow), default=0.0)
    return [
        Figure(name="capacity before it, requests a second", value=round(rate(calm))),
        Figure(name="capacity after it, requests a second", value=round(rate(again))),
        Figure(name="answered in 99 of 100, at capacity, ms", value=_ms(calm)),
        Figure(name="sent in the overload", value=len(storm)),
        Figure(name="refused in it", value=len(refused)),
        Figure(
            name="answered in 99 of 100, in it, ms",
            value=round(1000 * percentile(accepted, 0.99)),
        ),
        Figure(
            name=_LOST,
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
