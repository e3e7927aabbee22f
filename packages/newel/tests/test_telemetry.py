"""Traces and errors, seen from where they go: a collector on a socket, and a worker elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sample_jobs import rows
from sample_telemetry import CANARY, Collector, application, collecting, work_off
from sample_valkey import Valkey

from newel import telemetry
from newel.drivers import otlp, sentry
from newel.drivers.otlp import QUEUE_SPANS, OtlpExport
from newel.drivers.redis import RedisLink
from newel.errors import ConfigurationError, Unavailable
from newel.outgoing import lan, outgoing_client, public
from newel.telemetry import Traces, open_traces, traced

pytestmark = pytest.mark.anyio

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
"""The kinds of spans, as OTLP numbers them."""


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Generator[tuple[Collector, str]]:
    """A collector that answers; what is left at the end comes, however busy the machine is."""
    for driver in (otlp, sentry):
        monkeypatch.setattr(driver, "CLOSE_SECONDS", 30.0)
    with collecting() as found:
        yield found


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A database without tables, for what needs none."""
    return f"sqlite+aiosqlite:///{tmp_path}/service.db"


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test/api/v1") as client,
    ):
        yield client


def kept(*, ratio: float = 1.0) -> tuple[Traces, InMemorySpanExporter]:
    """Return traces of which a test keeps every span."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Traces(provider, ratio=ratio), exporter


async def another_worker(database_url: str, traces_url: str) -> None:
    """Work off what there is in a process of its own, which begins no trace itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("sample_telemetry.py")),
        database_url,
        traces_url,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


# ---------------------------------------------------------------- the tree


async def test_one_request_is_one_tree_over_two_processes(
    database_url: str, tmp_path: Path, sink: tuple[Collector, str], capsys: Any
) -> None:
    collector, url = sink
    app = application(database_url, tmp_path, traces_url=url)
    path, body = f"/orders/{uuid4()}?token={CANARY}", {"note": CANARY, "calls": url}
    async with serving(app) as client:
        headers = {"authorization": f"Basic {CANARY}", "cookie": f"a={CANARY}"}
        answer = await client.post(path, json=body, headers=headers)
        assert answer.status_code == 201
        await client.get("http://test/health")
    await another_worker(database_url, url)

    request = collector.named("POST /api/v1/orders/{order_id}")
    assert {span.trace_id for span in collector.spans} == {request.trace_id}
    assert {span.service for span in collector.spans} == {"orders"}
    by_id = {span.span_id: span.name for span in collector.spans}
    tree = {(by_id.get(span.parent_id), span.name) for span in collector.spans}
    assert {(above, name) for above, name in tree if name != "BEGIN"} == {
        (None, request.name),
        (request.name, "SELECT tags"),
        (request.name, "POST"),
        (request.name, "commit"),
        ("commit", "INSERT tags"),
        ("commit", "INSERT jobs"),
        ("commit", "INSERT outbox"),
        (request.name, "job ship"),
        ("job ship", "UPDATE jobs"),
        ("job ship", "commit"),
        (request.name, "job announce"),
        (request.name, "publish order.placed"),
    }
    assert collector.named("job ship").kind == CONSUMER
    assert collector.named("publish order.placed").kind == PRODUCER
    select = collector.named("SELECT tags")
    assert (select.kind, select.says["db.system.name"]) == (CLIENT, app.state.database.engine.name)
    assert "WHERE" in select.says["db.query.text"]
    call = collector.named("POST")
    assert call.says["server.address"] == "127.0.0.1"
    assert call.says["http.response.status_code"] == 200

    [heard] = collector.asked
    sent = {name.lower(): value for name, value in heard.items()}["traceparent"]
    assert sent == f"00-{request.trace_id}-{call.span_id}-{sent[-2:]}"

    said = capsys.readouterr().out
    assert CANARY not in said
    lines = [json.loads(line) for line in said.splitlines()]
    [line] = [one for one in lines if one.get("route") == "/api/v1/orders/{order_id}"]
    assert (line["trace_id"], line["span_id"]) == (request.trace_id, request.span_id)

    told = b"".join(repr(span).encode() for span in collector.spans)
    assert CANARY.encode() not in told
    assert CANARY.encode() in collector.raw, "it was sent, in the call: the search would see it"


async def test_a_message_says_whose_trace_it_is_of(database_url: str, tmp_path: Path) -> None:
    traces, exporter = kept()
    app = application(database_url, tmp_path, traces=traces)
    async with serving(app) as client:
        await client.post(f"/orders/{uuid4()}", json={"note": "x"})
        await work_off(app)
        [message] = app.state.broker.sent
    ids = {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()}
    assert ids == {message.headers()["traceparent"].split("-")[1]}
    assert json.loads(message.body())["traceparent"] == message.headers()["traceparent"]


