"""Two versions of an API beside each other, by path and by header; an old one says when it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, UploadFile
from pydantic import BaseModel
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs

from newel.app import create_app
from newel.auth import public, requires
from newel.errors import ConfigurationError
from newel.modules import Module
from newel.settings import Settings
from newel.versions import Version

pytestmark = pytest.mark.anyio

OLD = Version(
    "v1",
    deprecated=date(2026, 6, 1),
    sunset=date(2027, 1, 1),
    guide="https://docs.example/v2",
)
NEW = Version("v2")


class Old:
    class ThingRead(BaseModel):
        name: str


class New:
    class ThingRead(BaseModel):
        title: str


def things(version: str) -> Module:
    """Return the module of one version; both have a model and a function of the same name."""
    router = APIRouter(prefix="/things", dependencies=[public()])
    member, told, model = (
        ("name", "old", Old.ThingRead) if version == "v1" else ("title", "new", New.ThingRead)
    )

    async def read_thing(thing_id: int) -> dict[str, str]:
        return {member: f"{told} {thing_id}"}

    router.add_api_route("/{thing_id}", read_thing, response_model=model)
    if version == "v2":
        router.add_api_route("", list_things)
    return Module("things", routers=[router], versions=[version])


async def list_things() -> list[str]:
    return []


def shared() -> Module:
    router = APIRouter(dependencies=[public()])

    @router.get("/who")
    async def who() -> str:
        return "you"

    return Module("shared", routers=[router])


def application(*modules: Module, versions: Any = (OLD, NEW), **values: Any) -> FastAPI:
    settings = Settings(
        **{"_env_file": None, "secret_key": "0123456789abcdefghijklmnopqrstuvwxyz", **values}
    )
    modules = modules or (things("v1"), things("v2"), shared())
    return create_app(settings, *modules, versions=versions)


@asynccontextmanager
async def asking(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def client() -> AsyncGenerator[httpx2.AsyncClient]:
    async with asking(application()) as client:
        yield client


async def test_both_answer_side_by_side(client: httpx2.AsyncClient) -> None:
    old, new = [await client.get(f"/api/{name}/things/7") for name in ("v1", "v2")]

    assert (old.json(), new.json()) == ({"name": "old 7"}, {"title": "new 7"})
    assert (old.headers["x-api-version"], new.headers["x-api-version"]) == ("v1", "v2")


async def test_what_only_one_has_the_other_has_not(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/v2/things")).status_code == 200
    assert (await client.get("/api/v1/things")).status_code == 404


async def test_a_module_without_versions_is_part_of_each(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/v1/who")).json() == "you"
    assert (await client.get("/api/v2/who")).json() == "you"


async def test_the_header_chooses_where_the_path_does_not(client: httpx2.AsyncClient) -> None:
    for header, told in ({}, "old 7"), ({"X-API-Version": "v1"}, "old 7"):
        assert (await client.get("/api/things/7", headers=header)).json() == {"name": told}
    new = await client.get("/api/things/7?x=%20", headers={"x-api-version": "v2"})
    assert new.json() == {"title": "new 7"}
    assert new.headers["x-api-version"] == "v2"
    assert "X-API-Version" in new.headers["vary"]


@pytest.mark.parametrize("name", ["v3", "", "2", "v1, v2", "../v1", "\xe9"])
async def test_a_version_that_is_not_there(client: httpx2.AsyncClient, name: str) -> None:
    header = [(b"x-api-version", name.encode("latin-1"))]
    response = await client.get("/api/things/7", headers=header)

    assert response.status_code == 400
    assert response.json()["detail"].endswith("there are v1, v2.")
    assert response.headers["x-request-id"]


async def test_path_and_header_that_differ(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.get("/api/v1/things/7", headers={"X-API-Version": name})
        for name in ("v1", "v2", "v9")
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 400]


async def test_an_old_one_says_when_it_ends(client: httpx2.AsyncClient) -> None:
    for path, status in ("/api/v1/things/7", 200), ("/api/things/x", 422):
        headers = (response := await client.get(path)).headers
        assert response.status_code == status
        assert headers["deprecation"] == "@1780272000"  # RFC 9745: 2026-06-01
        assert headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"  # RFC 8594
        assert headers["link"] == '<https://docs.example/v2>; rel="deprecation"; type="text/html"'
    assert "deprecation" not in (await client.get("/api/v2/things/7")).headers


async def test_an_old_one_says_so_to_who_may_not_upload() -> None:
    """They are refused around the route, before their body is read."""
    router = APIRouter()

    @router.post("/files", dependencies=[requires()])
    async def upload(file: UploadFile) -> str | None:
        return file.filename

    async with asking(application(Module("files", routers=[router]))) as client:
        answer = await client.post("/api/files", files={"file": b"x"})
    assert (answer.status_code, answer.headers["x-api-version"]) == (401, "v1")
    assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"


async def test_what_has_no_version_stays_as_it_is(client: httpx2.AsyncClient) -> None:
    for path in "/health", "/api/docs", "/api/openapi.json":
        response = await client.get(path)
        assert response.status_code == 200
        assert "x-api-version" not in response.headers
    assert (await client.get("/apix/things/7")).status_code == 404


async def test_what_was_mounted_or_added_later_answers() -> None:
    app = application()
    app.add_api_route("/api/later", list_things)
    app.mount("/api/static", PlainTextResponse("mounted"))
    async with asking(app) as client:
        assert (await client.get("/api/later")).json() == []
        assert (await client.get("/api/static/a")).text == "mounted"


async def test_what_is_counted_and_logged_is_the_route_that_answered() -> None:
    app = application()
    async with asking(app) as client:
        with capture_logs() as logs:
            await client.get("/api/nothing/here")
        await client.get("/api/things/7")

    assert ("GET", "/api/v1/things/{thing_id}", 200) in app.state.metrics.series
    assert logs[-1]["route"] == "/api/v1/nothing/here"


async def test_below_a_root_path() -> None:
    transport = httpx2.ASGITransport(application(), root_path="/proxy")
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/proxy/api/things/7")).json() == {"name": "old 7"}
        assert (await client.get("/proxy/api/v2/things/7")).json() == {"title": "new 7"}


class TestDocuments:
    async def test_each_version_has_its_own(self, client: httpx2.AsyncClient) -> None:
        old, new = [(await client.get(f"/api/{v}/openapi.json")).json() for v in ("v1", "v2")]

        assert set(old["paths"]) == {"/api/v1/things/{thing_id}", "/api/v1/who"}
        assert set(new["paths"]) == {
            "/api/v2/things/{thing_id}",
            "/api/v2/things",
            "/api/v2/who",
        }
        assert list(old["components"]["schemas"]["ThingRead"]["properties"]) == ["name"]
        assert list(new["components"]["schemas"]["ThingRead"]["properties"]) == ["title"]
        reads = [
            each["paths"][f"/api/{v}/things/{{thing_id}}"]["get"]
            for v, each in (("v1", old), ("v2", new))
        ]
        assert [read["operationId"] for read in reads] == ["read_thing", "read_thing"]
        assert [read.get("deprecated", False) for read in reads] == [True, False]
        assert "404" in reads[0]["responses"], "the errors are documented here, too"

    async def test_the_whole_has_every_operation_once(self, client: httpx2.AsyncClient) -> None:
        whole = (await client.get("/api/openapi.json")).json()

        ids = [
            operation["operationId"]
            for path in whole["paths"].values()
            for operation in path.values()
        ]
        assert {"read_thing_v1", "read_thing_v2", "who_v1", "who_v2"} <= set(ids)
        assert len(ids) == len(set(ids))

    @pytest.mark.parametrize("page", ["docs", "redoc"])
    async def test_a_page_shows_it(self, client: httpx2.AsyncClient, page: str) -> None:
        response = await client.get(f"/api/v2/{page}")

        assert response.status_code == 200
        assert "/api/v2/openapi.json" in response.text
        assert "cdn.jsdelivr.net" in response.headers["content-security-policy"]

    async def test_not_in_production(self) -> None:
        async with asking(application(environment="production")) as client:
            for name in "openapi.json", "docs", "redoc":
                assert (await client.get(f"/api/v1/{name}")).status_code == 404


class TestMistakes:
    def test_a_module_of_an_unknown_version(self) -> None:
        with pytest.raises(ConfigurationError, match="things is of the version v2"):
            application(things("v2"), versions=[OLD])

    def test_a_module_of_a_version_where_there_are_none(self) -> None:
        with pytest.raises(ConfigurationError, match="things is of the version v1"):
            application(things("v1"), versions=[])

    def test_one_name_twice(self) -> None:
        with pytest.raises(ConfigurationError, match="one name"):
            application(shared(), versions=[NEW, NEW])

    @pytest.mark.parametrize("name", ["1", "V1", "v", "v1/x", "beta"])
    def test_a_name_that_is_no_version(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="is no version"):
            Version(name)

    @pytest.mark.parametrize("deprecated", [None, date(2027, 1, 2)])
    def test_a_sunset_before_the_deprecation(self, deprecated: date | None) -> None:
        with pytest.raises(ConfigurationError, match="before it is deprecated"):
            Version("v1", deprecated=deprecated, sunset=date(2027, 1, 1))


@pytest.mark.parametrize("prefix", ["/api", "/api/v1", "/api/v9/"])
async def test_the_prefix_may_name_a_version_or_not(prefix: str) -> None:
    async with asking(application(api_prefix=prefix)) as client:
        assert (await client.get("/api/v2/things/7")).status_code == 200


async def test_without_versions_nothing_changes() -> None:
    async with asking(application(shared(), versions=())) as client:
        response = await client.get("/api/v1/who", headers={"X-API-Version": "v9"})
        assert response.status_code == 200
        assert "x-api-version" not in response.headers
        schema = (await client.get("/api/openapi.json")).json()
        assert schema["paths"]["/api/v1/who"]["get"]["operationId"] == "who"
