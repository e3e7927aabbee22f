"""Workers: processes that serve on one socket, replaced when they die or hang; on SIGHUP, in turn.

    await Workers(command, listener, count=4, stop_seconds=60).run()

Each is ``newel serve`` again, in an interpreter of its own, with a channel to this process: by it
the socket goes there and "ready" comes back, each second; who finds its other end closed stops.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

import structlog

from newel.tasks import beside

__all__ = ["READY", "RETIRE", "Workers", "hear_hangup", "inherited", "show_life"]

READY: Final = b"1"
"""What a process says when it serves, and each second from then on."""

RETIRE: Final = b"0"
"""What a process is told when another one has taken its place."""

_START_SECONDS: Final = 60.0
_SILENT_SECONDS: Final = 30.0
"""As long as a request may take: who does nothing else for so long has failed all of them."""

_LOOK_SECONDS: Final = 1.0
_MOST_SIGNS: Final = 4096
_DUMP_SECONDS: Final = 1.0
"""How long a process may take to write down where it is."""

_LAST_WORDS_SECONDS: Final = 5.0
_SHORT_LIFE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = (0.5, 30.0)
_log = structlog.get_logger("newel.workers")


def inherited(channel: int) -> tuple[socket.socket, socket.socket]:
    """Return a worker's end of the channel with that number, and the socket to serve on.

    Neither is passed on to the programs that a service may start.
    """
    end = socket.socket(fileno=channel)
    _, [number], _, _ = socket.recv_fds(end, 1, 1)
    listener = socket.socket(fileno=number)
    end.set_inheritable(False)
    listener.set_inheritable(False)
    return end, listener


def show_life(channel: socket.socket) -> None:
    """Say ``READY`` by a worker's end of the channel, each second in which its event loop turns."""
    with suppress(OSError):  # nobody listens, or has not for minutes
        channel.send(READY, socket.MSG_DONTWAIT)
    asyncio.get_running_loop().call_later(_LOOK_SECONDS, show_life, channel)


def hear_hangup(loop: asyncio.AbstractEventLoop, told: Callable[[], object]) -> None:
    """Call ``told`` at each SIGHUP, but stop when it says that this process lost its terminal.

    Unless the process was started to outlive it (``nohup``).
    """
    has_terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_at_terminal()

    def hear() -> None:
        if has_terminal and not _is_at_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            told()

    loop.add_signal_handler(signal.SIGHUP, hear)


def _is_at_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Workers:
    """``count`` processes that serve on ``listener``; ``command`` gets the channel's number.

    A process that dies is started again, after a pause that grows while it dies soon. One that
    shows no life for ``silent_seconds`` is sent SIGQUIT, to say where it is, and killed. SIGHUP
    replaces them one by one, each when its successor serves. SIGTERM, Ctrl-C and the end of the
    terminal stop all; who is there ``stop_seconds`` later is killed.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        listener: socket.socket,
        *,
        count: int,
        stop_seconds: float,
        silent_seconds: float = _SILENT_SECONDS,
    ) -> None:
        self._listener = listener
        self._count = count
        self._stop_seconds = stop_seconds
        self._new_place = partial(_Place, command, listener, silent_seconds=silent_seconds)
        self._places: list[_Place] = []
        self._stopping = asyncio.Event()
        self._restarting = asyncio.Event()

    async def run(self, *, on_ready: Callable[[], None]) -> int:
        """Serve until a signal; return the exit code: the first process's if it does not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        hear_hangup(loop, self._restarting.set)
        self._places = [self._new_place() for _ in range(self._count)]
        first, *others = self._places
        if not await first.start() or self._stopping.is_set():  # it has said why, or we are told
            code = await first.end(self._stop_seconds)
            return 0 if self._stopping.is_set() else max(code, 1)
        await asyncio.gather(*(place.start() for place in others))
        kept = (place.keep() for place in self._places)
        async with beside(*kept, self._restart_when_asked()):
            if not self._stopping.is_set():
                on_ready()
            await self._stopping.wait()
        await asyncio.gather(*(place.end(self._stop_seconds) for place in self._places))
        return 0

    def _stop(self, number: signal.Signals) -> None:
        """Pass a signal on; a second Ctrl-C reaches them too."""
        self._stopping.set()
        # Else whoever connects now would wait for an answer that nobody gives.
        self._listener.close()
        for place in self._places:
            place.send(number)

    async def _restart_when_asked(self) -> None:
        while True:
            await self._restarting.wait()
            self._restarting.clear()
            _log.info("restarting", processes=self._count)
            for place in self._places:
                if not await place.replace(self._stop_seconds):
                    break