async def test_redis_is_a_part_of_it(valkey: Valkey) -> None:
    traces, exporter = kept()
    link = RedisLink(valkey.url, name="telemetry")
    await link.ping()
    with traces.follow("request", parent=None):
        await link.hit(CANARY, CANARY, step_us=1, full_us=1000, cost=1)
    await link.close()
    hit, request = exporter.get_finished_spans()
    assert (hit.name, request.name) == ("redis hit", "request")
    assert hit.attributes == {"db.system.name": "redis"}


async def test_ids_go_only_to_whom_the_service_has_named(sink: tuple[Collector, str]) -> None:
    """An address that a user gave, of a webhook for example, does not learn them."""
    collector, url = sink
    traces, _ = kept()
    port = int(url.rpartition(":")[2])
    named = lan(networks=["127.0.0.0/8"], ports={port})
    with traces.follow("request", parent=None):
        async with outgoing_client(named) as client:
            await client.get(url)
    assert "traceparent" in {name.lower() for name in collector.asked[0]}
    assert named.are_named
    assert public(hosts={"api.example.com"}).are_named
    assert not public().are_named
    async with outgoing_client(named) as client:
        await client.get(url)
    assert "traceparent" not in {name.lower() for name in collector.asked[1]}


# ---------------------------------------------------------------- what is said


async def test_a_problem_names_its_trace(file_url: str, tmp_path: Path) -> None:
    traces, exporter = kept()
    async with serving(application(file_url, tmp_path, traces=traces)) as client:
        answer = await client.get(f"/orders/{uuid4()}")
    [span] = exporter.get_finished_spans()
    assert answer.json()["trace_id"] == f"{span.context.trace_id:032x}"
    assert "span_id" not in answer.json()


async def test_who_calls_may_begin_the_trace(file_url: str, tmp_path: Path) -> None:
    """By the standard's header, as gateways send it, whatever part we would have chosen."""
    traces, exporter = kept(ratio=0.0)
    theirs = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": f"a={CANARY}"}
    async with serving(application(file_url, tmp_path, traces=traces)) as client:
        assert "trace_id" not in (await client.get(f"/orders/{uuid4()}")).json()
        answer = await client.get(f"/orders/{uuid4()}", headers=theirs)
    assert answer.json()["trace_id"] == "a" * 32
    [span] = exporter.get_finished_spans()
    assert span.parent.span_id == int("b" * 16, 16)


async def test_a_failure_is_a_class_and_no_text(database_url: str, tmp_path: Path) -> None:
    traces, exporter = kept()
    async with serving(application(database_url, tmp_path, traces=traces)) as client:
        for path in ("/broken", "/raises"):
            assert (await client.get(path)).status_code == 500
    spans = exporter.get_finished_spans()
    for name in ("SELECT nowhere", "GET /api/v1/broken", "GET /api/v1/raises"):
        [span] = [one for one in spans if one.name == name]
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.attributes["error.type"]
    assert CANARY not in "".join(span.to_json() for span in spans)


async def test_a_job_that_fails_is_an_error_and_tells_its_trace(
    database_url: str, tmp_path: Path, capsys: Any
) -> None:
    traces, exporter = kept()
    app = application(database_url, tmp_path, traces=traces)
    async with serving(app) as client:
        await client.post("/fails")
        await work_off(app)
    [span] = [one for one in exporter.get_finished_spans() if one.name == "job fail"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "newel.jobs.GiveUp"
    assert CANARY not in span.to_json()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [one for one in lines if one["event"] == "job_dead"]
    assert line["trace_id"] == f"{span.context.trace_id:032x}"


# ---------------------------------------------------------------- what is not traced


async def test_what_is_not_sampled_is_nowhere_and_stays_so(
    database_url: str, tmp_path: Path, sink: tuple[Collector, str], capsys: Any
) -> None:
    """Nor does the job of a request that was not: half a trace helps nobody."""
    collector, url = sink
    app = application(database_url, tmp_path, traces_url=url, traces_ratio=0.0)
    async with serving(app) as client:
        await client.post(f"/orders/{uuid4()}", json={"note": "x"})
        assert "trace_id" not in (await client.get(f"/orders/{uuid4()}")).json()
        [first, *_] = await rows(app.state.database)
        assert first.traceparent is not None
        assert first.traceparent.endswith("-00") or first.traceparent.endswith("-02")
        app.state.traces = open_traces(url, ratio=1.0, service="orders")
        async with app.state.traces.sending():
            await work_off(app)
    assert collector.spans == []
    assert "trace_id" not in capsys.readouterr().out


def test_fastapi_traces_by_itself_only_where_somebody_asks_it_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if "OTEL_" in name]:
        monkeypatch.delenv(name)
    assert Traces().of_requests() == {"tracing": False, "metrics": False, "logs": False}

    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "FASTAPI_OTEL_AUTO_CONFIGURE"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "http://collector:4318")
            assert Traces().of_requests() is None
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert Traces().of_requests() is None


