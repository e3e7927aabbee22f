"""A TCP proxy that can be told to fail: it stands between a service and what it depends on.

async with Proxy(target) as proxy:        # ("127.0.0.1", 5432), or the path of a socket
    await proxy.switch("black hole")      # takes connections and bytes, and passes nothing on
    await proxy.switch("pass")            # what was held back goes on its way
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

__all__ = ["Mode", "Proxy"]

Mode = Literal["pass", "refuse", "reset", "black hole", "latency", "slow", "cut", "full"]
"""``refuse``: nobody listens, connections end; ``reset``: all are reset, also new ones.

``latency``: whatever is passed on comes later; ``slow``: a few bytes at a time; ``cut``: a
connection ends in the middle of an answer; ``full`` is a disk's.
"""

Target = tuple[str, int] | Path

LATENCY_SECONDS: Final = 0.1
SLOW_BYTES: Final = 2_000
SLOW_SECONDS: Final = 0.01
CUT_BYTES: Final = 3_000
_CHUNK_BYTES: Final = 65_536
_ENDS: Final[Sequence[Mode]] = ("refuse", "reset")
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close throws away what is left, by a RST


class Proxy:
    """Listens on ``port`` of 127.0.0.1 and passes on to ``target``; ``open`` connections."""

    def __init__(self, target: Target) -> None:
        self.mode: Mode = "pass"
        self._target = target
        self._place = _bound(0)  # never listens: keeps the port for us while nobody does
        self.port: int = self._place.getsockname()[1]
        self._moved = asyncio.Event()  # the mode has changed
        self._links: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._listener: asyncio.Server | None = None

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        await self.switch("pass")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.switch("refuse")
        self._place.close()

    async def switch(self, mode: Mode) -> None:
        """Do so from now on, with the connections that there are, too."""
        self.mode = mode
        self._moved.set()
        self._moved = asyncio.Event()
        if mode == "refuse" and self._listener is not None:
            self._listener.close()
            self._listener = None
        elif mode != "refuse" and self._listener is None:
            self._listener = await asyncio.start_server(self._link, sock=_bound(self.port))
        if mode in _ENDS:
            links = dict(self._links)
            for task, writer in links.items():
                self._end(writer)
                task.cancel()
            await asyncio.gather(*links, return_exceptions=True)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self.mode == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on in both directions until one of them ends."""
        if self.mode in _ENDS:
            self._end(writer)
            return
        task = asyncio.current_task()
        assert task is not None, "asyncio.start_server calls this in a task"
        self._links[task] = writer
        try:
            await self._passable()
            with suppress(OSError):  # who is behind us is away itself
                await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # ended by `switch`, which waits for us
        finally:
            del self._links[task]
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._target, Path):
            back, other = await asyncio.open_unix_connection(str(self._target))
        else:
            back, other = await asyncio.open_connection(*self._target)
        directions = [
            asyncio.create_task(self._pump(reader, other)),
            asyncio.create_task(self._pump(back, writer, answers=True)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in directions:
                one.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            other.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        cut_after = CUT_BYTES
        while chunk := await reader.read(SLOW_BYTES if self.mode == "slow" else _CHUNK_BYTES):
            if self.mode == "latency":
                await asyncio.sleep(LATENCY_SECONDS)
            elif self.mode == "slow":
                await asyncio.sleep(SLOW_SECONDS)
            elif self.mode == "cut" and answers:
                chunk, cut_after = chunk[:cut_after], cut_after - len(chunk)
            await self._passable()
            writer.write(chunk)
            await writer.drain()
            if cut_after <= 0:
                return

    async def _passable(self) -> None:
        """Wait while the proxy is a black hole."""
        while self.mode == "black hole":
            await self._moved.wait()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    bound.setblocking(False)  # noqa: FBT003 - the standard library's
    return bound
