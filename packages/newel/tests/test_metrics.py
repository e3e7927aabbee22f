"""Prometheus reads what a service counts: bounded, for those who may, also without a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from newel.app import create_app
from newel.auth import public
from newel.db import Database
from newel.errors import Unavailable
from newel.job_rows import JobRow
from newel.jobs import JobRun, job
from newel.metrics import BUCKETS, RequestMetrics
from newel.middleware import default_middleware
from newel.modules import Module
from newel.settings import Settings

pytestmark = pytest.mark.anyio


@job()
async def add(_run: JobRun, first: int, second: int) -> int:
    return first + second


SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
TOKEN = "scrape-with-this-one-0123456789"


def service(database_url: str, tmp_path: Path, **values: Any) -> FastAPI:
    router = APIRouter(dependencies=[public()])

    @router.get("/things/{thing_id}")
    async def read_thing(thing_id: int) -> int:
        return thing_id

    @router.get("/slow")
    async def slow(seconds: float) -> None:
        await asyncio.sleep(seconds)

    settings = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "database_url": database_url,
        "migrations": tmp_path,
    }
    return create_app(Settings(**settings | values), Module("things", routers=[router]))


@asynccontextmanager
async def asking(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await app.state.database.close()


async def scrape(client: httpx2.AsyncClient) -> dict[tuple[str, frozenset[Any]], float]:
    """Return the values by name and labels, as Prometheus' own parser reads them."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def labelled(name: str, **labels: str) -> tuple[str, frozenset[Any]]:
    return name, frozenset(labels.items())


def requests(values: Mapping[Any, float], **labels: str) -> float:
    return values.get(labelled("http_request_duration_seconds_count", **labels), 0)


async def test_requests_are_counted_by_route(database_url: str, tmp_path: Path) -> None:
    async with asking(service(database_url, tmp_path)) as client:
        for number in range(3):
            await client.get(f"/api/v1/things/{number}")
        await client.get("/api/v1/things/x")

        values = await scrape(client)

    route = "/api/v1/things/{thing_id}"
    assert requests(values, method="GET", route=route, status="200") == 3
    assert requests(values, method="GET", route=route, status="422") == 1
    assert values[labelled("http_requests_in_flight")] == 1  # the scrape itself
    assert values[labelled("newel_database_connections", state="in_use")] == 0
    assert values[labelled("process_open_fds")] > 0


async def test_what_a_client_invents_is_one_series(database_url: str, tmp_path: Path) -> None:
    async with asking(service(database_url, tmp_path)) as client:
        for number in range(20):
            await client.request(f"VERB{number}", f"/nowhere/{number}")
            await client.request(f"VERB{number}", f"/api/v1/things/{number}")

        values = await scrape(client)

    counted = {labels for name, labels in values if name.endswith("_seconds_count")}
    assert {dict(labels)["method"] for labels in counted} == {"OTHER"}
    assert len(counted) == 2


async def test_a_duration_is_in_its_bucket(database_url: str, tmp_path: Path) -> None:
    async with asking(service(database_url, tmp_path)) as client:
        await client.get("/api/v1/slow?seconds=0.03")

        values = await scrape(client)

    labels = {"method": "GET", "route": "/api/v1/slow", "status": "200"}
    name = "http_request_duration_seconds"
    assert values[labelled(f"{name}_bucket", **labels, le="0.025")] == 0
    assert values[labelled(f"{name}_bucket", **labels, le="+Inf")] == 1
    assert values[labelled(f"{name}_sum", **labels)] >= 0.03


@pytest.mark.parametrize(("seconds", "bucket"), [(0, 0), (0.005, 0), (0.006, 1), (99, -1)])
def test_a_bucket_has_its_upper_bound(seconds: float, bucket: int) -> None:
    metrics = RequestMetrics()

    metrics.observe(method="GET", route="/", status=200, seconds=seconds)

    [series] = metrics.series.values()
    assert series.counts[bucket] == 1
    assert len(series.counts) == len(BUCKETS) + 1


async def test_waiting_jobs_are_counted(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    async with database.write(None) as work:
        work.enqueue(add, 1, 2)
        work.enqueue(add, 3, 4)

    async with asking(service(database_url, tmp_path)) as client:
        values = await scrape(client)

    assert values[labelled("newel_jobs", state="ready")] == 2
    assert values[labelled("newel_jobs", state="dead")] == 0


async def test_without_its_database_the_rest_is_told(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(Database, "rows", away)
    async with asking(service(database_url, tmp_path)) as client:
        await client.get("/api/v1/things/1")
        values = await scrape(client)

    assert requests(values, method="GET", route="/api/v1/things/{thing_id}", status="200") == 1
    assert not [name for name, _ in values if name == "newel_jobs"]


async def test_on_another_schema_the_rest_is_told(database_url: str, tmp_path: Path) -> None:
    app = service(database_url, tmp_path)
    async with asking(app) as client:
        async with app.state.database.engine.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {JobRow.__tablename__} RENAME TO before"))
        await client.get("/api/v1/things/1")
        values = await scrape(client)

    assert requests(values, method="GET", route="/api/v1/things/{thing_id}", status="200") == 1


async def test_connections_in_use_are_counted(database_url: str, tmp_path: Path) -> None:
    app = service(database_url, tmp_path)
    async with asking(app) as client, app.state.database.reading_engine.connect() as connection:
        await connection.execute(text("SELECT 1"))

        values = await scrape(client)

    assert values[labelled("newel_database_connections", state="in_use")] == 1


async def test_a_list_of_middleware_of_ones_own_counts_too(
    database_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        _env_file=None, secret_key=SECRET, database_url=database_url, migrations=tmp_path
    )
    async with asking(create_app(settings, middleware=default_middleware(settings))) as client:
        await client.get("/health")
        assert requests(await scrape(client), method="GET", route="/health", status="200") == 1


class TestWhoMayScrape:
    async def test_anyone_in_development(self, database_url: str, tmp_path: Path) -> None:
        async with asking(service(database_url, tmp_path)) as client:
            assert (await client.get("/metrics")).status_code == 200

    async def test_nobody_in_production(self, database_url: str, tmp_path: Path) -> None:
        app = service(database_url, tmp_path, environment="production")
        async with asking(app) as client:
            assert (await client.get("/metrics")).status_code == 404

    @pytest.mark.parametrize("environment", ["production", "development"])
    async def test_who_has_the_token(
        self, database_url: str, tmp_path: Path, environment: str
    ) -> None:
        app = service(database_url, tmp_path, environment=environment, metrics_token=TOKEN)
        async with asking(app) as client:
            for offered in (None, "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"):
                headers = [] if offered is None else [(b"authorization", offered.encode("latin-1"))]
                response = await client.get("/metrics", headers=headers)
                assert response.status_code == 401, offered
                assert response.headers["www-authenticate"] == "Bearer"
            good = await client.get("/metrics", headers={"authorization": f"bearer {TOKEN}"})
            assert good.status_code == 200

    async def test_a_scrape_is_not_limited(self, database_url: str, tmp_path: Path) -> None:
        async with asking(service(database_url, tmp_path, api_limit="1/hour")) as client:
            answers = [await client.get("/metrics") for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200] * 3
            assert [(await client.get("/api/v1/things/1")).status_code for _ in range(2)] == [
                200,
                429,
            ]


async def test_openmetrics_for_who_asks_for_it(database_url: str, tmp_path: Path) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    async with asking(service(database_url, tmp_path)) as client:
        response = await client.get("/metrics", headers=accept)

    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