async def test_without_the_setting_there_is_nothing(database_url: str, tmp_path: Path) -> None:
    app = application(database_url, tmp_path)
    engine = app.state.database.engine.sync_engine
    assert not engine.dialect.dispatch.do_execute
    async with serving(app) as client:
        await client.post(f"/orders/{uuid4()}", json={"note": "x"})
        [first, *_] = await rows(app.state.database)
        assert first.traceparent is None
        metrics = (await client.get("http://test/metrics")).text
        assert "newel_spans" not in metrics
    with traced("nothing"), app.state.traces.follow("nothing", parent=None):
        assert not trace.get_current_span().is_recording()


async def test_a_part_of_what_begins_here_is_chosen() -> None:
    traces, exporter = kept(ratio=0.5)
    for _ in range(200):
        with traces.follow("job tidy", parent=None), traced("sweep"):
            pass
    assert 50 < len(exporter.get_finished_spans()) / 2 < 150


@pytest.mark.parametrize("parent", [None, "", "00-nonsense", f"00-{'0' * 32}-{'0' * 16}-01"])
async def test_who_has_no_parent_begins_a_trace(parent: str | None) -> None:
    traces, exporter = kept()
    with traces.follow("job tidy", parent=parent):
        pass
    [span] = exporter.get_finished_spans()
    assert span.parent is None


@pytest.mark.parametrize(
    ("url", "fix"), [("collector:4318", "http://collector:4318"), ("http://", "OTLP over HTTP")]
)
def test_an_address_of_nothing_is_refused(url: str, fix: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_traces(url, ratio=1.0, service="orders")
    assert fix in refused.value.fix


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "newel.drivers.otlp", None)
    with pytest.raises(ConfigurationError) as refused:
        open_traces("http://127.0.0.1:4318", ratio=1.0, service="orders")
    assert refused.value.fix == "install newel[telemetry]"


# ---------------------------------------------------------------- the collector is away


@pytest.fixture
def black_hole() -> Generator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def longest_request(app: FastAPI, *, requests: int) -> float:
    longest = 0.0
    async with serving(app) as client:
        for _ in range(requests):
            began = time.monotonic()
            assert (await client.get(f"/orders/{uuid4()}")).status_code == 404
            longest = max(longest, time.monotonic() - began)
    return longest


async def test_a_collector_that_is_away_holds_nobody_up(
    file_url: str, tmp_path: Path, black_hole: str
) -> None:
    app = application(file_url, tmp_path, traces_url=black_hole)
    began = time.monotonic()
    assert await longest_request(app, requests=20) < 4
    assert time.monotonic() - began < 25, "the end has an end, too"

    exporter = OTLPSpanExporter(f"{black_hole}/v1/traces", timeout=4)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    blocking = application(file_url, tmp_path, traces=Traces(provider))
    assert await longest_request(blocking, requests=1) >= 4, "who waits for it is seen"


async def test_its_queue_is_bounded_and_what_is_lost_is_counted(
    black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "SEND_SECONDS", 60.0)
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.1)
    export = OtlpExport(black_hole, service="orders")
    tracer = export.provider.get_tracer("test")
    export.start()
    for _ in range(QUEUE_SPANS + 500):
        tracer.start_span("x").end()
    assert export.counts() == {"sent": 0, "lost": 500}
    await export.close()
    tracer.start_span("after the end").end()


async def test_what_was_sent_is_counted_for_prometheus(
    database_url: str, tmp_path: Path, sink: tuple[Collector, str], caplog: Any
) -> None:
    collector, url = sink
    app = application(database_url, tmp_path, traces_url=url)
    export = app.state.traces.export
    async with serving(app) as client:
        await client.get(f"/orders/{uuid4()}")
    assert export.counts() == {"sent": 1, "lost": 0}
    collector.status = 400
    with caplog.at_level(logging.WARNING):
        async with serving(app) as client:
            await client.get(f"/orders/{uuid4()}")
            await export.close()
            text = (await client.get("http://test/metrics")).text
    assert 'newel_spans_total{state="lost"} 1.0' in text
    assert 'newel_spans_total{state="sent"} 1.0' in text
    said = [record.msg["event"] for record in caplog.records if record.name == "newel.drivers.otlp"]
    assert "traces_away" in said


