"""A server on 127.0.0.1 in front of the host, for tools that speak HTTP."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote

from newel_tools.prove.callers import Caller
from newel_tools.prove.client import HostEnded
from newel_tools.prove.operations import Operation
from newel_tools.prove.requests import Request
from newel_tools.prove.service import Exchange, Service

__all__ = ["serve_front"]

_BODY_BYTES: Final = 8 * 1024 * 1024
_LEFT_OUT: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "accept-encoding"}
    | {"authorization", "user-agent", "accept", "x-schemathesis-testcaseid"}
)
_HOP: Final = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})


class _Front:
    """Passes requests on as a caller, and as another once its credentials no longer work."""

    def __init__(
        self,
        service: Service,
        caller: Callable[[], Caller],
        notice: Callable[[Exchange], None],
    ) -> None:
        self._service = service
        self._next_caller = caller
        self._caller = caller()
        self._notice = notice
        self._lock = threading.Lock()
        self._patterns = [(_pattern(op), op) for op in service.operations]

    def answer(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> Exchange:
        """Send a request and return what came of it."""
        plain = tuple((name, value) for name, value in headers if name.lower() not in _LEFT_OUT)
        if body:
            plain = (*plain, ("Content-Length", str(len(body))))
        request = Request(
            method=method, path=path, label=self._label(method, path), headers=plain, body=body
        )
        with self._lock:
            exchange = self._service.send(request, self._caller)
            if exchange.answer.status == 401 and not self._caller.is_anonymous:
                self._caller = self._next_caller()
                exchange = self._service.send(request, self._caller)
        self._notice(exchange)
        return exchange

    def _label(self, method: str, path: str) -> str:
        plain = unquote(path.partition("?")[0])
        found = (
            op for pattern, op in self._patterns if op.method == method and pattern.match(plain)
        )
        operation = next(found, None)
        return operation.label if operation is not None else f"{method} {plain}"


def _pattern(operation: Operation) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", operation.path)
    written = ["[^/]+" if part.startswith("{") else re.escape(part) for part in parts]
    return re.compile("".join(written) + "/?$", re.DOTALL)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave: a tool whose time is up does."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve_front(
    service: Service, *, caller: Callable[[], Caller], notice: Callable[[Exchange], None]
) -> Generator[str]:
    """Serve on a port of the system's choice; yield the address.

    Every request is sent as ``caller()``, asked again when its credentials stop to work; every
    exchange is handed to ``notice``.
    """
    front = _Front(service, caller, notice)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            length = min(int(self.headers.get("content-length") or 0), _BODY_BYTES)
            body = self.rfile.read(length) if length else b""
            try:
                answer = front.answer(self.command, self.path, self.headers.items(), body).answer
            except HostEnded:
                self.close_connection = True
                return
            self.send_response(answer.status or 504)
            for name, value in answer.headers:
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: the exchanges are kept elsewhere."""

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"):
        setattr(Handler, f"do_{method}", Handler.pass_on)
    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="newel-front", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
