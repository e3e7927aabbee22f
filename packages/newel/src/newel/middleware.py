"""What wraps every request, as a list of plain ASGI middleware that a service can filter.

    app = FastAPI(middleware=default_middleware(settings))

Outermost first: ``RequestContext`` (id and access line), ``SecurityHeaders``, CORS when origins are
listed, ``UnexpectedErrors`` (500 as a problem), ``Admission`` (503), ``BodyLimit`` (413),
``Deadline`` (503, 408), ``NotModified`` (304) and ``Idempotency``. In this order error answers
carry the request id, security headers and CORS, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import quote

import structlog
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from newel import context
from newel.admission import Admission, Places, begins_event_stream
from newel.errors import Unavailable
from newel.idempotency import Idempotency
from newel.logs import log_request
from newel.metrics import RequestMetrics
from newel.problems import MEDIA_TYPE, problem_response
from newel.revalidation import NotModified
from newel.settings import Settings
from newel.telemetry import Traces

__all__ = [
    "REDOC_POLICY",
    "SWAGGER_POLICY",
    "BodyLimit",
    "Deadline",
    "RequestContext",
    "SecurityHeaders",
    "UnexpectedErrors",
    "account",
    "default_middleware",
    "request_id_of",
    "security_headers",
]

_log = structlog.get_logger("newel.middleware")

_SLOWEST_BYTES_PER_SECOND: Final = 16 * 1024
_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start"})


def default_middleware(
    settings: Settings, *, metrics: RequestMetrics | None = None, traces: Traces | None = None
) -> list[Middleware]:
    """Return what every request passes through, outermost first.

    ``metrics`` counts them, ``traces`` makes spans of what they do.
    """
    proxies = settings.trusted_proxies
    chain = [
        Middleware(RequestContext, trusted_proxies=proxies, metrics=metrics, traces=traces),
        Middleware(
            SecurityHeaders,
            https_only=settings.environment == "production",
            policies={settings.docs_url: SWAGGER_POLICY, settings.redoc_url: REDOC_POLICY},
        ),
        Middleware(UnexpectedErrors),
        Middleware(Admission, places=Places(settings.most_in_flight)),
        Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes),
        Middleware(Deadline, seconds=settings.request_timeout_seconds),
        Middleware(NotModified),
        Middleware(Idempotency),
    ]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=settings.cors_credentials,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=_ALLOWED_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
            max_age=600,
        )
        chain.insert(2, cors)
    return chain


_ALLOWED_HEADERS: Final = (
    *("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "If-Range"),
    *("Last-Event-ID", "Range", "X-API-Version", "X-Request-ID", "traceparent", "tracestate"),
)
_EXPOSED_HEADERS: Final = (
    *("Content-Disposition", "Content-Range", "Deprecation", "ETag", "Idempotent-Replayed", "Link"),
    *("Location", "RateLimit", "RateLimit-Policy", "Retry-After", "Sunset", "X-API-Version"),
    "X-Request-ID",
)


class RequestContext:
    """Gives every request and websocket an id and one line in the log, and counts it.

    The id is the client's ``X-Request-ID`` when it is harmless, else a new one; it is in
    ``context.request_id`` and in the answer. Bodies of answers that have none (to HEAD, with 204 or
    304) are left out.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted_proxies: Sequence[str] = (),
        metrics: RequestMetrics | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.app = app
        self.trusted_proxies = trusted_proxies
        self.metrics: RequestMetrics | None = metrics
        self.traces: Traces = traces or Traces()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        identity = request_id_of(scope)
        header = (b"x-request-id", identity.encode())
        is_head = scope.get("method") == "HEAD"
        status = 0
        bodiless = False

        async def answer(message: Message) -> None:
            nonlocal status, bodiless
            kind = message["type"]
            if kind in _STARTS:
                status = message["status"]
                bodiless = is_head or status in {204, 304}
                message["headers"] = [*_kept_headers(message, status), header]
            elif kind == "websocket.accept":
                status = 101
                message["headers"] = [*message.get("headers", ()), header]
            elif kind == "websocket.close" and not status:
                status = 403  # what a server makes of a handshake that is closed
            elif bodiless and kind == "http.response.body":
                message["body"] = b""
            await send(message)

        token = context.request_id.set(identity)
        metrics = self.metrics = self.metrics or _metrics_of(scope)
        metrics.in_flight += 1
        try:
            with self.traces.here():
                await self.app(scope, receive, answer)
        finally:
            metrics.in_flight -= 1
            seconds = time.perf_counter() - began
            account(metrics, scope, identity, status or 500, seconds, proxies=self.trusted_proxies)
            context.request_id.reset(token)


