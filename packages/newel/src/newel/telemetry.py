"""Traces by OpenTelemetry: what a request, and the jobs that came of it, spent their time with.

    traces = open_traces(settings.traces_url, ratio=0.1, service="agents")   # None: nothing at all
    app = FastAPI(telemetry=traces.of_requests())                # FastAPI's own span of a request
    with traces.follow("job warm_up", parent=row.traceparent):   # later, in another process
        with traced("resize"):                                   # a part of what is traced now
            ...

A span says the route, the statement, the host and the class of an error: never a path, a query, a
value, a header, a body or the text of an exception. What is not traced costs a look at a variable.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.engine import Engine

from newel.errors import ConfigurationError
from newel.extras import import_driver

__all__ = [
    "Attributes",
    "Export",
    "Traces",
    "act_within",
    "is_heard_by",
    "note",
    "note_error",
    "open_traces",
    "traced",
    "track_errors",
]

Attributes = Mapping[str, str | int | float | bool]
"""What a span says: few words, and none of a client's."""

_PROBES: Final = frozenset({"/health", "/ready", "/metrics"})
_UNSAID: Final = frozenset({"url.path", "url.query", "http.request.method_original"})
"""What FastAPI would say of a request in the client's words: ids, addresses, tokens of links."""

_MOST_OF_A_STATEMENT: Final = 2048
_NOTHING: Final = nullcontext()
_TRACEPARENT: Final = re.compile(
    rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}.*"
)
_PARENT: Final = TraceContextTextMapPropagator()

_tracer: ContextVar[Tracer | None] = ContextVar("newel_tracer", default=None)
"""Makes the parts of what is traced now; ``None`` where nothing is."""


class Export(Protocol):
    """What takes spans away, such as ``drivers.otlp``; nobody ever waits for it."""

    @property
    def provider(self) -> TracerProvider:
        """OpenTelemetry's maker of tracers."""
        ...

    def start(self) -> None:
        """Begin to send what has ended."""
        ...

    async def close(self) -> None:
        """Send what is left, in bounded time."""
        ...

    async def ping(self) -> None:
        """Return when the collector takes spans; raises ``Unavailable``."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Return how many spans were ``sent``, and how many ``lost``."""
        ...


class Traces:
    """Makes spans by ``provider``; without one it does nothing. ``export`` is started and closed.

    ``provider`` is any of OpenTelemetry's: another vendor's, or one of a test. Of what begins here
    it is asked for ``ratio``, from 0 to 1.
    """

    def __init__(
        self,
        provider: TracerProvider | None = None,
        *,
        export: Export | None = None,
        ratio: float = 1.0,
    ) -> None:
        self.export: Export | None = export
        self._ratio = ratio
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("newel")

    def of_requests(self) -> TelemetryConfig | None:
        """Return what to give to ``FastAPI(telemetry=...)``: a span a request, no more.

        Without a provider FastAPI does what the environment and OpenTelemetry's own provider say;
        where they say nothing it need not ask them three times a request.
        """
        if self._provider is None:
            is_asked = any(name.startswith(("OTEL_", "FASTAPI_OTEL_")) for name in os.environ)
            if is_asked or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                return None
            return TelemetryConfig(tracing=False, metrics=False, logs=False)
        return TelemetryConfig(
            tracer_provider=_RequestSpans(self._provider),
            metrics=False,  # newel.metrics counts, in bounded series
            logs=False,  # they hold the texts of exceptions
            operation_spans=False,
            auto_configure=False,
            # Here and not by a sampler: FastAPI would do most of its work before it asks that.
            exclude=lambda scope: (
                scope["path"] in _PROBES or not (self._is_chosen() or _has_parent(scope))
            ),
        )

    def _is_chosen(self) -> bool:
        return random.random() < self._ratio  # noqa: S311 - no secret

    def here(self) -> AbstractContextManager[None]:
        """Let ``traced`` and statements be parts of the present span, if that is sampled."""
        if self._tracer is None:
            return _NOTHING
        present = trace.get_current_span()
        if present.is_recording():
            return _parts_by(self._tracer)
        return _unsampled() if present is trace.INVALID_SPAN else _NOTHING

    @asynccontextmanager
    async def sending(self) -> AsyncGenerator[None]:
        """Send spans away as long as the block lasts."""
        if self.export is None:
            yield
            return
        self.export.start()
        try:
            yield
        finally:
            await self.export.close()

    def follow(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = SpanKind.CONSUMER,
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[None]:
        """Make a span of the block, in the trace of ``parent``, a ``traceparent``.

        Sampled if the parent is; without one, or with nonsense, as ``TRACES_RATIO`` says.
        """
        if self._tracer is None:
            return _NOTHING
        around = _PARENT.extract({"traceparent": parent} if parent else {}, Context())
        if not around and not self._is_chosen():
            return _unsampled()
        return _span(self._tracer, name, kind=kind, attributes=attributes, around=around)

    def watch(self, *engines: Engine) -> None:
        """Make a span of each statement that a traced block executes on ``engines``."""
        if self._tracer is None:
            return
        for engine in engines:
            for method in ("do_execute", "do_executemany", "do_execute_no_params"):
                event.listen(engine, method, _in_a_span(method))


def open_traces(url: str | None, *, ratio: float, service: str) -> Traces:
    """Return what ``TRACES_URL`` asks for; sends nothing yet.

    Of what begins here ``ratio``, from 0 to 1, is traced; what goes on from elsewhere if it was
    there. Raises ``ConfigurationError``.
    """
    if url is None:
        return Traces()
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            "TRACES_URL is not the address of an OpenTelemetry collector",
            fix="write http://collector:4318 (OTLP over HTTP), or leave it out",
        )
    driver = import_driver("otlp", extra="telemetry", asked="TRACES_URL asks for OpenTelemetry")
    export: Export = driver.OtlpExport(url, service=service)
    return Traces(export.provider, export=export, ratio=ratio)


@asynccontextmanager
async def track_errors(dsn: SecretStr | None, *, environment: str) -> AsyncGenerator[None]:
    """Tell Sentry, as ``SENTRY_DSN`` asks, what fails: answers of 500 and jobs that are dead.

    It is told what the kernel logs as an error, without its text. Raises ``ConfigurationError``.
    """
    if dsn is None:
        yield
        return
    driver = import_driver("sentry", extra="sentry", asked="SENTRY_DSN asks for Sentry")
    async with driver.track(dsn.get_secret_value(), environment=environment):
        yield


async def act_within(act: Callable[[], object], *, seconds: float) -> bool:
    """Do ``act`` in a thread that nothing waits for any longer; tell whether it is done by then.

    ``asyncio.to_thread`` would be waited for when the loop ends.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            act()
        finally:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="newel-telemetry", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
    return done.is_set()


def traced(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> AbstractContextManager[None]:
    """Make a span of the block, if what it is a part of is traced; else do nothing."""
    tracer = _tracer.get()
    return _NOTHING if tracer is None else _span(tracer, name, kind=kind, attributes=attributes)


def is_heard_by(listener: object) -> bool:
    """Tell whether a listener to statements hears of one now; ours does in a traced block only."""
    return _tracer.get() is not None or getattr(listener, "__module__", "") != __name__


def note(attributes: Attributes) -> None:
    """Add to what the span of the present ``traced`` block says."""
    if _tracer.get() is not None:
        trace.get_current_span().set_attributes(attributes)


def note_error(error: BaseException) -> None:
    """Say of the present span that it failed, and by which class of error."""
    span = trace.get_current_span()
    if span.is_recording():
        _fail(span, error)


def _fail(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
    span.set_status(StatusCode.ERROR)


@contextmanager
def _span(
    tracer: Tracer,
    name: str,
    *,
    kind: SpanKind,
    attributes: Attributes | None,
    around: Context | None = None,
) -> Generator[None]:
    with tracer.start_as_current_span(
        name,
        around,
        kind,
        attributes,
        # They would tell the text of an exception, which may be anything.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            with _parts_by(tracer if span.is_recording() else None):
                yield
        except BaseException as error:
            note_error(error)
            raise


@contextmanager
def _unsampled() -> Generator[None]:
    """Say to what comes of the block, jobs and other services, that it is not traced either."""
    context = trace.SpanContext(random.getrandbits(128), random.getrandbits(64), is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


def _has_parent(scope: Mapping[str, Any]) -> bool:
    """Tell whether the request belongs to a trace; nonsense is as good as nothing."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            return True
    return False


@contextmanager
def _parts_by(tracer: Tracer | None) -> Generator[None]:
    before = _tracer.set(tracer)
    try:
        yield
    finally:
        _tracer.reset(before)


class _RequestSpans(TracerProvider, Tracer):
    """Makes FastAPI's span of a request without what the log does not say either."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("fastapi")

    def get_tracer(self, *names: Any, **options: Any) -> Tracer:
        self._tracer = self._provider.get_tracer(*names, **options)
        return self

    def start_span(self, name: str, *rest: Any, attributes: Any = None, **options: Any) -> Span:
        said = {key: value for key, value in attributes.items() if key not in _UNSAID}
        return self._tracer.start_span(name, *rest, attributes=said, **options)

    def start_as_current_span(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("it makes spans of requests, and FastAPI starts those itself")


# ----------------------------------------------------------------------------------- statements


def _in_a_span(method: str) -> Callable[..., bool]:
    """Return a listener for a dialect's ``method`` that does it in a span, where one is wanted.

    With a listener of an engine, such as ``before_cursor_execute``, SQLAlchemy takes a longer way
    for every statement, traced or not: a third more CPU. With one of a dialect it does not.
    """

    def execute(cursor: Any, statement: str, *rest: Any) -> bool:
        tracer = _tracer.get()
        if tracer is None:
            return False
        dialect, summary = rest[-1].dialect, _summary(statement)
        said = {
            "db.system.name": dialect.name,
            "db.query.summary": summary,
            "db.query.text": statement[:_MOST_OF_A_STATEMENT],
        }
        span = tracer.start_span(summary, kind=SpanKind.CLIENT, attributes=said)
        try:
            getattr(dialect, method)(cursor, statement, *rest)
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()
        return True

    return execute


_AFTER_WITH: Final = re.compile(r"\)\s+((?:SELECT|INSERT|UPDATE|DELETE)\b.*)", re.DOTALL)
_COMMENTS: Final = re.compile(r"/\*.*?\*/|--[^\n]*\n", re.DOTALL)
_TABLE: Final = re.compile(r'\b(?:FROM|INTO|UPDATE)\s+"?(\w{1,64})', re.IGNORECASE)


@lru_cache(maxsize=256)
def _summary(statement: str) -> str:
    """Return a statement in two words, ``SELECT agents``: of those there are few."""
    if statement.startswith("WITH ") and (found := _AFTER_WITH.search(statement)):
        statement = found[1]
    words = _COMMENTS.sub("", statement).split(maxsplit=1) or ["statement"]
    verb = words[0][:64].upper()
    table = _TABLE.search(statement)
    return f"{verb} {table[1]}" if table else verb
