"""``newel.problems``: whatever a client sends, the answer is its mistake and never a 500."""

import json
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from fastapi import (
    FastAPI,
)
from fastapi.testclient import TestClient
from sample_routes import CANARY, application, problem_of
from starlette.types import Message


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(application(), raise_server_exceptions=False) as client:
        yield client


class TestInput:
    def test_a_refused_body_is_422_with_pointers(self, client: TestClient) -> None:
        body = problem_of(
            client.post("/agents", json={"name": "ab", "password": [CANARY], "tags": ["a", 1]})
        )

        assert (body["error"], body["title"]) == ("validation_failed", "Validation failed")
        assert {(e["pointer"], e["code"]) for e in body["errors"]} == {
            ("#/name", "string_too_short"),
            ("#/password", "string_type"),
            ("#/tags/1", "string_type"),
        }

    def test_a_missing_body_is_422(self, client: TestClient) -> None:
        body = problem_of(client.post("/agents"))

        assert [(e["pointer"], e["code"]) for e in body["errors"]] == [("#", "missing")]

    def test_refused_parameters_are_422_with_their_places(self, client: TestClient) -> None:
        client.cookies.set("theme", CANARY)
        body = problem_of(client.get("/agents/x?page=0", headers={"X-Trace": CANARY}))

        assert [e["pointer"] for e in body["errors"]] == [
            "path/agent_id",
            "query/page",
            "header/x-trace",
            "cookie/theme",
        ]

    def test_a_form_that_lacks_a_field_is_422(self, client: TestClient) -> None:
        body = problem_of(client.post("/login", data={"username": CANARY}))

        assert [e["pointer"] for e in body["errors"]] == ["#/password"]

    @pytest.mark.parametrize(
        ("path", "content", "kind"),
        [
            ("/agents", b"name=abc", "application/x-www-form-urlencoded"),
            ("/agents", b'{"name": "abc"}', "text/plain"),
            ("/agents", b'{"name": "abc"}', ""),
            ("/login", b'{"username": "abc"}', "application/json"),
            ("/files", b"abc", "image/png"),
        ],
    )
    def test_a_body_of_another_type_is_415(
        self, client: TestClient, path: str, content: bytes, kind: str
    ) -> None:
        response = client.post(path, content=content, headers={"Content-Type": kind})

        assert problem_of(response)["error"] == "unsupported_media_type"

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/merge+json"])
    def test_other_names_of_json_are_read(self, client: TestClient, kind: str) -> None:
        response = client.post(
            "/agents", content=b'{"name": "abc"}', headers={"Content-Type": kind}
        )

        assert response.status_code == 201

    def test_a_route_that_reads_bytes_is_not_415(self, client: TestClient) -> None:
        headers = {"Content-Type": "image/png"}

        assert client.post("/raw", content=b"abcd", headers=headers).json() == 4
        response = client.post("/raw", content=b"abcde", headers=headers)
        assert problem_of(response)["errors"][0]["code"] == "bytes_too_long"

    @pytest.mark.parametrize(
        "content",
        [
            *(b"{", b'{"name": "abc",}', b'{"name": "\n"}', b"abc", b'{"name": "abc"} x'),
            *(b'{"name": "\\u12"}', b"'abc'", b'{"name": ' + CANARY.encode()),
        ],
    )
    def test_malformed_json_is_400(self, client: TestClient, content: bytes) -> None:
        response = client.post(
            "/agents", content=content, headers={"Content-Type": "application/json"}
        )

        body = problem_of(response)
        assert (body["status"], body["error"]) == (400, "bad_request")
        assert body["errors"][0]["code"] == "json_invalid"

    def test_malformed_json_says_where(self, client: TestClient) -> None:
        response = client.post(
            "/agents", content=b'{"name": abc}', headers={"Content-Type": "application/json"}
        )

        assert "at character 9" in problem_of(response)["detail"]

    @pytest.mark.parametrize(
        ("content", "status"),
        [
            (b'{"name": "\\ud800abc"}', 422),
            (b'{"name": "abc", "\\ud800": 1}', 422),
            (b'{"name": "abc", "score": NaN}', 422),
            (b'{"name": "abc", "score": 1e400}', 422),
            (b'{"name": "abc", "size": 1e400}', 422),
            (b'{"name": "abc", "size": -Infinity}', 422),
            (b'{"name": "abc", "size": ' + b"9" * 4000 + b"}", 422),
            (b'{"name": "abc", "size": ' + b"9" * 10_000 + b"}", 400),
            (b"[" * 100_000, 400),
            (b"[" * 100_000 + b"]" * 100_000, 400),
            (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
            (b'{"name": "\xff\xfe"}', 400),
            (b"\xff\xfe\x00", 400),
            (b"\x00", 400),
            (b'{"name": "a\\u0000bc"}', 201),
        ],
        ids=lambda value: ascii(value[:40]) if isinstance(value, bytes) else str(value),
    )
    def test_hostile_json_is_the_clients_mistake(
        self, client: TestClient, content: bytes, status: int
    ) -> None:
        response = client.post(
            "/agents", content=content, headers={"Content-Type": "application/json"}
        )

        assert response.status_code == status
        if status != 201:
            problem_of(response)

    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("/anything", b'{"a": "\\ud800"}'),
            ("/untyped", b'{"a": "\\ud800"}'),
            ("/untyped", b'{"\\udfff": 1}'),
        ],
    )
    def test_surrogates_that_no_schema_sees_are_422_too(
        self, client: TestClient, path: str, content: bytes
    ) -> None:
        response = client.post(path, content=content, headers={"Content-Type": "application/json"})

        assert problem_of(response)["status"] == 422

    @pytest.mark.parametrize("content", [b'{"a": NaN}', b'{"a": 1e400}'])
    def test_non_finite_numbers_that_no_schema_sees_are_null(
        self, client: TestClient, content: bytes
    ) -> None:
        headers = {"Content-Type": "application/json"}
        response = client.post("/anything", content=content, headers=headers)

        assert response.json() == {"a": None}

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "raw", [b"%00", b"%ff%fe", b"%ed%a0%80", b"%", b"%zz", b"%0d%0aSet-Cookie:x", b"%f0%9f"]
    )
    async def test_odd_paths_and_queries_are_no_500(self, raw: bytes) -> None:
        text = raw.decode()
        messages = await call(application(), path=f"/text/{text}", query=b"query=" + raw)
        assert messages[0]["status"] == 200

        messages = await call(application(), path=f"/agents/{text}", query=b"page=" + raw)
        assert messages[0]["status"] == 422
        json.loads(messages[1]["body"])


async def call(
    app: FastAPI, *, path: str, query: bytes = b"", method: str = "GET"
) -> list[Message]:
    """Send one request as a server does, which decodes the path leniently; return what it sends."""
    sent: list[Message] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [],
        "client": ("192.0.2.1", 1),
        "server": ("localhost", 80),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent
