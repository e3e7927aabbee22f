"""Limits: how often something may happen, counted in the process or, for all processes, in Redis.

The algorithm is GCRA: a key may use its whole limit at once, and gets it back evenly over the
period. Unlike a window it keeps one number a key, and knows to the nanosecond when to come back.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, Self

from newel.errors import Unavailable

__all__ = ["Decision", "Limiter", "MemoryLimiter", "Rate", "SharedLimiter", "Tally"]

_NANOSECONDS: Final = 1_000_000_000
_MICROSECONDS: Final = 1_000_000
_UNIT_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_UNIT_LETTERS: Final = {unit[0]: unit for unit in _UNIT_SECONDS}
_RATE: Final = re.compile(
    r"(?P<limit>[1-9][0-9]{0,8})/(?P<count>[1-9][0-9]{0,5})? ?(?P<unit>[a-z]+?)s?"
)
_MAX_KEY_LENGTH: Final = 128


@dataclass(frozen=True, slots=True)
class Rate:
    """``limit`` uses (at least 1) in ``period_seconds`` (more than 0)."""

    limit: int
    period_seconds: float

    def __post_init__(self) -> None:
        if self.limit < 1 or not 0 < self.period_seconds < math.inf:
            raise ValueError(f"not a rate: {self.limit} in {self.period_seconds} seconds")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rate that ``text`` writes: ``5/minute``, ``100/hour``, ``10/30s``.

        Units are second, minute, hour and day, also in the plural or as their first letter. Raises
        ``ValueError``.
        """
        match = _RATE.fullmatch(text.strip())
        # "s" alone is the letter, not the plural of nothing.
        unit = match and _UNIT_LETTERS.get(match["unit"], match["unit"])
        if match is None or unit not in _UNIT_SECONDS:
            raise ValueError(f"not a rate: {text!r}; write it like 5/minute, 100/hour or 10/30s")
        return cls(int(match["limit"]), float(int(match["count"] or 1) * _UNIT_SECONDS[unit]))

    def __str__(self) -> str:
        return f"{self.limit}/{self.period_seconds:g}s"


class Decision(NamedTuple):
    """What a limiter says about one use.

    ``remaining`` uses may follow at once. ``retry_after_seconds`` is 0 if this one was allowed,
    else when it would be. ``reset_after_seconds`` is when the whole limit is there again.
    """

    allowed: bool
    limit: int
    period_seconds: float
    remaining: int
    retry_after_seconds: float
    reset_after_seconds: float

    def headers(self, *, policy: str = "default") -> dict[str, str]:
        """Return the ``RateLimit`` headers, and ``Retry-After`` if it was refused.

        ``policy`` names the limit, in printable ASCII. Source: draft-ietf-httpapi-ratelimit-headers
        (structured fields, as of revision 08 and after).
        """
        if not re.fullmatch(r"[ !#-\[\]-~]+", policy):
            raise ValueError(f"not the name of a policy: {policy!r}")
        window, reset = math.ceil(self.period_seconds), math.ceil(self.reset_after_seconds)
        headers = {
            "RateLimit-Policy": f'"{policy}";q={self.limit};w={window}',
            "RateLimit": f'"{policy}";r={self.remaining};t={reset}',
        }
        if not self.allowed:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_seconds)))
        return headers


class Limiter(Protocol):
    """What counts uses: ``MemoryLimiter`` in its process, ``SharedLimiter`` for all of them."""

    async def hit(self, key: str, rate: Rate, *, cost: int = 1) -> Decision:
        """Use ``rate`` of ``key`` ``cost`` times, all or nothing, and tell whether it was allowed.

        A refused use costs nothing. The same key under another rate counts apart. Raises
        ``ValueError`` for a ``cost`` below 1 or above the limit, which could never be allowed.
        """
        ...

    async def reset(self, key: str) -> None:
        """Give ``key`` its whole limit back, under every rate."""
        ...


