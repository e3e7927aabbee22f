"""Many clients at little cost: raw connections, that ask as they are answered, or all the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

__all__ = ["Crowd", "Reply", "percentile", "request"]

_MOST_LINES: Final = 2000
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: ``status`` is 0 when there was none."""

    sent_at: float
    seconds: float
    status: int
    has_retry_after: bool = False

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of ``values`` does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def request(method: str, path: str, body: bytes = b"", /, **headers: str) -> bytes:
    """Return the bytes of a request; a header's name is written with ``_``."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Line(asyncio.Protocol):
    """A connection with at most one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bool]] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not by isinstance: uvloop's is none of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.is_open = False
        self._settle(0, has_retry_after=False)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        _, _, rest = head.partition(b"content-length: ")
        size = int(rest.partition(b"\r\n")[0] or b"0")
        if len(self._received) < end + 4 + size:
            return
        self._received.clear()
        if b"connection: close" in head:
            self.close()
        self._settle(int(head[9:12]), has_retry_after=b"\r\nretry-after:" in head)

    def _settle(self, status: int, *, has_retry_after: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, has_retry_after))

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    async def ask(self, data: bytes) -> Reply:
        """Send a request and wait for its answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        sent = time.monotonic()
        self._transport.write(data)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status, has_retry_after = await self._answer
        except TimeoutError:
            status, has_retry_after = 0, False
            self.close()
        seconds = time.monotonic() - sent
        return Reply(sent_at=sent, seconds=seconds, status=status, has_retry_after=has_retry_after)


class Crowd:
    """Clients of the server at ``port``, the process ``pid``, that send what ``requests`` yields.

    What its loop and ours wait for a processor is not counted: that is other programs' doing.
    """

    def __init__(self, port: int, requests: Iterator[bytes], *, pid: int) -> None:
        self._port = port
        self._requests = requests
        self._pid = pid
        self._idle: list[_Line] = []
        self._lines = 0

    async def busy(self, *, clients: int, seconds: float) -> list[Reply]:
        """Have so many clients, each of which asks again when it is answered."""
        end = time.monotonic() + seconds
        replies: list[Reply] = []

        async def client() -> None:
            while time.monotonic() < end:
                replies.append(await self.ask())

        await asyncio.gather(*(client() for _ in range(clients)))
        return replies

    async def steady(self, *, per_second: float, seconds: float) -> list[Reply]:
        """Send so many requests a second, whether or not they are answered."""
        began = time.monotonic()
        replies: list[Reply] = []
        asking: set[asyncio.Task[None]] = set()

        async def one() -> None:
            replies.append(await self.ask())

        for number in range(int(per_second * seconds)):
            if (ahead := began + number / per_second - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            task = asyncio.create_task(one())
            asking.add(task)
            task.add_done_callback(asking.discard)
        await asyncio.gather(*asking)
        return replies

    async def ask(self) -> Reply:
        """Send the next request, on a connection that is free, or a new one."""
        line = await self._line()
        if line is None:
            return Reply(sent_at=time.monotonic(), seconds=0.0, status=0)
        waited = self._waited()
        reply = await line.ask(next(self._requests))
        reply = replace(reply, seconds=max(0.0, reply.seconds - (self._waited() - waited)))
        if line.is_open:
            self._idle.append(line)
        else:
            self._lines -= 1
        return reply

    def _waited(self) -> float:
        nanoseconds = 0
        for process in (self._pid, "self"):
            with suppress(OSError):  # it has ended
                nanoseconds += int(Path(f"/proc/{process}/schedstat").read_text().split()[1])
        return nanoseconds / 1e9

    async def _line(self) -> _Line | None:
        while self._idle:
            line = self._idle.pop()
            if line.is_open:
                return line
            self._lines -= 1
        if self._lines >= _MOST_LINES:
            return None
        self._lines += 1
        loop = asyncio.get_running_loop()
        try:
            _, line = await loop.create_connection(_Line, "127.0.0.1", self._port)
        except OSError:
            self._lines -= 1
            return None
        return line

    def close(self) -> None:
        """Close the connections."""
        for line in self._idle:
            line.close()
