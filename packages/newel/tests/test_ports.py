"""What a service stands on is opened as its settings ask, checked, and closed."""

# No `from __future__ import annotations`: FastAPI reads those of a route that is made in a test.

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI
from sample_settings import SECRET, settings
from sample_valkey import Valkey, until

from newel.app import create_app
from newel.auth import public
from newel.clock import SystemClock
from newel.db import Database
from newel.errors import ConfigurationError
from newel.limits import MemoryLimiter, SharedLimiter
from newel.modules import Module
from newel.ports import close_ports, open_ports, secrets_of
from newel.storage import Storage, get_storage

pytestmark = pytest.mark.anyio


async def test_nothing_is_asked_for_nothing_is_opened(tmp_path: Path) -> None:
    app = FastAPI()
    open_ports(app, settings(tmp_path), clock=SystemClock())
    assert isinstance(app.state.limiter, MemoryLimiter)
    assert (app.state.redis, app.state.broker, app.state.carrier) == (None, None, None)
    assert set(app.state.checks) == {"database"}
    await close_ports(app)
    assert not (tmp_path / "app.db").exists(), "no I/O before the first question"


class TestStorage:
    """A service that keeps files is ready when it can; one that keeps none is never asked."""

    async def ready(self, tmp_path: Path, storage: str, **state: Any) -> tuple[int, Any]:
        router = APIRouter(dependencies=[public()])

        @router.get("/papers")
        async def papers(storage: Annotated[Storage, Depends(get_storage)]) -> None: ...

        app = create_app(settings(tmp_path, storage_url=storage), Module("a", routers=[router]))
        for name, value in state.items():
            setattr(app.state, name, value)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get("/ready")
        await close_ports(app)
        return answer.status_code, answer.json()["checks"].get("storage", {}).get("status")

    async def test_a_folder_that_can_be_written_to_is_ready(self, tmp_path: Path) -> None:
        assert await self.ready(tmp_path, f"file:{tmp_path}/files") == (200, "ok")

    async def test_one_that_cannot_is_not(self, tmp_path: Path) -> None:
        tmp_path.joinpath("files").touch()
        assert await self.ready(tmp_path, f"file:{tmp_path}/files") == (503, "failed")

    async def test_a_bucket_that_is_away_degrades(self, tmp_path: Path) -> None:
        away = "s3://papers/a?endpoint=http://127.0.0.1:9&region=eu-west-1"
        assert await self.ready(tmp_path, away) == (200, "degraded")


async def test_a_database_without_room_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(settings(tmp_path))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/ready")).status_code == 200
        full = SimpleNamespace(free=4096)
        monkeypatch.setattr("newel.ports.shutil.disk_usage", lambda _: full)
        assert (await client.get("/ready")).status_code == 503
    async with app.router.lifespan_context(app):
        pass  # it starts all the same: reads go on
    await close_ports(app)


class _Closed:
    """A port that notes that it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True


async def test_what_replaced_a_port_is_closed_in_its_place(tmp_path: Path) -> None:
    app = FastAPI()
    open_ports(app, settings(tmp_path), clock=SystemClock())
    app.state.broker = broker = _Closed()
    await close_ports(app)
    assert broker.is_closed


def test_no_secret_of_the_settings_is_forgotten(tmp_path: Path) -> None:
    given = settings(
        tmp_path,
        secret_key_previous=["previous-0123456789abcdefghijklmnop"],
        metrics_token="metrics-0123456789abcdefghijklmnopq",
        database_url="postgresql+asyncpg://me:in-database@127.0.0.1/x",
        redis_url="redis://:in-redis@127.0.0.1/0",
        mail_url="smtp://me:in%2Fmail@127.0.0.1",
        broker_url="nats://me:in-broker@127.0.0.1",
        jobs_url="nats://me:in-jobs@127.0.0.1",
    )
    assert set(secrets_of(given)) == {
        SECRET,
        "previous-0123456789abcdefghijklmnop",
        "metrics-0123456789abcdefghijklmnopq",
        "in-database",
        "in-redis",
        "in%2Fmail",
        "in/mail",
        "in-broker",
        "in-jobs",
    }


class TestRedis:
    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncGenerator[Valkey]:
        server = Valkey(tmp_path)
        server.start()
        yield server
        server.stop()

    async def test_what_processes_share_is_there_or_said_to_be_missing(
        self, tmp_path: Path, server: Valkey
    ) -> None:
        """Ready with Redis, degraded and at work without, ready again when it is back."""
        app = create_app(settings(tmp_path, redis_url=server.url))
        assert isinstance(app.state.limiter, SharedLimiter)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            database: Database = app.state.database
            await until(lambda: database.cache.is_current)
            ready = (await client.get("/ready")).json()
            assert (ready["status"], ready["checks"]["redis"]["status"]) == ("ok", "ok")

            server.stop()
            answer = await client.get("/ready")
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
            assert answer.json()["checks"]["redis"]["status"] == "degraded"
            server.start()
            assert (await client.get("/ready")).json()["status"] == "ok"
            await until(lambda: database.cache.is_current, seconds=2)

    async def test_without_its_driver_it_does_not_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "newel.drivers.redis", None)
        with pytest.raises(ConfigurationError, match="not installed") as caught:
            create_app(settings(tmp_path, redis_url="redis://localhost"))
        assert "newel[redis]" in caught.value.fix

    @pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://host:port/0"])
    async def test_an_address_that_is_none_does_not_start(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(ConfigurationError, match="REDIS_URL is not the address"):
            create_app(settings(tmp_path, redis_url=url))

    async def test_processes_that_share_nothing_do_not_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="WEB_CONCURRENCY=2 without REDIS_URL"):
            create_app(settings(tmp_path, web_concurrency=2))
