"""Connections: how long a client may take to ask, how much it may say, how many there may be.

    config = ConnectionConfig(app, header_seconds=10, most=10_000)    # uvicorn's, with bounds

uvicorn waits without end for the rest of a request's head, keeps all of it that comes, and takes
every connection. ``newel serve`` runs it with the two protocols of this module.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["WIRE", "ConnectionConfig", "HttpConnection", "Refusing", "WebsocketConnection", "head"]

WIRE: Final = "newel.wire"
"""The extension of ASGI that a websocket of this module is: ``write`` and ``abort``."""

_MOST_HEAD_BYTES: Final = 64 * 1024
"""Of a request line and its headers. What comes in one read (256 KiB) is not cut in two."""

_MOST_FRAGMENTS: Final = 1024
"""Of one message: empty fragments are no bytes to ``websocket_bytes``, but take memory."""

_MOST_UNREAD_PONG_BYTES: Final = 64 * 1024
_LAST_WORDS_SECONDS: Final = 1.0
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\n"
_NO_HANDSHAKE: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def head(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return ``headers`` as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Refusing(Protocol):
    """What answers requests for which there is no place: see ``newel.refusals``."""

    def is_needed(self) -> bool:
        """Tell whether there is no place for another request."""
        ...

    def answer(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """Return ``head`` and body of a 503; ``None``: the application is to answer."""
        ...


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration, with bounds for each connection and for their number.

    A request's head has to be there ``header_seconds`` after the connection was made, or after its
    first byte; a message of a websocket has at most ``websocket_bytes``. Whom ``refusals`` answer
    is no request of the application. ``options`` are uvicorn's.
    """

    def __init__(
        self,
        app: Any,
        *,
        header_seconds: float = 10.0,
        most: int = 10_000,
        websocket_bytes: int = 64 * 1024,
        refusals: Refusing | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            app,
            http=HttpConnection,
            ws=WebsocketConnection,
            ws_max_size=websocket_bytes,
            ws_per_message_deflate=False,  # a kilobyte of it can be a megabyte of memory
            workers=1,  # else it reads WEB_CONCURRENCY, which is ours to read
            **options,
        )
        self.header_seconds = header_seconds
        self.most = most
        self.refusals = refusals
        self.draining = False
        """Whether each answer says that it is the connection's last."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection, closed when the head of a request is late or too large."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _unfinished_bytes = 0
    """Of a head, or of trailers, that has no end yet; but for what came with the end before it."""

    _may_refuse = False
    """Once a read: who sends many at once waits until each is answered."""

    _is_refused = False
    """Whether the rest of what is read is a request that has its answer."""

    @property
    def _bounds(self) -> ConnectionConfig:
        return cast("ConnectionConfig", self.config)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - as uvicorn's own
        """Begin to wait for a request; one connection too many is closed."""
        super().connection_made(transport)
        if len(self.connections) > self._bounds.most:
            transport.abort()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a timer is there only when a head has not come in one piece."""
        self._unfinished_bytes += len(data)
        self._may_refuse = True
        super().data_received(data)
        if self.transport.get_protocol() is not self or self.transport.is_closing():
            return  # it is a websocket now, or was no HTTP
        if self._unfinished_bytes > _MOST_HEAD_BYTES:
            if self._in_head and not self._is_busy:  # else it would be part of another answer
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._timer is None and (self._in_head or not (self._is_busy or self._is_idle)):
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; what comes after a body is none, though the parser calls it so.

        A proxy looks at headers alone: by a trailer a client could say what only the proxy may.
        """
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unfinished_bytes = 0
        if not self._is_refused:
            super().on_body(body)

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that the head is there; while draining, its answer is the connection's last."""
        self._in_head = False
        self._unfinished_bytes = 0
        self._stop_waiting()
        if self._is_refused or self._refuses():
            return
        super().on_headers_complete()
        if self._bounds.draining and self._is_busy:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Note that trailers, if there were any, have an end."""
        self._unfinished_bytes = 0
        if not self._is_refused:
            super().on_message_complete()
        elif self._is_last or self.transport.is_closing():
            self.transport.close()  # and what came with it is part of what was refused
        else:
            self._stop_waiting()
            self._is_refused = False
            self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that it is no HTTP; what has an answer, or half of one, gets no other."""
        if self._is_refused or (self._is_busy and self.cycle.response_started):
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _refuses(self) -> bool:
        """Answer a request for which there is no place; ``False``: the application is to do it."""
        refusals = self._bounds.refusals
        if refusals is None or not self._may_refuse or not refusals.is_needed():
            return False
        waits = self._is_busy or self.flow.write_paused or self.expect_100_continue
        if waits or self._parser.should_upgrade():
            return False
        scope = cast("dict[str, Any]", self.scope)
        scope["method"] = self._parser.get_method().decode("ascii")
        scope["path"] = self.root_path + unquote(httptools.parse_url(self.url).path.decode("ascii"))
        answer = refusals.answer(scope)
        if answer is None:
            return False
        headers, body = answer
        closing = [(b"connection", b"close")] if self._is_last else []
        headers += head([*self.server_state.default_headers, *closing])
        content = b"" if scope["method"] == "HEAD" else body
        self.transport.write(b"".join((_BUSY, headers, b"\r\n", content)))
        self._may_refuse = False
        self._is_refused = True
        return True

    @property
    def _parser(self) -> httptools.HttpRequestParser:
        return cast("httptools.HttpRequestParser", self.parser)  # None when the connection is lost

    @property
    def _is_last(self) -> bool:
        keeps = self._parser.get_http_version() != "1.0" and self._parser.should_keep_alive()
        return self._bounds.draining or not keeps

    @property
    def _is_busy(self) -> bool:
        """Whether a request is answered, or its body read: that has deadlines of its own."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    @property
    def _is_idle(self) -> bool:
        """Whether all that has come is answered: what then comes may take its time."""
        return self.timeout_keep_alive_task is not None

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self._bounds.header_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class WebsocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's websocket, closed when a message comes in too many fragments, or nobody reads.

    The application finds it under ``WIRE``, for what ASGI has no word for.
    """

    _is_held_up = True  # until it is accepted, and while its client does not read
    _pong_bytes = 0
    """Of answers to pings that wait behind what its client has not read."""

    def write(self, text: str) -> bool:
        """Send ``text`` if that takes no waiting; ``False``: it was not sent.

        A frame of a server is its length and the text: the library's way there takes a third of
        what a message to many costs.
        """
        transport = self.transport
        if self._is_held_up or self.close_sent or transport.is_closing():
            return False
        # Whether a frame is compressed is its own affair (RFC 7692): none of these is.
        transport.write(_text_frame(text))
        return True

    def abort(self) -> None:
        """Give the connection up, and what its client has not read."""
        self.transport.abort()

    async def run_asgi(self) -> None:
        """Run the application; a client that does not read its last words is cut off."""
        scope = cast("dict[str, Any]", self.scope)
        scope["extensions"][WIRE] = self
        try:
            await super().run_asgi()
        finally:
            self.loop.call_later(_LAST_WORDS_SECONDS, self._cut_off)

    async def send(self, message: Any) -> None:
        """Send ``message``; a handshake that was answered with a refusal is over, and no error."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._is_held_up = False
        if self.close_sent:
            self.handshake_complete = True

    def _cut_off(self) -> None:
        if not self.writable.is_set():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; a handshake that is none is answered: uvicorn would wait for another.

        All of it has come at once by now: what is missing will not come.
        """
        super().data_received(data)
        if not self.handshake_initiated:  # it has a body, or too long a line
            self.transport.write(b"".join(self.conn.data_to_send()) or _NO_HANDSHAKE)
            self.transport.close()

    def handle_parser_exception(self) -> None:
        """Close because of what the client sent: that nobody is there any more is no mistake."""
        super().handle_parser_exception()
        self.disconnected: bool = True
        self.handshake_complete: bool = True

    def handle_cont(self, event: Any) -> None:
        """Take a fragment; too many of one message close with 1009."""
        if self.close_sent:
            return
        if len(self.frames) >= _MOST_FRAGMENTS:
            self.conn.fail(1009, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping; who sends them and reads no answer is cut off."""
        before = self.transport.get_write_buffer_size()
        super().handle_ping()
        if not self.writable.is_set():
            self._pong_bytes += self.transport.get_write_buffer_size() - before
            if self._pong_bytes > _MOST_UNREAD_PONG_BYTES:
                self.transport.abort()

    def pause_writing(self) -> None:
        """Hold on: the client does not read."""
        self._is_held_up = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on: the client has read most of what waited."""
        self._is_held_up = False
        self._pong_bytes = 0
        super().resume_writing()


@lru_cache(maxsize=8)  # the same text goes to all who are in a room
def _text_frame(text: str) -> bytes:
    """Return ``text`` as a frame. Source: RFC 6455, section 5.2."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload
