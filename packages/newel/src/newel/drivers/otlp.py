"""Spans to a collector by OTLP over HTTP, with OpenTelemetry's SDK (``newel[telemetry]``).

A thread sends what has ended, some hundred spans at once. Its queue is bounded: what does not fit,
or is not taken, is counted as lost. No request ever waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from newel.errors import Unavailable
from newel.telemetry import act_within

__all__ = ["OtlpExport"]

QUEUE_SPANS: Final = 2048
BATCH_SPANS: Final = 256
EVERY_MILLISECONDS: Final = 2000
SEND_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 3.0
PING_SECONDS: Final = 2.0
LIMITS: Final = SpanLimits(
    max_span_attributes=32, max_events=16, max_links=4, max_span_attribute_length=2048
)
_log = structlog.get_logger("newel.drivers.otlp")


class OtlpExport:
    """Sends the spans of ``service`` to ``{url}/v1/traces``; a thread, from ``start`` on.

    OpenTelemetry's variables for headers, certificates and the resource hold:
    ``OTEL_EXPORTER_OTLP_HEADERS`` and so on.
    """

    def __init__(self, url: str, *, service: str) -> None:
        self._exporter = partial(OTLPSpanExporter, f"{url.rstrip('/')}/v1/traces")
        self._outlet = _Outlet()
        self.provider: TracerProvider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON),  # newel.telemetry has chosen already
            resource=Resource.create({"service.name": service}),
            shutdown_on_exit=False,
            span_limits=LIMITS,
        )
        self.provider.add_span_processor(self._outlet)

    def start(self) -> None:
        """Begin to send what has ended."""
        # It says the same every few seconds; we say it once.
        for name in ("proto.http.trace_exporter", "proto.http"):
            logging.getLogger(f"opentelemetry.exporter.otlp.{name}").setLevel(logging.CRITICAL)
        self._outlet.open(self._exporter(timeout=SEND_SECONDS))

    async def close(self) -> None:
        """Send what is left, for ``CLOSE_SECONDS`` at most; what is left then is lost."""
        if not await act_within(self._outlet.close, seconds=CLOSE_SECONDS):
            self._outlet.give_up()

    async def ping(self) -> None:
        """Send nothing, and see whether it is taken; raises ``Unavailable``."""
        results: list[SpanExportResult] = []
        exporter = self._exporter(timeout=PING_SECONDS)
        await act_within(lambda: results.append(exporter.export(())), seconds=PING_SECONDS)
        exporter.shutdown()
        if results != [SpanExportResult.SUCCESS]:
            raise Unavailable("The collector of traces does not answer.")

    def counts(self) -> Mapping[str, int]:
        """Return how many spans were sent, and how many were lost."""
        return {"sent": self._outlet.sent, "lost": self._outlet.lost}


class _Outlet(SpanProcessor, SpanExporter):
    """The SDK's queue with a bound that is counted, and its exporter with a count of its own."""

    def __init__(self) -> None:
        self.sent = 0
        self.lost = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._exporter: SpanExporter | None = None
        self._queue: BatchSpanProcessor | None = None
        self._is_away = False

    def open(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._queue = BatchSpanProcessor(
            self,
            max_queue_size=QUEUE_SPANS,
            max_export_batch_size=BATCH_SPANS,
            schedule_delay_millis=EVERY_MILLISECONDS,
        )

    def close(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.shutdown()

    def give_up(self) -> None:
        if self._exporter is not None:
            self._exporter.shutdown()  # ends its wait between two tries

    # The end of a span, in the thread that ends it.

    def on_end(self, span: ReadableSpan) -> None:
        queue = self._queue
        if queue is None:
            return
        with self._lock:
            if self._waiting >= QUEUE_SPANS:
                self.lost += 1
                return
            self._waiting += 1
        queue.on_end(span)

    # The thread that sends.

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self._exporter is not None  # noqa: S101 - there is no queue before there is one
        result = self._exporter.export(spans)
        is_sent = result is SpanExportResult.SUCCESS
        with self._lock:
            self._waiting -= len(spans)
            self.sent += len(spans) if is_sent else 0
            self.lost += 0 if is_sent else len(spans)
        if self._is_away is is_sent:
            self._is_away = not is_sent
            _log.warning("traces_away" if self._is_away else "traces_back")
        return result

    def shutdown(self) -> None:
        self.give_up()