class _Process:
    """A process and the channel to it."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self.id = process.pid
        self.began = time.monotonic()
        self._process = process
        self._channel = channel

    @classmethod
    async def start(
        cls, command: Callable[[int], Sequence[str]], listener: socket.socket
    ) -> _Process:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs, ExitStack() as unless_started:
            unless_started.callback(ours.close)
            socket.send_fds(ours, [b"."], [listener.fileno()])
            number = theirs.fileno()
            process = await asyncio.create_subprocess_exec(
                *command(number),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[number],
                start_new_session=True,  # Ctrl-C comes here, and is passed on
            )
            unless_started.pop_all()
        return cls(process, ours)

    async def is_ready(self) -> bool:
        """Wait until it serves, or does not."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_START_SECONDS):
                return await asyncio.get_running_loop().sock_recv(self._channel, 1) == READY
        return False

    def shows_life(self) -> bool:
        """Tell whether its event loop has turned since this was asked last."""
        with suppress(OSError):
            return self._channel.recv(_MOST_SIGNS) != b""
        return False

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        code = await self._process.wait()
        self._channel.close()
        return code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; asyncio's own way takes the exit code from who waits for it."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.id, number)

    def retire(self) -> None:
        """Tell it that another one has its place."""
        with suppress(OSError):
            self._channel.send(RETIRE)


class _Place:
    """The place of one process, which others have after it."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        listener: socket.socket,
        *,
        silent_seconds: float,
    ) -> None:
        self._command = command
        self._listener = listener
        self._silent_seconds = silent_seconds
        self._process: _Process | None = None
        self._retired: set[_Process] = set()
        self._changing = asyncio.Lock()
        self._pause_seconds = 0.0

    async def start(self) -> bool:
        """Start a process in this place; tell whether it serves. One that does not is killed."""
        self._process = await self._begin()
        return self._process is not None and await self._is_good(self._process)

    async def _begin(self) -> _Process | None:
        """Return a new process, or None and say why: there may be room for it later."""
        try:
            return await _Process.start(self._command, self._listener)
        except OSError as error:
            _log.error("process_not_started", reason=error.strerror)
            return None

    async def _is_good(self, process: _Process) -> bool:
        if await process.is_ready():
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await process.ended()
        process.send(signal.SIGKILL)
        return False

    async def keep(self) -> None:
        """Start another one whenever the process of this place has died."""
        while True:
            process = self._process
            code = None if process is None else await self._end_of(process)
            async with self._changing:
                if process is not self._process:
                    continue  # it was replaced
                least, most = _PAUSE_SECONDS
                is_old = process and time.monotonic() - process.began > _SHORT_LIFE_SECONDS
                self._pause_seconds = (
                    0.0 if is_old else min(max(least, 2 * self._pause_seconds), most)
                )
                if process is not None:
                    _log.error(
                        "process_died", process=process.id, code=code, again_in=self._pause_seconds
                    )
                await asyncio.sleep(self._pause_seconds)
                await self.start()

    async def _end_of(self, process: _Process) -> int:
        async with beside(self.watch(process)):
            return await process.ended()

    async def watch(self, process: _Process) -> None:
        """Kill ``process`` when it hangs.

        Looks are counted, not time: while the machine is suspended, or this process stopped, nobody
        can show life, and nobody looks.
        """
        silent_seconds = 0.0
        while silent_seconds < self._silent_seconds:
            await asyncio.sleep(_LOOK_SECONDS)
            silent_seconds = 0.0 if process.shows_life() else silent_seconds + _LOOK_SECONDS
        _log.error("process_hangs", process=process.id, silent_seconds=silent_seconds)
        process.send(signal.SIGQUIT)
        await asyncio.sleep(_DUMP_SECONDS)
        process.send(signal.SIGKILL)

    async def replace(self, stop_seconds: float) -> bool:
        """Start a successor and, when it serves, retire who is here; tell whether that was done.

        Who has not ended ``stop_seconds`` later is killed.
        """
        async with self._changing:
            old = self._process
            kept = old and old.id
            successor = await self._begin()
            if successor is None:
                _log.error("restart_given_up", kept=kept)
                return False
            self._retired.add(successor)  # to be ended too, should we be stopped here
            if not await self._is_good(successor):
                _log.error("restart_given_up", process=successor.id, kept=kept)
                return False
            self._process = successor
            self._retired = set() if old is None else {old}
            if old is not None:
                old.retire()
        if old is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(stop_seconds):
                    await old.ended()
            old.send(signal.SIGKILL)
        _log.info("process_replaced", old=kept, process=successor.id)
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal to whoever is here."""
        for process in (self._process, *self._retired):
            if process is not None:
                process.send(number)

    async def end(self, seconds: float) -> int:
        """Wait until nobody is here, and kill who takes longer; return the exit code."""
        self.send(signal.SIGTERM)
        everybody = [one for one in (self._process, *self._retired) if one is not None]
        ends = [asyncio.create_task(one.ended()) for one in everybody]
        if not ends:
            return 0
        await asyncio.wait(ends, timeout=seconds)
        self.send(signal.SIGKILL)
        return (await asyncio.gather(*ends))[0]
