"""The host as a process: started in the project's own interpreter, asked over a pipe, and ended."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from newel_tools.prove.answer import Answer, Session
from newel_tools.prove.errors import ProveError

__all__ = ["HostEnded", "HostProcess"]

_HOST: Final = Path(__file__).with_name("host")
_MEMORY_BYTES: Final = 4 * 1024**3
_START_SECONDS: Final = 90.0
_GRACE_SECONDS: Final = 10.0
_LOG_LINES: Final = 8


class HostEnded(Exception):
    """The application's process ended, or no longer answers."""


class HostProcess:
    """One run of the application, or of one of its commands.

    ``wanted`` is what the host is told first (see ``host/wire.py``); ``log`` collects what the
    application prints. Use as a context manager: the process and all its children are gone after.
    """

    def __init__(
        self, python: Path, wanted: Mapping[str, Any], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self._python = python
        self._wanted: dict[str, Any] = {
            "memory_bytes": _MEMORY_BYTES,
            "start_seconds": _START_SECONDS,
            **wanted,
        }
        self._environment = environment
        self._log = log
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._first: Future[dict[str, Any]] = Future()

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the project's interpreter and our own program
                [str(self._python), "-B", str(_HOST), str(theirs.fileno())],
                cwd=self._wanted["folder"],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._outgoing = ours.makefile("wb")
        threading.Thread(target=self._read, name="newel-host", daemon=True).start()
        self._write(self._wanted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)  # the host ends the application's lifespan
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        self.kill()
        with suppress(OSError):
            self._outgoing.close()
        self._socket.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return 0 if self._process is None else self._process.pid

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def first(self) -> dict[str, Any]:
        """Return what the host says first; raises ``ProveError`` if the project's code failed."""
        try:
            said = self._first.result(_START_SECONDS)
        except NotInTime:
            raise self._hangs() from None
        except HostEnded:
            raise ProveError(
                "the application's process ended while it started",
                fix="start it by hand and see why: the end of its log is above",
                details=self.log_end(),
            ) from None
        if "failed" in said:
            raise self._failed(said["failed"])
        return said

    def _failed(self, said: Mapping[str, Any]) -> ProveError:
        where = f" ({said['where']})" if said["where"] else ""
        message = f"{said['step']} failed{where}: {said['text']}"
        if said["missing"]:
            names = ", ".join(f'{name.upper()} = "..."' for name in said["missing"])
            fix = f"add to pyproject.toml, [tool.newel.prove]: env = {{ {names} }}"
            return ProveError(message, fix=fix, missing=tuple(said["missing"]))
        fix = "mend it, or add what it needs to pyproject.toml, [tool.newel.prove] env = { ... }"
        return ProveError(message, fix=fix, details=self.log_end())

    def _hangs(self) -> ProveError:
        return ProveError(
            f"the application had not started after {_START_SECONDS:.0f} s",
            fix="see the stack above: what does it wait for?",
            details=self.log_end(),
        )

    def log_end(self) -> tuple[str, ...]:
        """Return the last lines that the application printed."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        return tuple(line[:300] for line in text.splitlines()[-_LOG_LINES:])

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        **more: Any,
    ) -> Answer:
        """Send a request and wait for its answer.

        ``more``: ``client`` (an address), ``seconds``, ``fail_commits``, ``meeting`` (a name:
        requests of the same name wait for each other before their first write), ``fill_bytes``
        and ``tail`` (zeroes, and bytes, after ``body``).
        """
        return self.start_call(method, path, headers=headers, body=body, **more)()

    def start_call(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        tail: bytes = b"",
        seconds: float = 10.0,
        **more: Any,
    ) -> Any:
        """Send a request, and return a function that waits for its answer."""
        asked: dict[str, Any] = {
            "method": method,
            "path": path,
            "headers": [list(pair) for pair in headers],
        }
        asked |= {"body": _encoded(body), "tail": _encoded(tail), "seconds": seconds, **more}
        future = self._ask("call", asked)
        return lambda: Answer.read(self._result(future, seconds + _GRACE_SECONDS))

    def converse(self, path: str, **asked: Any) -> Session:
        """Open a websocket; ``headers``, ``send`` (texts), ``seconds``, ``subprotocols``."""
        asked = {"headers": [], "seconds": 2.0, "path": path, **asked}
        future = self._ask("websocket", asked)
        return Session.read(self._result(future, asked["seconds"] + _GRACE_SECONDS))

    def ask(self, action: str, **asked: Any) -> dict[str, Any]:
        """Ask for something else: `select`, `update`, `lose_database`, `stalls`, `memory`.

        Raises ``LookupError`` if the host could not do it.
        """
        said = self._result(self._ask(action, asked), 30.0)
        if "error" in said:
            raise LookupError(said["error"])
        return said

    def _ask(self, action: str, asked: Mapping[str, Any]) -> Future[dict[str, Any]]:
        number = next(self._numbers)
        future: Future[dict[str, Any]] = Future()
        self._waiting[number] = future
        try:
            self._write({**asked, "do": action, "number": number})
        except OSError:
            raise HostEnded("the application's process has ended") from None
        return future

    def _result(self, future: Future[dict[str, Any]], seconds: float) -> dict[str, Any]:
        try:
            said = future.result(seconds)
        except NotInTime:
            self.kill()
            raise HostEnded("the application no longer answers") from None
        if set(said) == {"number", "error"}:
            raise LookupError(said["error"])
        return said

    def _write(self, said: Mapping[str, Any]) -> None:
        with self._lock:
            self._outgoing.write(json.dumps(said).encode() + b"\n")
            self._outgoing.flush()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._socket.makefile("rb") as lines:
            for line in lines:
                said = json.loads(line)
                if "number" in said:
                    self._waiting.pop(said["number"]).set_result(said)
                else:
                    self._first.set_result(said)
        ended = HostEnded("the application's process has ended")
        for future in [self._first, *self._waiting.values()]:
            if not future.done():
                future.set_exception(ended)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
