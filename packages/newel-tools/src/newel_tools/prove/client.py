"""The near end of the pipe to a host: asks by number, and hands out the answers."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from typing import Any, Final

from newel_tools.prove.answer import Answer, Session

__all__ = ["HostClient", "HostEnded"]

_GRACE_SECONDS: Final = 10.0


class HostEnded(Exception):
    """The application's process ended, or no longer answers."""


class HostClient:
    """Asks a host over one socket; ``give_up`` is called when it does not answer in time."""

    def __init__(self, line: socket.socket, *, give_up: Callable[[], None]) -> None:
        self._line = line
        self._outgoing = line.makefile("wb")
        self._give_up = give_up
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._first: Future[dict[str, Any]] = Future()
        threading.Thread(target=self._read, name="newel-host", daemon=True).start()

    def first(self, seconds: float) -> dict[str, Any]:
        """Return what the host says first; raises ``TimeoutError`` or ``HostEnded``."""
        try:
            return self._first.result(seconds)
        except NotInTime:
            raise TimeoutError from None

    def hang_up(self) -> None:
        """Say that there is nothing more to ask: the host ends."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        with suppress(OSError):
            self._outgoing.close()
        self._line.close()

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
    ) -> Callable[[], Answer]:
        """Send a request, and return a function that waits for its answer."""
        asked: dict[str, Any] = {"method": method, "path": path, "seconds": seconds, **more}
        asked |= {"headers": [list(pair) for pair in headers]}
        asked |= {"body": _encoded(body), "tail": _encoded(tail)}
        future = self._ask("call", asked)
        return lambda: Answer.read(self._result(future, seconds + _GRACE_SECONDS))

    def converse(self, path: str, **asked: Any) -> Session:
        """Open a websocket; ``headers``, ``send`` (texts), ``seconds``, ``subprotocols``."""
        asked = {"headers": [], "seconds": 2.0, "path": path, **asked}
        future = self._ask("websocket", asked)
        return Session.read(self._result(future, asked["seconds"] + _GRACE_SECONDS))

    def ask(self, action: str, **asked: Any) -> dict[str, Any]:
        """Ask for `select`, `update`, `lose_database`, `stalls`, `memory` or `advance`.

        Raises ``LookupError`` if the host could not do it.
        """
        return self._result(self._ask(action, asked), 30.0)

    def say(self, said: Mapping[str, Any]) -> None:
        """Send one line; raises ``HostEnded`` if nobody is there."""
        try:
            with self._lock:
                self._outgoing.write(json.dumps(said).encode() + b"\n")
                self._outgoing.flush()
        except (OSError, ValueError):
            raise HostEnded("the application's process has ended") from None

    def _ask(self, action: str, asked: Mapping[str, Any]) -> Future[dict[str, Any]]:
        number = next(self._numbers)
        future: Future[dict[str, Any]] = Future()
        self._waiting[number] = future
        self.say({**asked, "do": action, "number": number})
        return future

    def _result(self, future: Future[dict[str, Any]], seconds: float) -> dict[str, Any]:
        try:
            said = future.result(seconds)
        except NotInTime:
            self._give_up()
            raise HostEnded("the application no longer answers") from None
        if "error" in said:
            raise LookupError(said["error"])
        return said

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._line.makefile("rb") as lines:
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
