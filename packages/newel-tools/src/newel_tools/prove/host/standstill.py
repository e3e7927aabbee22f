"""What never ends: an import or a command that stands still is seen, and said with its line."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from .record import Places

__all__ = ["Standstill", "standstill_told"]

_LOOKS = 20  # in the time after which what does not move stands still
_IDLE = 0.05  # of that time at work, at most: what waits needs none
_BUSY = 0.7  # at least: a loop of the project's own, that ends nowhere


class Standstill(Exception):
    """The code has been at the same place for too long; ``where`` names the project's line."""

    def __init__(self, message: str, *, where: str | None, stack: list[str]) -> None:
        super().__init__(message)
        self.where = where
        self.stack = stack


@contextlib.contextmanager
def standstill_told(
    places: Places, *, seconds: float, tell: Callable[[Standstill], None]
) -> Generator[None]:
    """Call ``tell``, from a thread of its own, if the block is in the same calls for ``seconds``.

    Work inside a library is no standstill, however long it takes: a model that is loaded, say. Nor
    is waiting while another thread works: the block may wait for that one.
    """
    ended = threading.Event()
    watch = _Watch(places, seconds, tell)
    thread = threading.Thread(target=watch.run, args=[ended], name="newel-standstill", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


class _Worked(NamedTuple):
    thread: float
    process: float


class _Watch:
    def __init__(self, places: Places, seconds: float, tell: Callable[[Standstill], None]) -> None:
        self._places = places
        self._seconds = seconds
        self._tell = tell
        self._ident = threading.get_ident()
        self._native_id = threading.get_native_id()

    def run(self, ended: threading.Event) -> None:
        calls, since, worked = self._calls(), time.monotonic(), self._worked()
        while not ended.wait(self._seconds / _LOOKS):
            now = self._calls()
            if now != calls:
                calls, since, worked = now, time.monotonic(), self._worked()
            passed = time.monotonic() - since
            if passed >= self._seconds and self._stands(worked, passed):
                self._tell(self._said(passed))
                return

    def _stands(self, before: _Worked, passed: float) -> bool:
        now = self._worked()
        frame = self._frame()
        is_own = frame is not None and self._places.relative(frame.f_code.co_filename) is not None
        worked = now.thread - before.thread
        is_idle = max(worked, now.process - before.process) < passed * _IDLE
        return is_idle or (is_own and worked > self._seconds * _BUSY)

    def _said(self, seconds: float) -> Standstill:
        frame = self._frame()
        return Standstill(
            f"it has stood still for {seconds:.0f} s",
            where=self._places.of_frame(frame),
            stack=self._places.stack(frame, limit=6),
        )

    def _frame(self) -> FrameType | None:
        frames: Any = getattr(sys, "_current_frames")()  # noqa: B009 - private, and the one way to see another thread's stack
        return frames.get(self._ident)

    def _calls(self) -> list[int]:
        """Return what the thread is in: functions, not lines, for a loop goes from line to line."""
        frame, found = self._frame(), list[int]()
        while frame is not None:
            found.append(id(frame.f_code))
            frame = frame.f_back
        return found

    def _worked(self) -> _Worked:
        """Return how long the thread has run, or would have on an idle machine, and all threads."""
        process = time.process_time()
        try:
            path = Path(f"/proc/self/task/{self._native_id}/schedstat")
            ran, queued, _ = path.read_text(encoding="ascii").split()
            return _Worked((int(ran) + int(queued)) / 1e9, process)
        except (OSError, ValueError):
            return _Worked(process, process)
