"""Identifiers: UUIDv7, so that keys sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

__all__ = ["uuid7"]


class _Counter:
    """Keeps ids of the same millisecond in order (RFC 9562, section 6.2, method 1)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # thread pools make ids too
        self._milliseconds = 0
        self._count = 0

    def next(self, seed: int) -> tuple[int, int]:
        """Return the milliseconds and the 12 bit count of the next id; never goes back."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._milliseconds:
                self._milliseconds, self._count = now, seed & 0x3FF
            elif self._count < 0xFFF:
                self._count += 1
            else:
                self._milliseconds, self._count = self._milliseconds + 1, 0
            return self._milliseconds, self._count


_counter = _Counter()


def uuid7() -> UUID:
    """Return a new UUIDv7: 48 bits of milliseconds, a 12 bit count, 62 random bits.

    Ids made by one process are strictly increasing, also within a millisecond and when the clock
    steps back. Source: RFC 9562, sections 5.7 and 6.2.
    """
    random = int.from_bytes(os.urandom(10), "big")
    milliseconds, count = _counter.next(random >> 62)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | count << 64
    value |= 0b10 << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=value)
