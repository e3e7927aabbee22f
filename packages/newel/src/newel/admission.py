"""Admission: only as many requests at once as can be answered well; the rest is told so at once.

    Middleware(Admission, Places(20))     # in the list of newel.middleware

Above its capacity a service that takes everything answers nobody in time: each request waits for
all others. Who finds no place waits in line for a second, and then, or when the line is full or
slow, gets a 503 with ``Retry-After``.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newel.errors import Unavailable
from newel.problems import problem_response
from newel.tasks import Line

__all__ = ["Admission", "Places", "begins_event_stream", "is_exempt", "refusal"]

_EXEMPT: Final = frozenset({"/health", "/ready", "/metrics"})
"""Whoever looks at a full service has to see that it is full, not that it is dead."""

_WAITING: Final = 64
"""How many may wait: a longer line has nobody answered sooner, and some refused later."""

_BURST: Final = 256
_BURST_SECONDS: Final = 0.02
"""A line that has just begun may be longer: most of it may be gone before it is noticed."""

_LARGE_BYTES: Final = 65_536
"""Who has sent so much of a body is not sent away any more."""

_LONG_SECONDS: Final = 0.5
"""Who works for longer than this waits for somebody else, a database that is silent for example."""

_INSIDE: Final = 120
"""How many may be inside when places are lent: what waits needs memory."""


def begins_event_stream(message: Message) -> bool:
    """Tell whether ``message`` begins an answer that may have nothing to say for hours."""
    headers = message.get("headers", ()) if message["type"] == "http.response.start" else ()
    for name, value in headers:
        if name == b"content-type":
            return bool(value.startswith(b"text/event-stream"))
    return False


class Places:
    """``most`` places to work in; 64 more may wait for one, for ``wait_seconds`` at most.

    Who has worked for half a second lends its place to who waits for one, until 120 are inside: a
    dependency that is silent holds up only who needs it.
    """

    def __init__(self, most: int, *, wait_seconds: float = 1.0) -> None:
        self.most = most
        self.wait_seconds = wait_seconds
        self.in_flight: int = 0
        self.inside: int = 0
        self.held: dict[_Place, float] = {}  # that count, and since when: the oldest first
        self._line = Line(self.leave)
        self._coming = 0

    async def enter(self) -> bool:
        """Take a place, or wait for one; ``False``: there is none."""
        self._lend()
        if self.in_flight < self.most:
            self.in_flight += 1
            return True
        return not self._is_line_full(1) and await self._turn()

    def expect(self) -> bool:
        """Tell whether who is on the way has a chance; ``False``: ``enter`` would refuse at once.

        It is asked for each one: those who come in one turn of the loop stand in line together.
        """
        if self.in_flight < self.most:
            return True
        self._lend()
        if self._is_line_full(self._coming + 1):
            return False
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._are_there)
        self._coming += 1
        return True

    def _are_there(self) -> None:
        self._coming = 0

    def leave(self) -> None:
        """Give a place back: to who waits longest, if there are no more than may be."""
        self.in_flight -= 1
        while self.in_flight < self.most and self._line.call():
            self.in_flight += 1

    async def _turn(self) -> bool:
        """Wait for a place; ``False``: none came in time."""
        timer = asyncio.get_running_loop().call_later(_LONG_SECONDS, self._lend)
        try:
            return await self._line.wait(self.wait_seconds)
        finally:
            timer.cancel()

    def _lend(self) -> None:
        """Take the place of who has had it for longest, and long, when there is no other."""
        if self.in_flight < self.most or self.inside >= _INSIDE or not self.held:
            return
        place, since = next(iter(self.held.items()))
        if asyncio.get_running_loop().time() - since >= _LONG_SECONDS:
            place.leave()

    def _is_line_full(self, more: int) -> bool:
        """Tell whether the last of so many ``more`` would not stand in the line."""
        most = _WAITING if self._line.is_slow(2 * _BURST_SECONDS) else _BURST
        return len(self._line) + more > most or self._line.is_slow(self.wait_seconds)


class Admission:
    """Lets as many requests work at once as there are ``places``.

    A place is for work: it is given back when the answer's body begins, or a stream of events, so
    that downloads and streams hold none, and while a body, or more of it, is on its way: who sends
    it slowly holds up nobody, and may be told to come again when it is there. Websockets need no
    place, nor do ``/health``, ``/ready`` and ``/metrics``.
    """

    def __init__(self, app: ASGIApp, places: Places) -> None:
        self.app = app
        self.places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.places.in_flight >= self.places.most and is_exempt(scope):
            await self.app(scope, receive, send)
        elif await self.places.enter():
            place = _Place(self.places, scope, receive, send)
            try:
                await self.app(scope, place.receive, place.send)
            finally:
                place.close()
        else:
            await refusal(scope)(scope, receive, send)


def is_exempt(scope: Scope) -> bool:
    """Tell whether it is asked how the service is: whoever does needs no place."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) in _EXEMPT