async def test_it_can_be_asked_whether_it_is_there(
    sink: tuple[Collector, str], black_hole: str
) -> None:
    await OtlpExport(sink[1], service="orders").ping()
    with pytest.raises(Unavailable):
        await OtlpExport(black_hole, service="orders").ping()


# ---------------------------------------------------------------- errors


def dsn(url: str) -> str:
    return url.replace("//", "//key@") + "/1"


async def test_sentry_is_told_of_500s_and_dead_jobs_without_a_word_of_anybody(
    database_url: str, tmp_path: Path, sink: tuple[Collector, str]
) -> None:
    collector, url = sink
    traces, _ = kept()
    app = application(database_url, tmp_path, traces=traces, sentry_dsn=dsn(url))
    async with serving(app) as client:
        headers = {"x-request-id": "request-0001", "cookie": CANARY}
        await client.get(f"/raises?q={CANARY}", headers=headers)
        await client.get(f"/orders/{uuid4()}")  # 404
        await client.post("/orders/x", json={"note": CANARY})  # 422
        await client.post("/fails")
        await work_off(app)
    told = {error["tags"]["event"]: error for error in collector.errors}
    assert set(told) == {"unexpected_error", "job_dead"}
    raised = told["unexpected_error"]
    assert raised["tags"]["request_id"] == "request-0001"
    assert raised["tags"]["route"] == raised["transaction"] == "/api/v1/raises"
    assert raised["environment"] == "test"
    assert len(raised["contexts"]["trace"]["trace_id"]) == 32
    [value] = raised["exception"]["values"]
    assert value["type"] == "RuntimeError"
    assert value["stacktrace"]["frames"][-1]["function"] == "raises"
    assert told["job_dead"]["tags"]["job"] == "fail"
    assert CANARY not in json.dumps(collector.errors)
    assert b"RuntimeError" in collector.raw, "it was told, in words that are searched"


async def test_a_storm_of_errors_is_told_in_part(
    file_url: str, tmp_path: Path, sink: tuple[Collector, str]
) -> None:
    collector, url = sink
    app = application(file_url, tmp_path, sentry_dsn=dsn(url))
    began = time.monotonic()
    async with serving(app) as client:
        for _ in range(40):
            await client.get("/raises")
        seconds = time.monotonic() - began
    assert 10 <= len(collector.errors) <= 10 * (seconds + 1)
    assert len(collector.errors) < 40 or seconds > 3


async def test_a_sentry_that_is_away_costs_nothing_but_the_event(
    file_url: str, tmp_path: Path, black_hole: str
) -> None:
    began = time.monotonic()
    async with serving(application(file_url, tmp_path, sentry_dsn=dsn(black_hole))) as client:
        assert (await client.get("/raises")).status_code == 500
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("address", ["nonsense", "https://sentry.example.com"])
async def test_a_dsn_of_nothing_is_refused(file_url: str, tmp_path: Path, address: str) -> None:
    app = application(file_url, tmp_path, sentry_dsn=address)
    with pytest.raises(ConfigurationError, match="SENTRY_DSN"):
        async with serving(app):
            pass


async def test_sentry_that_is_not_installed_is_named(
    file_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "newel.drivers.sentry", None)
    app = application(file_url, tmp_path, sentry_dsn="http://k@h/1")
    with pytest.raises(ConfigurationError) as refused:
        async with serving(app):
            pass
    assert refused.value.fix == "install newel[sentry]"


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT agents.id FROM agents", "SELECT agents"),
        (f"{' ' * 80}select 1", "SELECT"),
        ("/* who asks */ UPDATE agents SET x = 1", "UPDATE agents"),
        ("-- why\nDELETE FROM agents", "DELETE agents"),
        ("", "STATEMENT"),
    ],
)
def test_a_statement_in_two_words(statement: str, summary: str) -> None:
    assert telemetry._summary(statement) == summary


@pytest.mark.parametrize(
    ("sent", "is_parent"),
    [
        (b"x", False),
        (b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", False),
        (b"00-" + b"a" * 32 + b"-" + b"1" * 16 + b"-01", True),
    ],
)
def test_nonsense_does_not_make_a_trace(sent: bytes, is_parent: bool) -> None:
    assert telemetry._has_parent({"headers": [(b"traceparent", sent)]}) is is_parent
