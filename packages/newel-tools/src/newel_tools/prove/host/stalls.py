"""A watchdog: sees when the event loop stands still, and what it stands still in."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any

from .record import Places

__all__ = ["Watchdog"]

_BEAT_SECONDS = 0.01
_STALLS = 500  # kept at most; one endpoint that stalls is one finding anyway


class Watchdog:
    """A thread that looks at the loop's heartbeat and keeps every stall with its stack.

    ``limit_seconds`` is the shortest stall that counts. Time in which this process was ready to run
    and the machine ran others is not counted.
    """

    def __init__(self, places: Places, *, limit_seconds: float = 0.1) -> None:
        self.stalls: list[dict[str, Any]] = []
        self._places = places
        self._limit_seconds = limit_seconds
        self._beat = time.monotonic()
        self._queued = 0.0
        self._stopped = threading.Event()
        self._thread_id = 0
        self._task_id = 0
        self._handle: Any = None
        self._doing: dict[int, str] = {}
        self._rounds = 0

    def start(self) -> None:
        """Watch the running loop; it has to run in this thread."""
        self._thread_id = threading.get_ident()
        self._task_id = threading.get_native_id()
        self._tick(asyncio.get_running_loop())
        threading.Thread(target=self._watch, name="newel-watchdog", daemon=True).start()

    def stop(self) -> None:
        """End the thread and the heartbeat."""
        self._stopped.set()
        if self._handle is not None:
            self._handle.cancel()

    def forget(self) -> None:
        """Take the present for the last beat: the clock was moved."""
        self._beat = time.monotonic()

    async def take(self) -> list[dict[str, Any]]:
        """Return the stalls since the last time; those that are just over are waited for."""
        wanted = self._rounds + 2
        for _ in range(100):
            if self._rounds >= wanted or self._stopped.is_set():
                break
            await asyncio.sleep(_BEAT_SECONDS / 2)
        found, self.stalls = self.stalls, []
        return found

    def begin(self, number: int, said: str) -> None:
        """Note that a request is being answered."""
        self._doing[number] = said

    def end(self, number: int) -> None:
        """Note that it was answered."""
        self._doing.pop(number, None)

    def _tick(self, loop: Any) -> None:
        self._beat = time.monotonic()
        self._handle = loop.call_later(_BEAT_SECONDS, self._tick, loop)

    def _watch(self) -> None:
        beat, queued, stack = self._beat, self._queued_seconds(), None
        while not self._stopped.wait(_BEAT_SECONDS):
            self._rounds += 1
            if self._beat != beat:
                if stack is not None:
                    self._note(self._beat - beat, queued, stack)
                beat, queued, stack = self._beat, self._queued_seconds(), None
            elif stack is None and time.monotonic() - beat > self._limit_seconds * 0.6:
                # Looked at before the stall is over, and kept if it turns out long enough.
                stack = self._look()

    def _look(self) -> dict[str, Any]:
        frame = getattr(sys, "_current_frames")().get(self._thread_id)  # noqa: B009 - private, and the one way to see another thread's stack
        return {
            "where": self._places.of_frame(frame),
            "stack": self._places.stack(frame),
            "doing": list(self._doing.values()),
        }

    def _note(self, seconds: float, queued: float, stack: dict[str, Any]) -> None:
        stalled = seconds - _BEAT_SECONDS - (self._queued_seconds() - queued)
        if stalled > self._limit_seconds and len(self.stalls) < _STALLS:
            self.stalls.append({"seconds": round(stalled, 3), **stack})

    def _queued_seconds(self) -> float:
        """Return how long the loop's thread has waited for a processor; 0 where Linux is not."""
        try:
            path = Path(f"/proc/self/task/{self._task_id}/schedstat")
            return int(path.read_text(encoding="ascii").split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0
