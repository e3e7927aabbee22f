"""One connection that hears rooms: a bounded queue, and one writer that nobody waits for.

What is put is sent in the next turn of the event loop, together with what else is there by then: a
burst is one frame. A connection that takes less than is said in its rooms is closed, and never
holds up a room: more than 256 KiB waiting, or a send that takes two seconds.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from starlette.types import Send

from newel.room_log import utf8_bytes

__all__ = [
    "QUEUE_BYTES",
    "SEND_SECONDS",
    "Allowance",
    "Closed",
    "RoomConnection",
    "RoomQueue",
    "Turn",
    "Wire",
]

QUEUE_BYTES: Final = 262_144
"""How much may wait for one connection."""

SEND_SECONDS: Final = 2.0
"""How long one send may take."""

_FRAME_BYTES: Final = 65_536
_CLOSE_SECONDS: Final = 1.0


class Closed(Exception):
    """A connection is over: the close code, and why."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class Wire(Protocol):
    """What ``newel serve`` knows of a websocket and ASGI does not; ``connections.WIRE``."""

    def write(self, text: str) -> bool:
        """Send ``text`` if that takes no waiting; ``False``: it was not sent."""
        ...

    def abort(self) -> None:
        """Give the connection up, and what was not read of it."""
        ...


class Allowance:
    """How many messages a client may send: ``burst`` at once, ``per_second`` in the long run."""

    def __init__(
        self,
        *,
        per_second: float = 20.0,
        burst: int = 100,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left = float(burst)
        self._monotonic = monotonic
        self._at = monotonic()

    def take(self) -> bool:
        """Count a message; ``False`` if it is one too many."""
        now = self._monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RoomQueue:
    """What waits for one connection; a ``Receiver``. ``closed`` ends with why it was closed.

    Slots, here and below: a message to a thousand touches each of them, and what lies together is
    there at once.
    """

    __slots__ = (
        "_frames", "_has_space", "_limit_bytes", "awake", "closed", "id", "user", "waiting_bytes"
    )  # fmt: skip

    def __init__(self, user: str) -> None:
        self.id: str = secrets.token_hex(8)
        self.user: str = user
        self.closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.waiting_bytes: int = 0
        self.awake: asyncio.Event = asyncio.Event()
        self._frames: list[str] = []
        self._limit_bytes = QUEUE_BYTES
        self._has_space = asyncio.Event()

    def put(self, frame: str) -> None:
        """See ``Receiver``; too much closes the connection, and is forgotten at once."""
        # As `utf8_bytes`, but for its call: this is done for each of a thousand.
        waiting = self.waiting_bytes + (len(frame) if frame.isascii() else len(frame.encode()))
        if waiting > self._limit_bytes:
            self.close(4008, "too slow")
            return
        self.waiting_bytes = waiting
        self._frames.append(frame)
        self.wake()

    def _put_back(self, frames: Sequence[str]) -> None:
        self._frames[:0] = frames
        self.waiting_bytes += sum(map(utf8_bytes, frames))

    def put_missed(self, frames: Sequence[str]) -> None:
        """See ``Receiver``: what was missed is no sign of a slow reader."""
        self._limit_bytes = 2 * QUEUE_BYTES + sum(map(utf8_bytes, frames))  # never a sum of several
        for frame in frames:
            self.put(frame)

    async def space(self) -> None:
        """Wait while so much waits that nothing more should be asked for."""
        while self.waiting_bytes > QUEUE_BYTES:
            self._has_space.clear()
            await self._has_space.wait()

    def wake(self) -> None:
        """Tell whoever sends that something is there."""
        self.awake.set()

    def close(self, code: int, reason: str) -> None:
        """End the connection; what waits for it is forgotten."""
        if not self.closed.done():
            self.closed.set_result(Closed(code, reason))
            self._frames.clear()
            self.waiting_bytes = 0
            self._limit_bytes = -1

    def take(self) -> list[str]:
        """Return what waits, as much as one frame holds, and forget it."""
        frames = self._frames
        if self.waiting_bytes <= _FRAME_BYTES:
            self._frames, self.waiting_bytes = [], 0
            self._limit_bytes = min(self._limit_bytes, QUEUE_BYTES)
            return frames
        count = taken = 0
        for frame in frames:
            size = utf8_bytes(frame)
            if count and taken + size > _FRAME_BYTES:
                break
            taken += size
            count += 1
        self._frames = frames[count:]
        self.waiting_bytes -= taken
        self._has_space.set()
        return frames[:count]


class Turn:
    """Flushes in the next turn of the event loop all connections that asked for it in this one.

    One callback of the loop for a room of a thousand: a thousand take as long as half their sends.
    """

    def __init__(self) -> None:
        self._due: list[RoomConnection] = []

    def ask(self, connection: RoomConnection) -> None:
        """Flush ``connection`` in the next turn."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._run)
        self._due.append(connection)

    def _run(self) -> None:
        due, self._due = self._due, []
        for connection in due:
            connection.flush()


class RoomConnection(RoomQueue):
    """A websocket's queue and its writer; ``wire`` is what its server offers, if it does.

    ``turn`` is shared by the connections that hear the same.
    """

    __slots__ = ("_is_busy", "_send", "_turn", "_wire")

    def __init__(
        self, user: str, send: Send, *, wire: Wire | None = None, turn: Turn | None = None
    ) -> None:
        super().__init__(user)
        self._send = send
        self._wire = wire
        self._turn = turn or Turn()
        self._is_busy = False

    def wake(self) -> None:
        """Send with the next turn of the loop, for what else is put in this one."""
        if not self._is_busy:
            self._is_busy = True
            self._turn.ask(self)

    def flush(self) -> None:
        """Write what takes no waiting; the rest is for ``write``."""
        wire, frames = self._wire, self._frames
        if wire is None:
            self.awake.set()
        elif len(frames) == 1 and wire.write(frames[0]):  # nearly always: nothing to join or split
            frames.clear()
            self.waiting_bytes: int = 0
            self._limit_bytes = QUEUE_BYTES
            self._is_busy = False
        else:
            self._flush_many(wire)

    def _flush_many(self, wire: Wire) -> None:
        while self._frames:
            frames = self.take()
            if not wire.write(_joined(frames)):
                self._put_back(frames)
                self.awake.set()
                return
        self._is_busy = False

    async def write(self) -> None:
        """Send what cannot be sent at once; raises ``Closed`` when a send takes too long."""
        while True:
            await self.awake.wait()
            self.awake.clear()
            while self._frames:
                text = _joined(self.take())
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._send({"type": "websocket.send", "text": text})
                except TimeoutError:
                    raise Closed(4008, "too slow") from None
            self._is_busy = False

    async def end(self, why: Closed) -> None:
        """Say why it is over, if that can still be said."""
        message: dict[str, Any] = {"code": why.code, "reason": why.reason}
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._send({"type": "websocket.close", **message})
        except (TimeoutError, OSError, RuntimeError):  # RuntimeError: it was closed already
            if self._wire is not None:
                self._wire.abort()


def _joined(frames: list[str]) -> str:
    """Return one message as it is, several as an array of them."""
    return frames[0] if len(frames) == 1 else f"[{','.join(frames)}]"
