"""What was said in rooms, for a while: numbered, kept for who resumes, heard by every process.

Each room has an *epoch*, a random name, and in it the messages have the *offsets* 1, 2, 3... Who
knows both can tell whether something is missing, and what. When a log has to begin anew it takes
another epoch, so that nobody takes an old offset for one of the new messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

__all__ = [
    "HISTORY_MESSAGES",
    "HISTORY_SECONDS",
    "REPLAY_BYTES",
    "Entry",
    "Heard",
    "MemoryLog",
    "Position",
    "Presence",
    "Replay",
    "RoomLog",
    "utf8_bytes",
]

HISTORY_MESSAGES: Final = 1000
"""How many messages of a room are kept."""

HISTORY_SECONDS: Final = 300.0
"""How long a message is kept."""

REPLAY_BYTES: Final = 1_048_576
"""What is more than this is not sent to one that resumes: it is quicker read from the API."""

_HISTORY_BYTES: Final = 4 * 1_048_576
_ALL_BYTES: Final = 64 * 1_048_576
_ROOM_SECONDS: Final = 86_400.0
_MAX_BEGUN: Final = 50_000
_MAX_SILENT: Final = 50_000
_SWEPT: Final = 2
# What CPython takes for a message beside its text, a room, and one of which nothing is kept.
_ENTRY_BYTES, _ROOM_BYTES, _SILENT_BYTES, _BEGUN_BYTES = 300, 1200, 350, 250


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a room somebody is: everything up to ``offset`` of ``epoch`` was seen."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A message: a JSON object without its offset, and who does not get it (``""``: all do)."""

    offset: int
    text: str
    but: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a log still has after an offset, in order, and where it ends."""

    top: Position
    entries: Sequence[Entry]

    def since(self, position: Position) -> Sequence[Entry] | None:
        """Return exactly what came after ``position``; ``None`` when that cannot be said."""
        if position.epoch != self.top.epoch or position.offset > self.top.offset:
            return None
        missed = [entry for entry in self.entries if entry.offset > position.offset]
        return missed if len(missed) == self.top.offset - position.offset else None


def utf8_bytes(text: str) -> int:
    """Return how long ``text`` is as it is sent."""
    return len(text) if text.isascii() else len(text.encode())  # most is, and that is known


Heard = Callable[[str, str, Entry], None]
"""Called with a room, its epoch and what was said in it; an entry of offset 0: begun anew."""


class RoomLog(Protocol):
    """Numbers what is said, keeps it for a while, and lets every process hear it.

    Each method raises ``Unavailable`` in bounded time when it cannot do its work.
    """

    async def append(self, room: str, text: str, *, but: str = "") -> Position:
        """Number a message and keep it; who listens hears it, here too."""
        ...

    async def read(self, room: str, *, after: int) -> Replay:
        """Return what is kept after the offset ``after``, and the end of the room.

        The oldest may be left out when all is more than ``REPLAY_BYTES``.
        """
        ...

    async def renew(self, room: str) -> None:
        """Begin the room anew, since something of it was lost: another epoch, nothing kept."""
        ...

    async def listen(self, heard: Heard, *, lost: Callable[[], None]) -> None:
        """Until cancelled, tell what is said anywhere; ``lost``: some of it may have been missed.

        ``lost`` is called whenever it begins to hear, also for the first time.
        """
        ...


class Presence(Protocol):
    """Who is in which room of the other processes. Each method raises ``Unavailable``."""

    async def mark(self, present: Iterable[tuple[str, str]], *, seconds: float) -> None:
        """Note that users are in rooms (pairs of a room and a user) for the next ``seconds``."""
        ...

    async def unmark(self, room: str, user: str) -> None:
        """Note that a user has left a room by this process."""
        ...

    async def present(self, room: str) -> Sequence[str]:
        """Return the users who are in a room, each once."""
        ...


@dataclass(slots=True, eq=False)
class _History:
    epoch: str
    offset: int
    kept: deque[tuple[float, int, Entry]] = field(default_factory=deque[tuple[float, int, Entry]])
    bytes: int = 0
    spoken_at: float = 0.0

    def add(self, at: float, entry: Entry) -> None:
        size = sys.getsizeof(entry.text) + _ENTRY_BYTES  # one emoji makes all of it four times that
        self.offset, self.spoken_at = entry.offset, at
        self.kept.append((at, size, entry))
        self.bytes += size

    def drop(self, *, before: float) -> None:
        """Forget what is too old or too much."""
        kept = self.kept
        while kept and (
            len(kept) > HISTORY_MESSAGES or self.bytes > _HISTORY_BYTES or kept[0][0] < before
        ):
            self.bytes -= kept.popleft()[1]


class MemoryLog:
    """A ``RoomLog`` of one process; at most 4 MiB a room and 64 MiB for all.

    A room in which nobody spoke takes no memory: its epoch is computed. ``monotonic`` returns
    seconds.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._rooms: dict[str, _History] = {}  # the one spoken in last is the last
        self._silent: dict[str, tuple[Position, float]] = {}  # where they ended; last looked at
        self._kept_bytes = 0
        self._key = secrets.token_bytes(16)
        self._begun: dict[str, int] = {}  # how often a room began anew
        self._heard: Heard | None = None

    @property
    def held_bytes(self) -> int:
        """About what all of it takes."""
        rooms = _ROOM_BYTES * len(self._rooms) + _SILENT_BYTES * len(self._silent)
        return self._kept_bytes + rooms + _BEGUN_BYTES * len(self._begun)

    async def append(self, room: str, text: str, *, but: str = "") -> Position:
        """See ``RoomLog``."""
        now = self._monotonic()
        history = self._spoken_in(room)
        entry = Entry(history.offset + 1, text, but)
        held = history.bytes
        history.add(now, entry)
        self._kept_bytes += history.bytes - held
        self._drop(history, before=now - HISTORY_SECONDS)
        while self.held_bytes > _ALL_BYTES and len(self._rooms) > 1:
            self._silence(next(iter(self._rooms)))
        self._sweep(now)
        if self._heard is not None:
            self._heard(room, history.epoch, entry)
        return Position(history.epoch, entry.offset)

    async def read(self, room: str, *, after: int) -> Replay:
        """See ``RoomLog``."""
        now = self._monotonic()
        history = self._rooms.get(room)
        if history is not None:
            self._drop(history, before=now - HISTORY_SECONDS)
            entries = [entry for _, _, entry in history.kept if entry.offset > after]
            return Replay(Position(history.epoch, history.offset), entries)
        if (silent := self._silent.pop(room, None)) is not None:
            self._silent[room] = silent[0], now  # somebody needs it: the last to be forgotten
            return Replay(silent[0], [])
        return Replay(Position(self._epoch(room), 0), [])

    async def renew(self, room: str) -> None:
        """See ``RoomLog``."""
        self._forget(room)
        if self._heard is not None:
            self._heard(room, self._epoch(room), Entry(0, ""))

    async def listen(self, heard: Heard, *, lost: Callable[[], None]) -> None:
        """See ``RoomLog``."""
        self._heard = heard
        lost()
        try:
            await asyncio.Event().wait()
        finally:
            self._heard = None

    def _epoch(self, room: str) -> str:
        """Return the epoch with which a room begins."""
        name = f"{self._begun.get(room, 0)} {room}"
        return hashlib.blake2b(name.encode(), key=self._key, digest_size=6).hexdigest()

    def _spoken_in(self, room: str) -> _History:
        """Return a room as the one spoken in last."""
        history = self._rooms.pop(room, None)
        if history is None:
            ended, _ = self._silent.pop(room, (Position(self._epoch(room), 0), 0.0))
            history = _History(ended.epoch, ended.offset)
        self._rooms[room] = history
        return history

    def _silence(self, room: str) -> None:
        """Forget what was said in a room, and remember where that ended, as for so many."""
        history = self._rooms.pop(room)
        self._kept_bytes -= history.bytes
        self._silent[room] = Position(history.epoch, history.offset), history.spoken_at
        if len(self._silent) > _MAX_SILENT:
            self._forget(next(iter(self._silent)))

    def _forget(self, room: str) -> None:
        """Have a room begin anew; all that are unknown do when there are too many to count."""
        self._begun[room] = self._begun.get(room, 0) + 1
        if len(self._begun) > _MAX_BEGUN:
            self._begun, self._key = {}, secrets.token_bytes(16)
        self._silent.pop(room, None)
        history = self._rooms.pop(room, None)
        self._kept_bytes -= 0 if history is None else history.bytes

    def _drop(self, history: _History, *, before: float) -> None:
        held = history.bytes
        history.drop(before=before)
        self._kept_bytes -= held - history.bytes

    def _sweep(self, now: float) -> None:
        """Forget what is old, of two rooms at once; after a silent day a room begins anew."""
        for room in list(islice(self._rooms, _SWEPT)):
            if self._rooms[room].spoken_at < now - HISTORY_SECONDS:
                self._silence(room)
        for room in list(islice(self._silent, _SWEPT)):
            if self._silent[room][1] < now - _ROOM_SECONDS:
                self._forget(room)
