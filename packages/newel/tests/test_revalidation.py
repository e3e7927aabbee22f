"""What a client has is not sent again, and what is not the same any more is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import Depends, FastAPI, Response
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse

from newel import problems
from newel.clock import utc_now
from newel.concurrency import Tagged
from newel.ids import uuid7
from newel.middleware import default_middleware
from newel.pages import Page
from newel.revalidation import NotModified, is_known
from newel.schemas import EntityRead
from newel.settings import Settings


class AgentRead(EntityRead):
    name: str
    tool_names: list[str]


class Shelf:
    """What the service has."""

    def __init__(self) -> None:
        now = utc_now()
        self.agent = AgentRead(
            id=uuid7(), created_at=now, updated_at=now, version=3, name="one", tool_names=["saw"]
        )


async def said(response: Response) -> None:
    response.headers["RateLimit"] = "1"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def service(shelf: Shelf, middleware: list[Middleware]) -> FastAPI:
    app = FastAPI(middleware=middleware)
    problems.install(app)
    problems.document(app)

    @app.get("/agent", dependencies=[Depends(said)])
    async def read(tagged: Tagged) -> AgentRead:
        return tagged(shelf.agent)

    @app.put("/agent")
    async def replace(tagged: Tagged) -> AgentRead:
        return tagged(shelf.agent)

    @app.get("/agents")
    async def browse(tagged: Tagged) -> Page[AgentRead]:
        page = Page(items=[shelf.agent], total=1, page=1, page_size=20, pages=1)
        return tagged(page)

    @app.get("/plain")
    async def plain() -> str:
        return "no tag"

    @app.get("/own")
    async def own(response: Response) -> str:
        response.headers.update({"ETag": '"mine"', "Cache-Control": "public, max-age=60"})
        return "mine"

    @app.get("/parts")
    async def parts() -> Response:
        chunks = (str(number) for number in range(3))
        return StreamingResponse(chunks, headers={"ETag": '"3"'})

    @app.get("/gone")
    async def gone() -> Response:
        return PlainTextResponse("gone", status_code=410, headers={"ETag": '"3"'})

    return app


@pytest.fixture
def client(shelf: Shelf) -> Iterator[TestClient]:
    with TestClient(service(shelf, [Middleware(NotModified)])) as found:
        yield found


def asked(client: TestClient, path: str, *tags: str) -> tuple[int, bytes]:
    answer = client.get(path, headers=[("If-None-Match", tag) for tag in tags])
    return answer.status_code, answer.content


def test_what_the_client_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/agent")
    tag = first.headers["etag"]
    assert re.fullmatch(r'"3-[0-9a-f]{16}"', tag)
    assert first.headers["cache-control"] == "private, no-cache"

    again = client.get("/agent", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert again.headers["cache-control"] == "private, no-cache"
    assert again.headers["ratelimit"] == "1", "what the answer says otherwise is said, too"
    assert not {"content-length", "content-type"} & set(again.headers)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"x",W/{}', " {} ", "*", " * "])
def test_each_way_to_name_it(client: TestClient, form: str) -> None:
    tag = client.get("/agent").headers["etag"]
    assert asked(client, "/agent", form.format(tag)) == (304, b"")


def test_it_may_be_named_in_a_second_line(client: TestClient) -> None:
    tag = client.get("/agent").headers["etag"]
    assert asked(client, "/agent", '"x"', tag) == (304, b"")


@pytest.mark.parametrize("tag", ['"3"', '"4"', '"x"', "3", "", '"', "W/", ",,", '"**"', "x" * 900])
def test_what_names_another_or_nothing_gets_it_whole(client: TestClient, tag: str) -> None:
    status, body = asked(client, "/agent", tag)
    assert (status, b'"name":"one"' in body) == (200, True)


def test_another_version_and_the_same_version_shown_otherwise_are_new(
    client: TestClient, shelf: Shelf
) -> None:
    tag = client.get("/agent").headers["etag"]
    shelf.agent.tool_names = ["saw", "axe"]  # rows of others: this one's version stays
    assert asked(client, "/agent", tag)[0] == 200
    shelf.agent.tool_names = ["saw"]
    assert asked(client, "/agent", tag)[0] == 304
    shelf.agent.version = 4
    assert asked(client, "/agent", tag)[0] == 200


def test_a_page_is_told_by_its_bytes(client: TestClient, shelf: Shelf) -> None:
    tag = client.get("/agents").headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{16}"', tag)
    assert asked(client, "/agents", tag) == (304, b"")
    shelf.agent.name = "two"
    assert asked(client, "/agents", tag)[0] == 200


def test_a_change_is_answered_whole(client: TestClient) -> None:
    answer = client.put("/agent", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
    assert "cache-control" not in answer.headers


def test_what_has_no_tag_is_left_as_it_is(client: TestClient) -> None:
    answer = client.get("/plain", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.json()) == (200, "no tag")
    assert not {"etag", "cache-control"} & set(answer.headers)


def test_a_tag_of_the_routes_own_is_compared_as_it_is(client: TestClient) -> None:
    answer = client.get("/own", headers={"If-None-Match": '"mine"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert asked(client, "/own", '"yours"') == (200, b'"mine"')


def test_what_comes_in_parts_is_not_held_back(client: TestClient) -> None:
    answer = client.get("/parts", headers={"If-None-Match": '"3"'})
    assert (answer.status_code, answer.content) == (200, b"012")
    assert answer.headers["etag"] == '"3"'


def test_an_error_stays_one(client: TestClient) -> None:
    assert asked(client, "/gone", "*") == (410, b"gone")


def test_without_it_the_body_is_sent_each_time(shelf: Shelf) -> None:
    with TestClient(service(shelf, [])) as client:
        tag = client.get("/agent").headers["etag"]
        assert (tag, asked(client, "/agent", tag)[0]) == ('"3"', 200)


def test_it_is_among_the_default_middleware(shelf: Shelf) -> None:
    chain = default_middleware(Settings(_env_file=None, secret_key="x" * 20 + "0123456789abcdef"))
    with TestClient(service(shelf, chain)) as client:
        first = client.get("/agent")
        again = client.get("/agent", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == "private, no-cache"
        assert again.headers["x-content-type-options"] == "nosniff"
        assert client.get("/plain").headers["cache-control"] == "no-store"


def test_the_api_docs_say_it_where_it_is(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/agent", "/agents"):
        [parameter] = paths[path]["get"]["parameters"]
        assert (parameter["name"], parameter["in"]) == ("If-None-Match", "header")
        assert "content" not in paths[path]["get"]["responses"]["304"]
    for operation in (paths["/agent"]["put"], paths["/plain"]["get"]):
        assert "304" not in operation["responses"]
        assert "parameters" not in operation


def test_nothing_is_known_without_the_header() -> None:
    assert not is_known('"3"', Headers())


@pytest.mark.parametrize("tag", ['"3"', 'W/"3"'])
@pytest.mark.parametrize("asked", ['"3"', 'W/"3"', '"2", W/"3"'])
def test_a_tag_is_known_however_weak_it_is(tag: str, asked: str) -> None:
    assert is_known(tag, Headers({"if-none-match": asked}))
    assert not is_known(tag, Headers({"if-none-match": 'W/"4"'}))