class MemoryLimiter:
    """Counts in this process: exact for one process, not shared with others.

    Holds at most ``max_keys``: keys that have recovered go with each use, two at a time; beyond
    the bound the key that was longest not used goes. ``monotonic`` returns seconds.
    """

    def __init__(
        self, *, max_keys: int = 100_000, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if max_keys < 1:
            raise ValueError("a limiter needs room for a key")
        self._max_keys = max_keys
        self._monotonic = monotonic
        self._counts: dict[Rate, _Count] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    async def hit(self, key: str, rate: Rate, *, cost: int = 1) -> Decision:
        """See ``Limiter.hit``. Never waits, so that uses of one event loop cannot mix."""
        count = self._counts.get(rate)
        if count is None:
            count = self._counts[rate] = _Count(_steps(rate, units=_NANOSECONDS))
        _refuse_impossible(rate, cost)
        key = _bounded(key)
        now = int(self._monotonic() * _NANOSECONDS)
        before = max(now, count.recovered_at.get(key, now))
        step, full, _ = count.steps
        after = before + cost * step
        allowed = after - now <= full
        recovered_at = after if allowed else before
        self._remember(count.recovered_at, key, recovered_at, now)
        return _decision(rate, count.steps, cost=cost, allowed=allowed, used=recovered_at - now)

    async def reset(self, key: str) -> None:
        """See ``Limiter.reset``."""
        key = _bounded(key)
        for count in self._counts.values():
            if count.recovered_at.pop(key, None) is not None:
                self._size -= 1

    def _remember(self, keys: OrderedDict[str, int], key: str, recovered_at: int, now: int) -> None:
        if key not in keys:
            self._size += 1
        keys[key] = recovered_at
        keys.move_to_end(key)  # also when refused: who keeps trying is not forgotten
        for _ in range(2):  # two for each that comes, so that it shrinks
            oldest = next(iter(keys))
            if keys[oldest] > now:
                break
            del keys[oldest]
            self._size -= 1
        if self._size > self._max_keys:
            fullest = max((count.recovered_at for count in self._counts.values()), key=len)
            fullest.popitem(last=False)
            self._size -= 1


@dataclass(slots=True, eq=False)
class _Count:
    """What is counted of one rate: keys of one rate recover in about the order of their use.

    ``recovered_at``: key -> the nanosecond at which the whole limit is there again, the longest not
    used key first.
    """

    steps: tuple[int, int, int]
    recovered_at: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])


class Tally(Protocol):
    """What counts for all processes: ``newel.drivers.redis``."""

    async def hit(
        self, key: str, rate: str, *, step_us: int, full_us: int, cost: int
    ) -> tuple[bool, int]:
        """Use ``key`` ``cost`` times if that is allowed, in one step that nobody comes between.

        One use takes ``step_us`` of the ``full_us`` microseconds of the rate. Return whether it was
        allowed, and how many are used then. Raises ``Unavailable`` in bounded time.
        """
        ...

    async def reset(self, key: str) -> None:
        """Give ``key`` its whole limit back, under every rate; raises ``Unavailable``."""
        ...


class SharedLimiter:
    """Counts for all processes; while ``tally`` is away, in this one by itself."""

    def __init__(self, tally: Tally, *, alone: MemoryLimiter | None = None) -> None:
        self._tally = tally
        self._alone = alone or MemoryLimiter()

    async def hit(self, key: str, rate: Rate, *, cost: int = 1) -> Decision:
        """See ``Limiter.hit``."""
        steps = _steps(rate, units=_MICROSECONDS)
        _refuse_impossible(rate, cost)
        try:
            allowed, used = await self._tally.hit(
                _bounded(key), str(rate), step_us=steps[0], full_us=steps[1], cost=cost
            )
        except Unavailable:
            return await self._alone.hit(key, rate, cost=cost)
        return _decision(rate, steps, cost=cost, allowed=allowed, used=used)

    async def reset(self, key: str) -> None:
        """See ``Limiter.reset``."""
        await self._alone.reset(key)
        with suppress(Unavailable):
            await self._tally.reset(_bounded(key))


def _steps(rate: Rate, *, units: int) -> tuple[int, int, int]:
    """Return how much of the period one use takes, the period, and of how many ``units`` a second.

    Sums of floats let one more or one fewer pass. Rounding up makes a use late by a unit, never
    early.
    """
    step = math.ceil(rate.period_seconds * units / rate.limit)
    return step, step * rate.limit, units


def _refuse_impossible(rate: Rate, cost: int) -> None:
    if not 1 <= cost <= rate.limit:
        raise ValueError(f"a cost of {cost} can never be allowed by {rate}")


def _decision(
    rate: Rate, count: tuple[int, int, int], *, cost: int, allowed: bool, used: int
) -> Decision:
    """Return what it means that ``used`` of the period are taken; ``count``: step, full, units."""
    step, full, units = count
    return Decision(
        allowed,
        rate.limit,
        rate.period_seconds,
        (full - used) // step,
        0.0 if allowed else (used + cost * step - full) / units,
        used / units,
    )


def _bounded(key: str) -> str:
    """Return ``key``, or its digest if a client could fill the memory with it."""
    return key if len(key) <= _MAX_KEY_LENGTH else _digest(key)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