def account(
    metrics: RequestMetrics,
    scope: Scope,
    identity: str,
    status: int,
    seconds: float,
    *,
    proxies: Sequence[str],
) -> None:
    """Count the request that is answered, and write its line."""
    template = context.route_template(scope)
    method = scope.get("method", "WEBSOCKET")
    metrics.observe(method=method, route=template, status=status, seconds=seconds)
    principal = scope.get("state", {}).get("principal")
    user = getattr(principal, "id", None)
    # An unknown path is the client's text: searched for secrets, and quoted, as control
    # characters forge log lines. Who found no place is spared that, as nobody has the time.
    is_text = template is None and "newel.refused" not in scope
    write = partial(_log.info, "request") if is_text else log_request
    write(
        request_id=identity,
        method=method[:16],
        route=quote(scope["path"][:200]) if is_text else template,
        status=status,
        duration_ms=round(seconds * 1000, 2),
        client_ip=context.client_ip(scope, proxies),
        user_id=None if user is None else str(user),
        **context.trace_ids(),
    )


def _metrics_of(scope: Scope) -> RequestMetrics:
    """Return what ``GET /metrics`` of the application shows; a plain one has no such thing."""
    state = getattr(scope.get("app"), "state", None)
    return getattr(state, "metrics", None) or RequestMetrics()


def request_id_of(scope: Scope) -> str:
    """Return the client's ``X-Request-ID`` if it is harmless, else a new one."""
    offered = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
    return context.accepted_request_id(None if offered is None else str(offered, "latin-1"))


def _kept_headers(message: Message, status: int) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    if status in {204, 304}:
        unwanted = {b"content-length", b"content-type"}
        return [header for header in headers if header[0].lower() not in unwanted]
    return headers


_JSDELIVR: Final = "https://cdn.jsdelivr.net/npm"
_FAVICON: Final = "https://fastapi.tiangolo.com/img/favicon.png"
_CLOSED: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

SWAGGER_POLICY: Final = (
    f"{_CLOSED}; connect-src 'self'; img-src 'self' data: {_FAVICON}; font-src data:; "
    f"script-src 'unsafe-inline' {_JSDELIVR}/swagger-ui-dist@5/; "
    f"style-src 'unsafe-inline' {_JSDELIVR}/swagger-ui-dist@5/"
)
"""What the page of ``fastapi.openapi.docs.get_swagger_ui_html`` loads; its script is inline."""

REDOC_POLICY: Final = (
    f"{_CLOSED}; connect-src 'self'; img-src 'self' data: {_FAVICON} https://cdn.redoc.ly/redoc/; "
    f"script-src {_JSDELIVR}/redoc@2/; worker-src blob:; "
    "style-src 'unsafe-inline' https://fonts.googleapis.com; font-src https://fonts.gstatic.com"
)
"""What the page of ``fastapi.openapi.docs.get_redoc_html`` loads."""

