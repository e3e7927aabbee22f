"""``newel.concurrency``: an ETag goes out, If-Match comes in, and a stale one changes nothing."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx2
import pytest
from anyio import to_thread
from asgi_lifespan import LifespanManager
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sample_accounts import SECRET
from sample_entities import Measure
from sample_routes import problem_of

from newel import problems
from newel.app import create_app
from newel.auth import public
from newel.clock import utc_now
from newel.concurrency import IfMatch, Tagged, Versions, check_version, etag, read_if_match
from newel.errors import BadRequest, PreconditionFailed
from newel.ids import uuid7
from newel.modules import Module
from newel.repository import Repository
from newel.schemas import EntityRead, InputModel
from newel.settings import Settings
from newel.testing import StatementsOf

PRESENT = 3


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    problems.install(app)
    problems.document(app)

    @app.patch("/agents/{agent_id}")
    async def update(agent_id: int, if_match: IfMatch) -> str:
        check_version(PRESENT, if_match)
        return "changed"

    with TestClient(app) as client:
        yield client


def change(client: TestClient, if_match: str | None) -> Any:
    headers = {} if if_match is None else {"If-Match": if_match}
    return client.patch("/agents/1", headers=headers)


@pytest.mark.parametrize(
    "if_match",
    [
        *(None, "*", " * ", '"3"', ' "3" ', '"2", "3"', '"2","3"', '"03"'),
        *('"3-0123456789abcdef"', '"2-0123456789abcdef", "3-fedcba9876543210"'),
    ],
)
def test_a_change_of_the_present_version_goes_through(
    client: TestClient, if_match: str | None
) -> None:
    assert change(client, if_match).json() == "changed"


@pytest.mark.parametrize(
    "if_match",
    ['"2"', '"4"', '"1", "2"', '"0"', '"999999999999999999"', '"2-3333333333333333"'],
)
def test_a_change_of_another_version_is_412(client: TestClient, if_match: str) -> None:
    assert problem_of(change(client, if_match))["error"] == "precondition_failed"


@pytest.mark.parametrize(
    "if_match",
    [
        *("", "3", "'3'", 'W/"3"', '"3', '3"', '"-3"', '"3.0"', '"x"', '""', '"3";', '"3",,"4"'),
        *('"3-"', '"3-x"', '"3-012345"', '"-0123456789abcdef"', '"3-0123456789ABCDEF"'),
        *('"3" "4"', "**", '*, "3"', '"' + "9" * 19 + '"', '"٣"'.encode()),
    ],
    ids=ascii,
)
def test_what_is_no_version_is_400(client: TestClient, if_match: Any) -> None:
    assert problem_of(change(client, if_match))["error"] == "bad_request"


def test_an_endless_header_is_refused(client: TestClient) -> None:
    response = change(client, ",".join(['"3"'] * 1000))

    assert problem_of(response)["errors"][0]["pointer"] == "header/If-Match"


def test_an_answer_says_its_version_and_where_the_new_is() -> None:
    app = FastAPI()
    present = EntityRead(id=uuid7(), created_at=utc_now(), updated_at=utc_now(), version=PRESENT)

    @app.get("/agents/{agent_id}")
    async def read(agent_id: UUID, tagged: Tagged) -> EntityRead:
        return tagged(present)

    @app.post("/agents", status_code=201)
    async def create(tagged: Tagged) -> EntityRead:
        return tagged.new(present)

    with TestClient(app) as client:
        made = client.post("/agents?trace=1")
        assert made.headers["Location"] == f"/agents/{present.id}"
        found = client.get(made.headers["Location"])
    assert (made.status_code, made.json()) == (201, found.json())
    assert (made.headers["ETag"], found.headers["ETag"]) == ('"3"', '"3"')
    assert "Location" not in found.headers


def test_where_the_new_is_can_be_asked_for_whatever_its_path_says() -> None:
    app = FastAPI()
    present = EntityRead(id=uuid7(), created_at=utc_now(), updated_at=utc_now(), version=PRESENT)

    @app.post("/{group}/agents", status_code=201)
    async def create(group: str, tagged: Tagged) -> EntityRead:
        return tagged.new(present)

    with TestClient(app) as client:
        made = client.post("/%E6%9D%B1 %3F%23/agents")
    assert made.headers["Location"] == f"/%E6%9D%B1%20%3F%23/agents/{present.id}"


def read(if_match: str) -> Versions:
    return asyncio.run(read_if_match(if_match))


def test_no_thread_is_needed_to_read_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread for a header costs more than the whole of what it is read for."""
    started: list[object] = []

    async def run_sync(function: Any, *_: object, **__: object) -> object:
        started.append(function)
        return function()

    monkeypatch.setattr(to_thread, "run_sync", run_sync)

    assert change(client, '"3"').status_code == 200
    assert started == []


def test_an_etag_is_read_back_as_its_version() -> None:
    assert etag(3) == '"3"'
    assert read(etag(3)) == (3,)


@given(version=st.integers(0, 10**18 - 1), other=st.integers(0, 10**18 - 1))
def test_exactly_the_same_version_matches(version: int, other: int) -> None:
    if_match = read(etag(version))

    check_version(version, if_match)
    if version != other:
        with pytest.raises(PreconditionFailed):
            check_version(other, if_match)


