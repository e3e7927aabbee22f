"""The clock that limits look at: it can be put forward, so that nobody waits for a minute."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Clock"]


class Clock:
    """Stands in for `time.monotonic` and `time.time`; other ways to read the time are not moved."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0
        self._originals = (time.monotonic, time.time)

    def install(self) -> None:
        """Let everything that is imported from now on read this clock."""
        monotonic, wall = self._originals

        def moved_monotonic() -> float:
            return monotonic() + self._ahead_seconds

        def moved_wall() -> float:
            return wall() + self._ahead_seconds

        self._set(moved_monotonic, moved_wall)

    def remove(self) -> None:
        """Give `time` its own functions back."""
        self._set(*self._originals)

    @staticmethod
    def _set(monotonic: Any, wall: Any) -> None:
        module: Any = time
        module.monotonic, module.time = monotonic, wall

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        self._ahead_seconds += seconds
