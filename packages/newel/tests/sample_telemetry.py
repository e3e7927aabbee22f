"""A collector of traces and errors on a socket of its own, and a service whose work it sees.

    python sample_telemetry.py DATABASE_URL TRACES_URL

runs, as a process of its own, the jobs that are in the database.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import APIRouter, FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import BaseModel
from sample_entities import Tag
from sqlalchemy import select, text

from newel.app import create_app
from newel.auth import public
from newel.db import CurrentWork
from newel.drivers import otlp
from newel.errors import NotFound
from newel.events import Event
from newel.handlers import on
from newel.jobs import GiveUp, JobRun, job
from newel.modules import Module
from newel.outgoing import lan, outgoing_client
from newel.settings import Settings
from newel.telemetry import Traces
from newel.worker import Worker

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
CANARY = "hunter2-zqXw7"
"""Stands in bodies, queries, paths, headers, values and texts of errors: nothing may tell it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A span, as the collector got it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    is_error: bool
    service: str
    says: Mapping[str, Any]


class Collector:
    """What an OpenTelemetry collector, Sentry and any other service look like from outside."""

    def __init__(self) -> None:
        self.spans: list[Told] = []
        self.errors: list[dict[str, Any]] = []
        self.asked: list[Mapping[str, str]] = []
        """The headers of requests for anything else."""
        self.raw = b""
        self.status = 200

    def named(self, name: str) -> Told:
        [found] = [span for span in self.spans if span.name == name]
        return found

    def take_spans(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.append(_told(span, about["service.name"]))

    def take_errors(self, body: bytes) -> None:
        lines = body.split(b"\n")
        for header, item in zip(lines[1::2], lines[2::2], strict=False):
            if json.loads(header)["type"] == "event":
                self.errors.append(json.loads(item))


def _told(span: Any, service: str) -> Told:
    says = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
    return Told(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        is_error=span.status.code == 2,
        service=service,
        says=says,
    )


@contextmanager
def collecting() -> Generator[tuple[Collector, str]]:
    """Run a collector inside the block: it, and its address."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.raw += body
            if self.path.startswith("/v1/traces"):
                collector.take_spans(body)
            elif self.path.startswith("/api/"):
                collector.take_errors(body)
            else:
                collector.asked.append(dict(self.headers))
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---------------------------------------------------------------- the service


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(Event):
    note: str


class Order(BaseModel):
    note: str
    calls: str | None = None


@job()
async def ship(job: JobRun, note: str) -> None:
    job.work.session.add(Tag(label="shipped"))


@job(retries=0)
async def fail(job: JobRun, note: str) -> None:
    raise GiveUp(note)


@on(OrderPlaced)
async def announce(job: JobRun, event: OrderPlaced) -> None: ...


router = APIRouter(dependencies=[public()])


@router.post("/orders/{order_id}", status_code=201)
async def place_order(order_id: UUID, order: Order, work: CurrentWork) -> None:
    if await work.session.scalar(select(Tag.id).where(Tag.label == order.note)) is None:
        work.session.add(Tag(label=order.note))
    work.enqueue(ship, order.note)
    work.publish(OrderPlaced(id=order_id, note=order.note))
    if order.calls is not None:
        ports = {int(order.calls.rpartition(":")[2])}
        destinations = lan(networks=["127.0.0.0/8"], ports=ports)
        async with outgoing_client(destinations) as client:
            await client.post(f"{order.calls}/{CANARY}?key={CANARY}", content=order.note)


@router.get("/orders/{order_id}")
async def read_order(order_id: UUID) -> None:
    raise NotFound("order", order_id)


@router.get("/broken")
async def broken(work: CurrentWork) -> None:
    async with work.as_system("it asks for what there is not"):
        await work.session.execute(text("SELECT :value FROM nowhere"), {"value": CANARY})


@router.post("/fails", status_code=202)
async def fails(work: CurrentWork) -> None:
    work.enqueue(fail, CANARY)


@router.get("/raises")
async def raises() -> None:
    raise RuntimeError(CANARY)


def application(
    database_url: str, migrations: Path, *, traces: Traces | None = None, **values: Any
) -> FastAPI:
    settings: dict[str, Any] = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "service_name": "orders",
        "database_url": database_url,
        "migrations": migrations,
        "broker_url": "memory:",
        "traces_ratio": 1.0,
    }
    module = Module("orders", routers=[router], jobs=[ship, fail], handlers=[announce])
    return create_app(Settings(**settings | values), module, traces=traces)


async def work_off(app: FastAPI) -> None:
    """Run the jobs that there are, as a worker does."""
    await Worker(app, app.state.background).drain()


async def main(database_url: str, traces_url: str) -> None:
    otlp.CLOSE_SECONDS = 30.0  # type: ignore[misc] # what is left comes, however busy it is here
    app = application(database_url, Path("/nonexistent"), traces_url=traces_url, traces_ratio=0.0)
    async with app.state.traces.sending():
        await work_off(app)
    await app.state.database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
