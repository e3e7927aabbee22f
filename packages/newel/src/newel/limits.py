"""Limits: how often something may happen, counted in the process or by a driver elsewhere.

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
from dataclasses import dataclass
from typing import Final, Protocol, Self

__all__ = ["Decision", "Limiter", "MemoryLimiter", "Rate"]

_NANOSECONDS: Final = 1_000_000_000
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
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
    """What counts uses. ``MemoryLimiter`` needs nothing; drivers share the count."""

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
        # For each rate, since keys of one rate recover in about the order of their use: key -> the
        # nanosecond at which the whole limit is there again, the longest not used key first.
        self._recovered_at: dict[Rate, OrderedDict[str, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    async def hit(self, key: str, rate: Rate, *, cost: int = 1) -> Decision:
        """See ``Limiter.hit``. Never waits, so that uses of one event loop cannot mix."""
        if not 1 <= cost <= rate.limit:
            raise ValueError(f"a cost of {cost} can never be allowed by {rate}")
        # Whole nanoseconds: sums of floats let one more or one fewer pass. One use takes `step` of
        # the `full` period; rounding up makes it late by 1 ns, never early.
        now = int(self._monotonic() * _NANOSECONDS)
        step = math.ceil(rate.period_seconds * _NANOSECONDS / rate.limit)
        full = step * rate.limit
        keys = self._recovered_at.setdefault(rate, OrderedDict())
        key = _bounded(key)
        before = max(now, keys.get(key, now))
        after = before + cost * step
        allowed = after - now <= full
        self._remember(keys, key, recovered_at=after if allowed else before, now=now)
        used = (after if allowed else before) - now
        return Decision(
            allowed=allowed,
            limit=rate.limit,
            period_seconds=rate.period_seconds,
            remaining=(full - used) // step,
            retry_after_seconds=0.0 if allowed else (after - now - full) / _NANOSECONDS,
            reset_after_seconds=used / _NANOSECONDS,
        )

    async def reset(self, key: str) -> None:
        """See ``Limiter.reset``."""
        key = _bounded(key)
        for keys in self._recovered_at.values():
            if keys.pop(key, None) is not None:
                self._size -= 1

    def _remember(
        self, keys: OrderedDict[str, int], key: str, *, recovered_at: int, now: int
    ) -> None:
        self._size += key not in keys
        keys[key] = recovered_at
        keys.move_to_end(key)  # also when refused: who keeps trying is not forgotten
        for _ in range(2):  # two for each that comes, so that it shrinks
            if keys[oldest := next(iter(keys))] <= now:
                del keys[oldest]
                self._size -= 1
        if self._size > self._max_keys:
            max(self._recovered_at.values(), key=len).popitem(last=False)
            self._size -= 1


def _bounded(key: str) -> str:
    """Return ``key``, or its digest if a client could fill the memory with it."""
    if len(key) <= _MAX_KEY_LENGTH:
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
