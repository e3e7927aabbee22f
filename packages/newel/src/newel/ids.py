"""Identifiers: UUIDv7, so that keys sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

__all__ = ["uuid7"]

# One counter a process keeps ids of the same millisecond in order (RFC 9562, method 1); a lock
# because thread pools make ids too.
_lock = threading.Lock()
_last_ms = 0
_counter = 0


def uuid7() -> UUID:
    """Return a new UUIDv7: 48 bits of milliseconds, a 12 bit counter, 62 random bits.

    Ids made by one process are strictly increasing, also within a millisecond and when the clock
    steps back. Source: RFC 9562, section 5.7 and 6.2.
    """
    global _last_ms, _counter
    random = int.from_bytes(os.urandom(8), "big")
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms, _counter = now, random >> 53 & 0x3FF
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms, _counter = _last_ms + 1, 0
        milliseconds, counter = _last_ms, _counter
    value = milliseconds & 0xFFFF_FFFF_FFFF
    value = value << 4 | 0x7
    value = value << 12 | counter
    value = value << 2 | 0b10
    value = value << 62 | random & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=value)
