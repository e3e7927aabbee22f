"""The processes of the service under test: started by ``newel``, killed, and started again."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any, BinaryIO, Final

import httpx2

from newel.clock import utc_now
from newel.errors import ConfigurationError

__all__ = ["ROOT", "SHOP", "Api", "Fleet", "Member", "newel_command", "send"]

ROOT: Final = Path(__file__).resolve().parents[1]
SHOP: Final = ROOT / "stress/shop"
START_SECONDS: Final = 60.0
"""How long a process may take to get ready before the run is given up."""

_LOOK_SECONDS: Final = 0.01
_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_PTRACER: Final = 0x59616D61
_ANYBODY: Final = ctypes.c_ulong(-1)


def newel_command(*arguments: str) -> list[str]:
    """Return the command of ``newel``, by the interpreter itself: a shim cannot be traced."""
    return [sys.executable, str(Path(sysconfig.get_path("scripts"), "newel")), *arguments]


def _attach_to_parent() -> None:
    """Die with the harness, however it ends, and let strace attach where Yama restricts that."""
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, SIGKILL)
    libc.prctl(_SET_PTRACER, _ANYBODY)


def send(process: asyncio.subprocess.Process, number: Signals) -> None:
    """Send a signal; asyncio's own way to do it takes the exit code from who waits for it."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


class Member:
    """A place in the fleet: the API or a worker; who has it is replaced when it is killed.

    ``up_since`` is when it got ready, ``None`` while nobody does its work.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        service: Path = SHOP,
    ) -> None:
        self.name = name
        self.log = log
        self._service = service
        self.up_since: datetime | None = None
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0
        self._log_start = 0

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process that has this place, or had it last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def is_alive(self) -> bool:
        """Whether it runs, also before it is ready, and when it is stopped."""
        return self._process is not None and self._process.returncode is None

    async def start(self, **environment: str) -> None:
        """Start it, with some more variables; ``ready`` waits until it works."""
        with self._open_log() as output:
            self._started_at = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._service,
                env={**self._environment, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the harness's
                preexec_fn=_attach_to_parent,
            )

    def _open_log(self) -> BinaryIO:
        output = self.log.open("ab")
        self._log_start = output.tell()
        return output

    def said(self) -> str:
        """Return what the present process has logged."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def waited_seconds(self) -> float:
        """Return how long its threads were ready to run and waited for a processor.

        Other load on the machine shows here, and is taken out of what the service is timed by.
        """
        waited = 0
        for thread in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # it has just ended
                waited += int(thread.read_text().split()[1])
        return waited / 1e9

    async def ready(self) -> float:
        """Wait until it works; return the seconds that took, without waits for a processor."""
        while not await self._is_ready():
            if not self.is_alive or time.monotonic() - self._started_at > START_SECONDS:
                raise ConfigurationError(
                    f"{self.name} did not get ready: {self._last_line()}", fix=f"read {self.log}"
                )
            await asyncio.sleep(_LOOK_SECONDS)
        self.up_since = utc_now()
        return time.monotonic() - self._started_at - self.waited_seconds()

    async def _is_ready(self) -> bool:
        return '"event":"working"' in self.said()

    def _last_line(self) -> str:
        lines = self.said().strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def signal(self, number: Signals) -> None:
        """Send it a signal."""
        self.up_since = None
        if self.is_alive:
            send(self.process, number)

    async def kill(self) -> None:
        """End it at once."""
        self.signal(SIGKILL)
        await self.died()

    async def died(self) -> None:
        """Wait until it has ended."""
        await self.process.wait()
        self.up_since = None

    def pause(self) -> None:
        """Stop it where it is, until ``resume``."""
        self.signal(SIGSTOP)

    def resume(self) -> None:
        """Go on after SIGSTOP."""
        self.signal(SIGCONT)
        self.up_since = utc_now()

    async def stop(self) -> int:
        """End it as an operator does; return the exit code."""
        self.signal(SIGTERM)
        async with asyncio.timeout(START_SECONDS):
            return await self.process.wait()


class Api(Member):
    """The process that serves, on the same port each time."""

    url: str = ""

    async def _is_ready(self) -> bool:
        try:
            async with httpx2.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{self.url}/ready", timeout=2)
        except httpx2.TransportError:
            return False
        return answer.status_code == 200


class Fleet:
    """One process that serves and two that work, all with the same ``environment``."""

    def __init__(self, *, environment: Mapping[str, str], folder: Path, port: int) -> None:
        def options(name: str) -> dict[str, Any]:
            return {"environment": environment, "log": folder / f"{name}.log"}

        serve = newel_command("serve", "--port", str(port))
        self.api = Api("api", serve, **options("api"))
        self.api.url = f"http://127.0.0.1:{port}"
        self.workers = [
            Member(name, newel_command("worker"), **options(name))
            for name in ("worker-1", "worker-2")
        ]
        self.restart_seconds: list[float] = []

    @property
    def members(self) -> list[Member]:
        return [self.api, *self.workers]

    def working(self) -> list[Member]:
        """Return the workers that work."""
        return [one for one in self.workers if one.is_alive and one.up_since is not None]

    async def start(self, *members: Member) -> None:
        """Start members that are not there, all of them at first, and wait until they work."""
        chosen = members or self.members
        await asyncio.gather(*(one.start() for one in chosen))
        took = await asyncio.gather(*(one.ready() for one in chosen))
        self.restart_seconds += took

    async def kill(self, *members: Member) -> None:
        """Kill members, all of them if none is named, at once."""
        chosen = members or self.members
        for one in chosen:
            one.signal(SIGKILL)
        await asyncio.gather(*(one.died() for one in chosen))

    async def stop(self) -> list[int]:
        """Stop all cleanly; return their exit codes."""
        return await asyncio.gather(*(one.stop() for one in self.members))

    async def end(self) -> None:
        """Leave nothing behind."""
        await self.kill(*(one for one in self.members if one.is_alive))