def refusal(scope: Scope) -> Response:
    """Return the answer that the service is busy, and when to come again."""
    scope["newel.refused"] = True
    busy = Unavailable("The service is busy.", retry_after_seconds=1)
    return problem_response(busy, instance=scope["path"])


class _Place:
    """The place of one request."""

    def __init__(self, places: Places, scope: Scope, receive: Receive, send: Send) -> None:
        self._places = places
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body_bytes = 0
        self._is_whole = False  # what was asked, with its body
        self._has_begun = False  # to answer
        self._has_answered = False
        self._is_refused = False
        places.inside += 1
        self._work()

    def _work(self) -> None:
        self._scope["newel.in_line"] = False
        self._places.held[self] = asyncio.get_running_loop().time()

    def leave(self) -> None:
        """Give the place back, once."""
        if self._places.held.pop(self, None) is not None:
            self._places.leave()

    def close(self) -> None:
        """Give the place back, for good."""
        if not self._has_answered:
            self._has_answered = True
            self._places.inside -= 1
            self.leave()

    async def send(self, message: Message) -> None:
        """Send on; with the body of the answer, or a stream of events, the work is done."""
        if self._is_refused:
            return  # the application hears that the client is gone, and has nobody to answer
        self._has_begun = True
        if message["type"] == "http.response.body" or begins_event_stream(message):
            self.close()
        await self._send(message)

    async def receive(self) -> Message:
        """Receive; who waits for more of a body lends the place, and needs one again after that.

        Whose body is there waits for nothing more but the end of the connection, while it works.
        """
        if self._is_refused:
            return {"type": "http.disconnect"}
        if self._is_whole or self._has_begun:
            return await self._receive()
        waiting = asyncio.get_running_loop().call_soon(self.leave)
        try:
            message = await self._receive()
        finally:
            waiting.cancel()
        self._is_whole = not message.get("more_body", False)
        self._body_bytes += len(message.get("body", b""))
        is_gone = message["type"] == "http.disconnect"
        if is_gone or self in self._places.held or self._has_answered or await self._is_back():
            return message
        return {"type": "http.disconnect"}

    async def _is_back(self) -> bool:
        """Take a place again; ``False``: there is none, and the client has been told so.

        A part of a small body needs none: nothing is done with it but to keep it.
        """
        if not self._is_whole and self._body_bytes <= _LARGE_BYTES:
            return True
        self._scope["newel.in_line"] = True  # who is late now has not been slow
        if self._body_bytes > _LARGE_BYTES:
            self._places.in_flight += 1
        elif not await self._places.enter():
            if self._has_begun:
                return True  # meanwhile: too late to say anything else
            self._is_refused = True
            self.close()
            await refusal(self._scope)(self._scope, self._receive, self._send)
            return False
        self._work()
        if self._has_answered:
            self.leave()
        return True
