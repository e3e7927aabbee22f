"""``newel.concurrency``: an ETag goes out, If-Match comes in, and a stale one changes nothing."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sample_routes import problem_of

from newel import problems
from newel.clock import utc_now
from newel.concurrency import IfMatch, Tagged, check_version, etag, read_if_match
from newel.errors import BadRequest, PreconditionFailed
from newel.ids import uuid7
from newel.schemas import EntityRead

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
    "if_match", [None, "*", " * ", '"3"', ' "3" ', '"2", "3"', '"2","3"', '"03"']
)
def test_a_change_of_the_present_version_goes_through(
    client: TestClient, if_match: str | None
) -> None:
    assert change(client, if_match).json() == "changed"


@pytest.mark.parametrize("if_match", ['"2"', '"4"', '"1", "2"', '"0"', '"999999999999999999"'])
def test_a_change_of_another_version_is_412(client: TestClient, if_match: str) -> None:
    assert problem_of(change(client, if_match))["error"] == "precondition_failed"


@pytest.mark.parametrize(
    "if_match",
    [
        *("", "3", "'3'", 'W/"3"', '"3', '3"', '"-3"', '"3.0"', '"x"', '""', '"3";', '"3",,"4"'),
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


def test_an_etag_is_read_back_as_its_version() -> None:
    assert etag(3) == '"3"'
    assert read_if_match(etag(3)) == (3,)


@given(version=st.integers(0, 10**18 - 1), other=st.integers(0, 10**18 - 1))
def test_exactly_the_same_version_matches(version: int, other: int) -> None:
    if_match = read_if_match(etag(version))

    check_version(version, if_match)
    if version != other:
        with pytest.raises(PreconditionFailed):
            check_version(other, if_match)


@given(text=st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_if_match(text)
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
