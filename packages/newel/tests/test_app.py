"""The composition root refuses what is unsafe and starts on a matching schema only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from sample_settings import settings
from sqlalchemy import create_engine, text

from newel.app import access_of, create_app
from newel.auth import limit, public, require_role, requires
from newel.errors import ConfigurationError
from newel.middleware import RequestContext, default_middleware
from newel.modules import Module
from newel.principal import Principal

pytestmark = pytest.mark.anyio


class OneCaller:
    """An authenticator that knows one token."""

    def __init__(self, *permissions: str) -> None:
        self._permissions = frozenset(permissions)

    async def authenticate(self, token: str) -> Principal:
        return Principal(id=UUID(int=1), permissions=self._permissions, roles=frozenset({token}))


def a_module(**values: Any) -> Module:
    router = APIRouter(prefix="/things", tags=["things"])

    @router.get("")
    async def list_things(caller: Annotated[Principal, requires("things:read")]) -> str:
        return str(caller.id)

    @router.get("/open", dependencies=[public()])
    async def open_thing() -> str:
        return "open"

    @router.get("/admins", dependencies=[require_role("admin")])
    async def admins() -> str:
        return "admins"

    return Module(
        **{
            "name": "things",
            "routers": [router],
            "authenticator": lambda _app: OneCaller("things:read"),
            **values,
        }
    )


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def test_it_is_a_real_fastapi_made_without_io(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), a_module())
    assert type(app) is FastAPI
    assert not (tmp_path / "app.db").exists()


async def test_modules_are_mounted_under_the_prefix(tmp_path: Path) -> None:
    async with running(create_app(settings(tmp_path), a_module())) as client:
        assert (await client.get("/api/v1/things/open")).json() == "open"
        assert (await client.get("/api/v1/things")).status_code == 401
        named = {"Authorization": "Bearer x"}
        assert (await client.get("/api/v1/things", headers=named)).status_code == 200
        assert (await client.get("/api/v1/things/admins", headers=named)).status_code == 403
        admin = {"Authorization": "Bearer admin"}
        assert (await client.get("/api/v1/things/admins", headers=admin)).status_code == 200


async def test_root_routers_are_mounted_without_the_prefix(tmp_path: Path) -> None:
    router = APIRouter()

    @router.get("/.well-known/thing", dependencies=[public()])
    async def thing() -> str:
        return "thing"

    module = Module("standards", root_routers=[router])
    async with running(create_app(settings(tmp_path), module)) as client:
        assert (await client.get("/.well-known/thing")).json() == "thing"


def undeclared(kind: str) -> Module:
    router = APIRouter(prefix="/open")
    if kind == "websocket":

        @router.websocket("/socket")
        async def socket(websocket: WebSocket) -> None: ...
    else:

        @router.api_route("/door", methods=[kind], dependencies=[limit("1/minute", by="ip")])
        async def door() -> None: ...

    return Module("open", routers=[router])


@pytest.mark.parametrize("kind", ["GET", "POST", "DELETE", "websocket"])
def test_a_route_that_does_not_say_who_may_call_it_stops_the_start(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(ConfigurationError, match="/api/v1/open/") as caught:
        create_app(settings(tmp_path), undeclared(kind))
    assert "requires(" in caught.value.fix


async def test_a_route_that_came_later_keeps_it_from_starting(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), a_module())
    app.include_router(*undeclared("GET").routers)
    with pytest.raises(ConfigurationError, match="does not say who may call it"):
        async with running(app):
            pass


@pytest.mark.parametrize("kind", ["GET", "websocket"])
async def test_a_plain_router_is_mounted_unchanged_when_its_module_says_who(
    tmp_path: Path, kind: str
) -> None:
    plain = undeclared(kind)
    module = Module("plain", routers=plain.routers, dependencies=[requires("plain:read")])
    app = create_app(settings(tmp_path), module)
    if kind == "GET":
        async with running(app) as client:
            assert (await client.get("/api/v1/open/door")).status_code == 401


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"secret_key": "short"}, "SECRET_KEY is shorter"),
        ({"cors_origins": "*", "cors_credentials": True}, "CORS_ORIGINS"),
    ],
)
def test_unsafe_settings_stop_the_start(
    tmp_path: Path, values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        create_app(settings(tmp_path, **values))
    assert caught.value.fix


def test_a_second_authenticator_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="second authenticator"):
        create_app(settings(tmp_path), a_module(), a_module(name="again"))


def test_access_is_read_from_the_whole_tree(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path), a_module())
    found = {
        route.path: access_of(route.dependant)
        for route in iter_route_contexts(app.routes)
        if getattr(route, "dependant", None) is not None
    }
    assert found["/api/v1/things"] == ("things:read",)
    assert found["/api/v1/things/open"] == ()
    assert found["/api/v1/things/admins"] == ("role:admin",)
    assert found["/health"] == ()


class TestSchema:
    async def test_a_database_without_the_tables_stops_the_start(self, tmp_path: Path) -> None:
        revision = tmp_path / "migrations/0001_initial.py"
        app = create_app(settings(tmp_path))
        revision.write_text('revision = "0001"\ndown_revision = None\n')
        with pytest.raises(ConfigurationError, match="has no tables yet") as caught:
            async with running(app):
                pass
        assert "newel migrate up" in caught.value.fix

    async def test_another_revision_stops_the_start(self, tmp_path: Path) -> None:
        app = create_app(settings(tmp_path))
        engine = create_engine(f"sqlite:///{tmp_path}/app.db")
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            connection.execute(text("INSERT INTO alembic_version VALUES ('0007')"))
        engine.dispose()
        with pytest.raises(ConfigurationError, match="0007"):
            async with running(app):
                pass

    async def test_it_starts_before_its_database_and_is_not_ready(self, tmp_path: Path) -> None:
        nowhere = "postgresql+asyncpg://nobody@127.0.0.1:9/none"
        app = create_app(settings(tmp_path, database_url=nowhere))
        async with running(app) as client:
            assert (await client.get("/health")).status_code == 200
            answer = await client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"]["status"] == "failed"

    async def test_ready_when_the_database_is(self, tmp_path: Path) -> None:
        async with running(create_app(settings(tmp_path))) as client:
            assert (await client.get("/ready")).json()["status"] == "ok"


class TestDocs:
    async def test_they_are_where_the_settings_say(self, tmp_path: Path) -> None:
        app = create_app(
            settings(tmp_path, service_name="shop", docs_url="/d"),
            a_module(description="All things"),
            description="Sells things.",
            version="3.1.4",
        )
        async with running(app) as client:
            schema = (await client.get("/api/openapi.json")).json()
            assert (await client.get("/d")).status_code == 200
            assert (await client.get("/api/redoc")).status_code == 200
        assert schema["info"] == {
            "title": "shop",
            "description": "Sells things.",
            "version": "3.1.4",
        }
        assert schema["tags"] == [{"name": "things", "description": "All things"}]

    async def test_the_bearer_scheme_knows_the_log_in(self, tmp_path: Path) -> None:
        app = create_app(settings(tmp_path, api_prefix="/v9"), a_module())
        schema = app.openapi()
        scheme = schema["components"]["securitySchemes"]["BearerAuth"]
        assert scheme["flows"]["password"]["tokenUrl"] == "/v9/auth/login"
        assert schema["paths"]["/v9/things"]["get"]["security"] == [{"BearerAuth": []}]

    async def test_operation_ids_are_the_functions_names(self, tmp_path: Path) -> None:
        schema = create_app(settings(tmp_path), a_module()).openapi()
        assert schema["paths"]["/api/v1/things"]["get"]["operationId"] == "list_things"

    async def test_they_are_off_in_production(self, tmp_path: Path) -> None:
        app = create_app(settings(tmp_path, environment="production"))
        async with running(app) as client:
            for path in ("/api/docs", "/api/redoc", "/api/openapi.json"):
                assert (await client.get(path)).status_code == 404


async def test_middleware_is_a_list_that_can_be_filtered(tmp_path: Path) -> None:
    values = settings(tmp_path)
    chain = [found for found in default_middleware(values) if found.cls is not RequestContext]
    async with running(create_app(values, middleware=chain)) as client:
        assert "x-request-id" not in (await client.get("/health")).headers
    async with running(create_app(values)) as client:
        assert "x-request-id" in (await client.get("/health")).headers


async def test_the_api_limit_counts_every_caller_alone(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_limit="2/minute"), a_module())
    async with running(app) as client:
        answers = [await client.get("/api/v1/things/open") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].headers["ratelimit-policy"]
        assert int(answers[2].headers["retry-after"]) >= 1
        named = {"Authorization": "Bearer x"}
        assert (await client.get("/api/v1/things", headers=named)).status_code == 200


async def test_a_body_above_the_limit_is_413(tmp_path: Path) -> None:
    async with running(create_app(settings(tmp_path, max_body_bytes=10), a_module())) as client:
        answer = await client.post("/api/v1/things", content=b"x" * 11)
    assert answer.status_code in {405, 413}