_FIXED_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)
_HTTPS_ONLY: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class SecurityHeaders:
    """Adds what makes a browser careful to every answer; a header that the answer has wins.

    ``policies`` are Content-Security-Policy values of single paths (the docs pages); everything
    else loads nothing. ``https_only`` adds Strict-Transport-Security. ``Cache-Control`` is
    ``no-store`` unless the answer says something else.
    """

    def __init__(
        self, app: ASGIApp, *, https_only: bool = False, policies: Mapping[str, str] | None = None
    ) -> None:
        self.app = app
        self._default = security_headers(https_only=https_only)
        self._by_path = {
            path: security_headers(https_only=https_only, policy=policy)
            for path, policy in (policies or {}).items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        added = self._by_path.get(path, self._default)

        async def answer(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                headers += [header for header in added if header[0] not in present]
                message["headers"] = headers
            await send(message)

        await self.app(scope, receive, answer)


def security_headers(*, https_only: bool, policy: str = _CLOSED) -> tuple[tuple[bytes, bytes], ...]:
    """Return what makes a browser careful; ``policy`` is the Content-Security-Policy."""
    fixed = (*_FIXED_HEADERS, *([_HTTPS_ONLY] if https_only else []))
    return (*fixed, (b"content-security-policy", policy.encode()))


class UnexpectedErrors:
    """Logs an exception that nobody expected and answers 500 without its text.

    The exception ends here, so the connection stays usable: servers close it otherwise. When the
    answer had begun it cannot be taken back: the exception is passed on, the server cuts it off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = complete = False
        from_outside: list[Exception] = []

        async def answer(message: Message) -> None:
            nonlocal started, complete
            started = True
            complete = not message.get("more_body", False) and message["type"] not in _STARTS
            try:
                await send(message)
            except Exception as error:
                from_outside.append(error)
                raise

        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            if error in from_outside:  # the server's or an outer middleware's own business
                raise
            _log_unexpected(scope, error)
            if complete:
                return
            if started:
                raise
            await problem_response(500, instance=scope["path"])(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted = over = False

        async def answer(message: Message) -> None:
            nonlocal accepted, over
            accepted = accepted or message["type"] == "websocket.accept"
            over = over or message["type"] in {"websocket.close", "websocket.http.response.start"}
            await send(message)

        async def incoming() -> Message:
            nonlocal over
            message = await receive()
            over = over or message["type"] == "websocket.disconnect"
            return message

        try:
            await self.app(scope, incoming, answer)
        except WebSocketDisconnect:
            return  # the client went away: that is how these end
        except Exception as error:  # noqa: BLE001 - this is the place where they end
            _log_unexpected(scope, error)
            if over:
                return
            if not accepted and "websocket.http.response" in scope.get("extensions", {}):
                await problem_response(500, instance=scope["path"])(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1011, "reason": "server_error"})


def _log_unexpected(scope: Scope, error: Exception) -> None:
    _log.error("unexpected_error", route=context.route_template(scope), exc_info=error)


class BodyLimit:
    """Starlette's limit of the request body, with its 413 as a problem.

    A route's own ``max_body_size`` overrides ``max_body_bytes``. (FastAPI puts the limit of a whole
    application outside of all middleware, where its answer gets no id and no CORS headers.)
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self.app: ASGIApp = RequestBodyLimitMiddleware(app, max_body_size=max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replaced = False

        async def answer(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                replaced = not _is_problem(message)
                if replaced:
                    await problem_response(413, instance=scope["path"])(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, answer)


def _is_problem(message: Message) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in message.get("headers", ())


class Deadline:
    """Ends a request after ``seconds``: it is cancelled and answered 503.

    ``context.deadline`` tells the request's own waits when that is. A body gets a second more for
    each 16 KiB of it, so a long upload lives while it moves; when its end is late the answer is
    408. Once the answer has begun each part that is sent begins the time anew; server-sent events
    and websockets have no deadline. A plain ``def`` route runs on in its thread, unanswered.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        token = context.deadline.set(time.monotonic() + self.seconds)
        started = False
        timer = asyncio.timeout(self.seconds)
        body = _Body(receive, timer)

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if begins_event_stream(message):
                    timer.reschedule(None)
            elif message.get("more_body", False) and timer.when() is not None:
                timer.reschedule(asyncio.get_running_loop().time() + self.seconds)
            await send(message)

        try:
            async with timer:
                await self.app(scope, body.receive, answer)
        except TimeoutError:
            if not timer.expired():
                raise
            _log.warning(
                "deadline_exceeded", route=context.route_template(scope), answer_begun=started
            )
            if not started:
                await body.late_response(scope)(scope, receive, send)
        finally:
            context.deadline.reset(token)


class _Body:
    """The body of a request: as it comes, ``timer`` gets more time."""

    __slots__ = ("_is_awaited", "_is_whole", "_receive", "_timer")

    def __init__(self, receive: Receive, timer: asyncio.Timeout) -> None:
        self._receive = receive
        self._timer = timer
        self._is_whole = False
        self._is_awaited = False

    async def receive(self) -> Message:
        self._is_awaited = not self._is_whole
        message = await self._receive()
        self._is_awaited = False
        self._is_whole = self._is_whole or not message.get("more_body", False)
        if not self._is_whole:
            self._extend(len(message.get("body", b"")) / _SLOWEST_BYTES_PER_SECOND)
        return message

    def _extend(self, seconds: float) -> None:
        end = self._timer.when()
        if end is not None and not self._timer.expired():
            self._timer.reschedule(end + seconds)
            context.deadline.set((context.deadline.get() or 0.0) + seconds)

    def late_response(self, scope: Scope) -> Response:
        """Return the answer to a request that took too long: 408 when its body was awaited."""
        is_slow = self._is_awaited and not scope.get("newel.in_line")
        late = 408 if is_slow else Unavailable("The request took too long and was stopped.")
        return problem_response(late, instance=scope["path"])