@given(text=st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text)
    except BadRequest:
        return
    assert found == "*" or found


def test_openapi_says_what_the_header_can_answer(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/agents/{agent_id}"]["patch"]

    assert {"400", "412"} <= set(operation["responses"])
    [parameter] = [p for p in operation["parameters"] if p["in"] == "header"]
    assert (parameter["name"], parameter["required"]) == ("If-Match", False)


@pytest.mark.parametrize("if_match", ["*", '"3"', '"2", "3"', '"2","3"', "", "null", "3", 'W/"3"'])
def test_openapi_says_which_headers_are_accepted(client: TestClient, if_match: str) -> None:
    [operation] = client.get("/openapi.json").json()["paths"]["/agents/{agent_id}"].values()
    [documented] = [p["schema"] for p in operation["parameters"] if p["name"] == "If-Match"]

    assert documented["type"] == "string"
    is_documented = re.search(documented["pattern"], if_match) is not None
    assert (change(client, if_match).status_code != 400) is is_documented


# ------------------------------------------------------------------- many writers of one real row


class Measures(Repository[Measure]):
    entity = Measure


class MeasureRead(EntityRead):
    label: str
    count: int


class MeasureReplace(InputModel):
    count: int


MeasuresDep = Annotated[Measures, Depends()]


def measures() -> Module:
    router = APIRouter(prefix="/measures", dependencies=[public()])

    @router.post("", status_code=201, response_model=MeasureRead)
    async def create_measure(found: MeasuresDep, tagged: Tagged) -> Measure:
        return tagged.new(await found.add(Measure(label="hits")))

    @router.get("/{measure_id}")
    async def read_measure(measure_id: UUID, found: MeasuresDep, tagged: Tagged) -> MeasureRead:
        return tagged(await found.reading(MeasureRead).get(measure_id))

    @router.put("/{measure_id}", response_model=MeasureRead)
    async def replace_measure(
        measure_id: UUID,
        data: MeasureReplace,
        found: MeasuresDep,
        if_match: IfMatch,
        tagged: Tagged,
    ) -> Measure:
        measure = await found.get(measure_id)
        check_version(measure.version, if_match)
        return tagged(await found.update(measure, data.model_dump()))

    return Module("measures", routers=[router])


@asynccontextmanager
async def served(database_url: str, folder: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of an application that shares nothing with others but its database."""
    folder.joinpath("migrations").mkdir(parents=True)
    settings = Settings(
        _env_file=None,
        secret_key=SECRET,
        environment="test",
        database_url=database_url,
        migrations=folder / "migrations",
    )
    app = create_app(settings, measures())
    async with LifespanManager(app):
        yield httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="https://test", timeout=60
        )


@pytest.fixture
async def two(database_url: str, tmp_path: Path) -> AsyncGenerator[Sequence[httpx2.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(served(database_url, tmp_path / name))
            for name in ("first", "second")
        ]


async def count_up(client: httpx2.AsyncClient, url: str) -> int:
    """Read the count and write one more; return the status."""
    read = await client.get(url)
    headers = {"If-Match": read.headers["etag"]}
    more = {"count": read.json()["count"] + 1}
    return (await client.put(url, json=more, headers=headers)).status_code


async def fifty_writers(two: Sequence[httpx2.AsyncClient]) -> tuple[int, int]:
    """Return how many of them were told 200, and the count that stands there in the end."""
    url = (await two[0].post("/api/v1/measures")).headers["location"]
    statuses = await asyncio.gather(*(count_up(two[number % 2], url) for number in range(50)))
    assert set(statuses) <= {200, 409, 412}
    return statuses.count(200), (await two[1].get(url)).json()["count"]


@pytest.mark.anyio
async def test_of_fifty_writers_each_that_is_told_so_has_counted(
    two: Sequence[httpx2.AsyncClient],
) -> None:
    told, counted = await fifty_writers(two)
    assert 1 <= told == counted < 50


@pytest.mark.anyio
@pytest.mark.parametrize(("guarded", "statuses"), [(True, [200, 412]), (False, [200, 200])])
async def test_without_if_match_a_count_is_lost(
    two: Sequence[httpx2.AsyncClient], *, guarded: bool, statuses: list[int]
) -> None:
    """Both have read before one writes."""
    url = (await two[0].post("/api/v1/measures")).headers["location"]
    etags = [(await client.get(url)).headers["etag"] for client in two]
    told: list[int] = []
    for client, tag in zip(two, etags, strict=True):
        headers = {"If-Match": tag} if guarded else {}
        told.append((await client.put(url, json={"count": 1}, headers=headers)).status_code)
    assert told == statuses
    assert (await two[1].get(url)).json()["count"] == 1


@pytest.mark.anyio
async def test_what_the_client_has_costs_no_more_statements(
    two: Sequence[httpx2.AsyncClient], statements_of: StatementsOf
) -> None:
    client = two[0]
    url = (await client.post("/api/v1/measures")).headers["location"]
    known = {"If-None-Match": (await client.get(url)).headers["etag"]}
    assert (await client.get(url, headers=known)).status_code == 304
    whole, none = [len(await statements_of(client.get(url, headers=h))) for h in ({}, known)]
    assert (whole, none) == (1, 1)
