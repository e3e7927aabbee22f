"""``newel.health``: alive and ready are two questions, answered in bounded time and few words."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sample_routes import CANARY, problem_of
from structlog.testing import capture_logs

from newel import health, problems


async def works() -> None: ...


async def fails() -> None:
    raise ConnectionError(CANARY)


async def can_be_done_without() -> None:
    raise health.Degraded(CANARY)


async def hangs() -> None:
    await asyncio.Event().wait()


async def hangs_and_will_not_stop() -> None:
    for _ in range(2):
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            continue


async def gives_up() -> None:
    raise asyncio.CancelledError


def application(**checks: Callable[[], Awaitable[None]]) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    problems.document(app)
    app.include_router(health.router)
    app.state.checks = checks
    return app


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.05)
    with capture_logs() as logs:
        yield logs


def ready(**checks: Callable[[], Awaitable[None]]) -> Any:
    with TestClient(application(**checks)) as client:
        return client.get("/ready")


def test_health_is_ok_whatever_the_dependencies_do() -> None:
    response = TestClient(application(database=fails)).get("/health")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_ready_names_every_dependency_and_its_time() -> None:
    response = ready(database=works, cache=works)

    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "ok"
    assert {name: check["status"] for name, check in body["checks"].items()} == {
        "database": "ok",
        "cache": "ok",
    }
    assert all(0 <= check["ms"] < 50 for check in body["checks"].values())


def test_ready_is_ok_without_checks() -> None:
    assert ready().json() == {"status": "ok", "checks": {}}


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (fails, "failed"),
        (hangs, "timeout"),
        (hangs_and_will_not_stop, "timeout"),
        (gives_up, "timeout"),
    ],
)
def test_ready_is_503_and_names_what_does_not_work(check: Any, status: str) -> None:
    response = ready(database=check, cache=works)

    body = problem_of(response)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert body["detail"] == "Not ready: database."
    assert body["checks"]["database"]["status"] == status
    assert body["checks"]["cache"]["status"] == "ok"


def test_what_we_can_do_without_leaves_the_service_ready_and_is_said(logs: list[Any]) -> None:
    response = ready(database=works, redis=can_be_done_without)

    body = response.json()
    assert (response.status_code, body["status"]) == (200, "degraded")
    assert {name: check["status"] for name, check in body["checks"].items()} == {
        "database": "ok",
        "redis": "degraded",
    }
    assert CANARY not in response.text
    assert [(line["event"], line["check"]) for line in logs] == [("check_degraded", "redis")]


def test_a_spare_part_does_not_hide_that_a_needed_one_fails() -> None:
    response = ready(database=fails, redis=can_be_done_without)

    body = problem_of(response)
    assert (response.status_code, body["detail"]) == (503, "Not ready: database.")
    assert body["checks"]["redis"]["status"] == "degraded"


def test_why_it_does_not_work_is_in_the_log(logs: list[Any]) -> None:
    ready(database=fails, cache=hangs)

    assert {(line["event"], line["check"]) for line in logs} == {
        ("check_failed", "database"),
        ("check_timed_out", "cache"),
    }
    assert [str(line["exc_info"]) for line in logs if "exc_info" in line] == [CANARY]


def test_checks_run_at_once_and_their_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.1)
    began = time.perf_counter()

    body = problem_of(ready(**{f"check{i}": hangs for i in range(20)}))

    # One after the other they would need two seconds.
    assert time.perf_counter() - began < 1.5
    assert all(check["ms"] == 100 for check in body["checks"].values())


def test_a_hanging_check_is_stopped() -> None:
    stopped: list[str] = []

    async def check() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("stopped")

    with TestClient(application(database=check)) as client:
        client.get("/ready")
        client.get("/health")
        assert stopped == ["stopped"]


def test_ready_is_503_while_draining_and_asks_nobody() -> None:
    asked: list[str] = []

    async def check() -> None:
        asked.append("database")

    app = application(database=check)
    app.state.draining = False
    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
        app.state.draining = True
        response = client.get("/ready")
        assert client.get("/health").status_code == 200

    assert problem_of(response)["detail"] == "The service is stopping."
    assert asked == ["database"]


def test_both_are_marked_public_and_documented() -> None:
    app = application()
    operations = app.openapi()["paths"]

    for path in ("/health", "/ready"):
        responses = operations[path]["get"]["responses"]
        assert not {"401", "403"} & set(responses)
        assert "application/problem+json" in str(responses["503"]) or "$ref" in responses["503"]
    for route in health.router.routes:
        [dependency] = route.dependencies
        assert dependency.dependency.__newel_access__ == ()
