"""``newel.middleware``: what every request passes through, from the outside."""

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.testclient import TestClient
from sample_routes import CANARY, application, problem_of
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from structlog.testing import capture_logs

from newel import context, problems
from newel.admission import Admission, Places
from newel.errors import NotFound
from newel.metrics import RequestMetrics
from newel.middleware import (
    BodyLimit,
    Deadline,
    RequestContext,
    SecurityHeaders,
    UnexpectedErrors,
    default_middleware,
)
from newel.principal import Principal
from newel.settings import Settings

ORIGIN = "https://front.example"
SOON = 0.02


def settings(**values: Any) -> Settings:
    values.setdefault("secret_key", "k3Jd9sLq0aZx7Vb2Nm5Rt8Yw1Ec4Ui6Op")
    return Settings(_env_file=None, **values)


def wrapped(
    *, leave_out: type | None = None, routes: APIRouter | None = None, **values: Any
) -> FastAPI:
    """Return an application in the default middleware, without one of them when asked."""
    chain = [m for m in default_middleware(settings(**values)) if m.cls is not leave_out]
    app = FastAPI(
        middleware=chain, docs_url="/api/docs", redoc_url="/api/redoc", openapi_url="/api/o.json"
    )
    problems.install(app)
    app.include_router(application().router, prefix="/api/v1")
    for path, endpoint in ENDPOINTS.items():
        app.add_api_route(path, endpoint, methods=["GET", "HEAD", "POST"])
    if routes is not None:
        app.include_router(routes)
    return app


async def crash() -> None:
    raise RuntimeError(CANARY)


async def empty() -> Response:
    return Response(b"not allowed here", status_code=204, media_type="text/plain")


async def not_modified() -> Response:
    return PlainTextResponse("not allowed here", status_code=304, headers={"ETag": '"1"'})


async def own_headers() -> Response:
    return Response(headers={"Cache-Control": "max-age=60", "X-Frame-Options": "SAMEORIGIN"})


async def request_id() -> str | None:
    return context.request_id.get()


async def time_left() -> float | None:
    return context.remaining_seconds()


async def logged_in(request: Request) -> None:
    request.state.principal = Principal(id=UUID(int=7))


async def whole_body(request: Request) -> int:
    return len(await request.body())


async def forever() -> None:
    await asyncio.Event().wait()


ENDPOINTS: dict[str, Any] = {
    "/crash": crash,
    "/empty": empty,
    "/not-modified": not_modified,
    "/own-headers": own_headers,
    "/request-id": request_id,
    "/time-left": time_left,
    "/logged-in": logged_in,
    "/whole-body": whole_body,
    "/forever": forever,
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Unconfigured, structlog draws a trace with the values of all variables: seconds of work."""
    with capture_logs():
        yield


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(wrapped(cors_origins=(ORIGIN,), cors_credentials=True)) as client:
        yield client


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@contextmanager
def served(app: FastAPI) -> Iterator[http.client.HTTPConnection]:
    """Serve ``app`` with uvicorn on a free port; give one connection that stays open."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    server.is_up.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()
        server.should_exit = True
        thread.join()


async def run(app: Any, **scope: Any) -> list[Message]:
    """Send one request to any ASGI application; return the messages it sends."""
    sent: list[Message] = []
    whole: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [],
        "client": ("192.0.2.1", 1),
        **scope,
    }

    incoming = [{"type": "http.request", "body": b""}]

    async def receive() -> Message:
        if not incoming:
            await asyncio.Event().wait()  # the client stays
        return incoming.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(whole, receive, send)
    return sent


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop that jumps over every wait: minutes pass at once, on a busy machine as well."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        select = self._selector.select

        def jump(timeout: float | None = None) -> Any:
            self.seconds += timeout or 0.0
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self.seconds


def run_in_virtual_time(app: Any) -> list[Message]:
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(run(app))


def lines(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "request"]


class TestRequestContext:
    def test_every_answer_has_a_new_id_which_the_route_sees(self, client: TestClient) -> None:
        first, second = client.get("/request-id"), client.get("/request-id")

        assert first.json() == first.headers["x-request-id"]
        assert first.json() != second.json()
        assert context.request_id.get() is None

    @pytest.mark.parametrize("path", ["/request-id", "/nowhere", "/crash", "/api/v1/text/x"])
    def test_a_harmless_id_of_the_client_is_kept(self, client: TestClient, path: str) -> None:
        response = client.get(path, headers={"X-Request-ID": "trace-0123456789"})

        assert response.headers.get_list("x-request-id") == ["trace-0123456789"]
        if response.status_code >= 400:
            assert problem_of(response)["request_id"] == "trace-0123456789"

    @pytest.mark.parametrize(
        "offered", ["short", "a" * 65, "with space", "x;y=1234567", "\xe9" * 9]
    )
    def test_another_id_of_the_client_is_replaced(self, client: TestClient, offered: str) -> None:
        headers = {"X-Request-ID": offered.encode("latin-1")}

        assert client.get("/request-id", headers=headers).headers["x-request-id"] != offered

    def test_writes_one_line_with_the_route_and_not_the_path(self, client: TestClient) -> None:
        with capture_logs() as logs:
            response = client.get(f"/api/v1/agents/{UUID(int=5)}?page=3")

        [line] = logs
        assert line.pop("duration_ms") > 0
        assert line == {
            "event": "request",
            "log_level": "info",
            "request_id": response.headers["x-request-id"],
            "method": "GET",
            "route": "/api/v1/agents/{agent_id}",
            "status": 200,
            "client_ip": "unknown",
            "user_id": None,
        }

    def test_names_the_user_once_a_principal_is_known(self, client: TestClient) -> None:
        with capture_logs() as logs:
            client.get("/logged-in")

        assert lines(logs)[0]["user_id"] == str(UUID(int=7))

    def test_an_unknown_path_cannot_forge_a_line(self, client: TestClient) -> None:
        with capture_logs() as logs:
            client.get("/a%0ab%1b[31m" + "x" * 1000)

        route = lines(logs)[0]["route"]
        assert route.startswith("/a%0Ab%1B%5B31m")
        assert len(route) < 300

    def test_who_finds_no_place_is_counted_and_has_a_line_without_the_path(self) -> None:
        counted = RequestMetrics()
        full = RequestContext(Admission(wrapped(), Places(0)), metrics=counted)
        with capture_logs() as logs, TestClient(full) as client:
            assert client.get("/secret-0190c5a1e0f27c3b8a5d2f4e6b7c8d9e").status_code == 503

        [line] = lines(logs)
        assert (line["status"], line["route"]) == (503, None)
        assert list(counted.series) == [("GET", "unmatched", 503)]

    @pytest.mark.parametrize(
        ("peer", "forwarded", "seen"),
        [
            ("10.0.0.9", "203.0.113.7", "203.0.113.7"),
            ("192.0.2.9", "203.0.113.7", "192.0.2.9"),
        ],
        ids=["a trusted proxy", "anyone else"],
    )
    def test_believes_the_address_that_a_trusted_proxy_says(
        self, peer: str, forwarded: str, seen: str
    ) -> None:
        app = wrapped(trusted_proxies=("10.0.0.0/8",))
        with capture_logs() as logs, TestClient(app, client=(peer, 1)) as client:
            client.get("/request-id", headers={"X-Forwarded-For": forwarded})

        assert lines(logs)[0]["client_ip"] == seen

    @pytest.mark.parametrize(
        ("path", "status"),
        [("/nowhere", 404), ("/crash", 500), ("/api/v1/agents/x", 422), ("/empty", 204)],
    )
    def test_the_line_has_the_status(self, client: TestClient, path: str, status: int) -> None:
        with capture_logs() as logs:
            client.get(path)

        assert [line["status"] for line in lines(logs)] == [status]

    @pytest.mark.anyio
    async def test_an_error_that_nothing_caught_is_written_as_500_and_goes_on(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError(CANARY)

        with capture_logs() as logs, pytest.raises(RuntimeError):
            await run(RequestContext(app))

        assert [line["status"] for line in logs] == [500]
        assert context.request_id.get() is None

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/empty", 204),
            ("GET", "/not-modified", 304),
            ("HEAD", "/nowhere", 404),
            ("HEAD", "/crash", 500),
            ("HEAD", "/request-id", 200),
        ],
    )
    def test_answers_that_have_no_body_have_none_on_the_wire(
        self, method: str, path: str, status: int
    ) -> None:
        with served(wrapped()) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            assert (response.status, response.read()) == (status, b"")
            assert response.getheader("x-request-id")
            if method == "HEAD":
                assert int(response.getheader("content-length", "0")) > 0
            # A body nobody expects would be read as the beginning of this answer.
            connection.request("GET", "/request-id")
            assert connection.getresponse().status == 200

    @pytest.mark.anyio
    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    async def test_no_body_is_left_to_the_server_to_drop(self, method: str, status: int) -> None:
        app = RequestContext(Response(b"body", status_code=status, headers={"content-length": "4"}))
        start, body = await run(app, method=method)

        assert body["body"] == b""
        assert ((b"content-length", b"4") in start["headers"]) is (method == "HEAD")

    @pytest.mark.anyio
    async def test_lets_the_lifespan_through(self) -> None:
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["type"])

        everything: Any = app
        for middleware in reversed(default_middleware(settings(cors_origins=(ORIGIN,)))):
            everything = middleware.cls(everything, *middleware.args, **middleware.kwargs)
        await everything({"type": "lifespan"}, None, None)

        assert seen == ["lifespan"]


class TestRouteTemplate:
    """FastAPI keeps the prefix of included routers in the scope under names that are not public."""

    def test_holds_every_prefix_of_every_kind_of_route(self) -> None:
        found: list[str | None] = []

        class Noting:
            def __init__(self, app: Any) -> None:
                self.app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await self.app(scope, receive, send)
                if scope["type"] == "http":
                    found.append(context.route_template(scope))

        inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer/{tenant}")
        inner.add_api_route("/{number}", request_id)
        inner.add_route("/inner/plain/{name}", lambda _: PlainTextResponse(""))
        outer.include_router(inner)
        app = FastAPI(middleware=[Middleware(Noting)])
        app.include_router(outer, prefix="/v1")
        app.add_api_route("/direct/{number}", request_id)
        client = TestClient(app, raise_server_exceptions=False)
        client.get("/v1/outer/t/inner/1")
        client.post("/v1/outer/t/inner/1")
        client.get("/v1/outer/t/inner/plain/x")
        client.get("/direct/1")
        client.get("/nowhere")

        template = "/v1/outer/{tenant}/inner/{number}"
        plain = "/v1/outer/{tenant}/inner/plain/{name}"
        assert found == [template, template, plain, "/direct/{number}", None]


class TestSecurityHeaders:
    @pytest.mark.parametrize("path", ["/request-id", "/nowhere", "/crash", "/empty"])
    def test_every_answer_makes_the_browser_careful(self, client: TestClient, path: str) -> None:
        headers = client.get(path).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; frame-ancestors 'none'"
        )
        assert headers["cache-control"] == "no-store"

    def test_what_an_answer_says_itself_wins(self, client: TestClient) -> None:
        headers = client.get("/own-headers").headers

        assert headers.get_list("cache-control") == ["max-age=60"]
        assert headers.get_list("x-frame-options") == ["SAMEORIGIN"]

    @pytest.mark.parametrize(
        ("environment", "present"), [("production", True), ("development", False)]
    )
    def test_only_production_insists_on_https(self, environment: str, *, present: bool) -> None:
        headers = TestClient(wrapped(environment=environment)).get("/request-id").headers

        assert ("strict-transport-security" in headers) is present

    def test_without_it_there_are_none(self) -> None:
        headers = TestClient(wrapped(leave_out=SecurityHeaders)).get("/request-id").headers

        assert "x-frame-options" not in headers

    @pytest.mark.parametrize("root_path", ["", "/behind"])
    @pytest.mark.parametrize("path", ["/api/docs", "/api/redoc"])
    def test_the_docs_pages_may_load_all_that_they_ask_for(self, path: str, root_path: str) -> None:
        with TestClient(wrapped(), root_path=root_path) as client:
            response = client.get(f"{root_path}{path}")
        policy = policy_of(response)

        page = Page()
        page.feed(response.text)
        assert page.loaded, "the page loads nothing: it has changed"
        for directive, url in page.loaded:
            assert allows(policy[directive], url), f"{directive} {url}"
        assert "'unsafe-inline'" in policy["style-src"]
        assert ("'unsafe-inline'" in policy["script-src"]) is page.has_inline_script
        assert policy["connect-src"] == ["'self'"]

    def test_negative_control_the_policy_of_other_answers_allows_no_script(self) -> None:
        policy = policy_of(TestClient(wrapped()).get("/nowhere"))

        assert "script-src" not in policy
        assert not allows(policy["default-src"], "https://cdn.jsdelivr.net/npm/x.js")

    def test_a_docs_policy_allows_no_other_package_of_the_same_host(self) -> None:
        policy = policy_of(TestClient(wrapped()).get("/api/docs"))

        assert not allows(policy["script-src"], "https://cdn.jsdelivr.net/npm/evil/x.js")


def policy_of(response: Any) -> dict[str, list[str]]:
    parts = response.headers["content-security-policy"].split(";")
    return {name: sources for name, *sources in map(str.split, parts)}


def allows(sources: list[str], url: str) -> bool:
    """Tell whether a source list allows a URL; a path that ends with a slash is a prefix."""
    return any(
        url == source
        or (source.endswith("/") and url.startswith(source))
        or (re.fullmatch(r"https://[^/]+", source) and url.startswith(f"{source}/"))
        for source in sources
    )


class Page(HTMLParser):
    """Collects what a page loads, by the directive that governs it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str]] = []
        self.has_inline_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "script" and "src" in values:
            self.loaded.append(("script-src", values["src"]))
        elif tag == "script":
            self.has_inline_script = True
        elif tag == "link":
            kind = "style-src" if values["rel"] == "stylesheet" else "img-src"
            self.loaded.append((kind, values["href"]))


class TestCORS:
    @pytest.mark.parametrize(
        ("path", "status"),
        [("/request-id", 200), ("/nowhere", 404), ("/crash", 500), ("/api/v1/agents/x", 422)],
    )
    def test_a_listed_origin_may_read_every_answer(
        self, client: TestClient, path: str, status: int
    ) -> None:
        response = client.get(path, headers={"Origin": ORIGIN})

        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
        exposed = set(response.headers["access-control-expose-headers"].split(", "))
        assert exposed >= {"X-Request-ID", "ETag", "RateLimit", "Location", "Retry-After"}
        assert exposed >= {"Content-Disposition", "Content-Range", "Link", "X-API-Version"}

    @pytest.mark.parametrize(
        "names",
        ["Range, If-Range", "Last-Event-ID", "X-API-Version", "traceparent, tracestate"],
    )
    def test_a_page_may_ask_for_the_rest_of_a_file_or_a_room(self, names: str) -> None:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": names,
        }
        with TestClient(wrapped(cors_origins=(ORIGIN,))) as client:
            assert client.options("/", headers=asked).status_code == 200
            refused = client.options("/", headers={**asked, "Origin": "https://evil.example"})
            assert refused.status_code == 400

    def test_also_of_a_body_that_is_too_large_and_of_a_request_that_is_too_late(self) -> None:
        app = wrapped(cors_origins=(ORIGIN,), max_body_bytes=4, request_timeout_seconds=SOON)
        with TestClient(app) as client:
            for response in (
                client.post("/whole-body", content=b"12345", headers={"Origin": ORIGIN}),
                client.get("/forever", headers={"Origin": ORIGIN}),
            ):
                assert response.status_code in {413, 503}
                assert response.headers["access-control-allow-origin"] == ORIGIN

    def test_negative_control_an_error_answer_made_outside_of_cors_lacks_it(self) -> None:
        with TestClient(
            wrapped(leave_out=UnexpectedErrors, cors_origins=(ORIGIN,)),
            raise_server_exceptions=False,
        ) as client:
            response = client.get("/crash", headers={"Origin": ORIGIN})

        assert response.status_code == 500
        assert "access-control-allow-origin" not in response.headers

    def test_another_origin_may_not(self, client: TestClient) -> None:
        response = client.get("/request-id", headers={"Origin": "https://evil.example"})

        assert "access-control-allow-origin" not in response.headers

    def test_a_preflight_is_answered_and_remembered(self, client: TestClient) -> None:
        response = client.options(
            "/api/v1/agents",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "PATCH",
                "Access-Control-Request-Headers": "authorization, content-type, if-match",
            },
        )

        assert response.status_code == 200
        assert response.headers["access-control-max-age"] == "600"
        assert response.headers["x-request-id"]
        assert response.headers["x-frame-options"] == "DENY"

    def test_a_preflight_of_another_origin_is_refused(self, client: TestClient) -> None:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PATCH"}

        assert client.options("/api/v1/agents", headers=headers).status_code == 400

    def test_is_left_out_without_origins(self) -> None:
        assert CORSMiddleware not in [m.cls for m in default_middleware(settings())]


class TestUnexpectedErrors:
    def test_are_500_problems_and_the_trace_is_in_the_log(self, client: TestClient) -> None:
        with capture_logs() as logs:
            body = problem_of(client.get("/crash"))

        assert body["error"] == "server_error"
        [line] = [line for line in logs if line["event"] == "unexpected_error"]
        assert isinstance(line["exc_info"], RuntimeError)
        assert line["exc_info"].__traceback__ is not None
        assert (line["route"], line["log_level"]) == ("/crash", "error")

    def test_leave_the_connection_usable(self) -> None:
        with served(wrapped()) as connection:
            connection.request("GET", "/crash")
            assert connection.getresponse().read()
            before = connection.sock
            connection.request("GET", "/request-id")
            assert connection.getresponse().status == 200
            assert connection.sock is before

    def test_negative_control_without_it_the_server_closes_the_connection(self) -> None:
        with served(wrapped(leave_out=UnexpectedErrors)) as connection:
            connection.request("GET", "/crash")
            response = connection.getresponse()
            assert response.status == 500
            response.read()
            assert connection.sock.recv(1) == b""  # it has hung up

    @pytest.mark.anyio
    async def test_after_a_whole_answer_is_only_logged(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("done")(scope, receive, send)
            raise RuntimeError(CANARY)

        with capture_logs() as logs:
            sent = await run(UnexpectedErrors(app))

        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert [line["event"] for line in logs] == ["unexpected_error"]

    @pytest.mark.anyio
    async def test_in_the_middle_of_an_answer_reaches_the_server_which_cuts_it_off(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            raise RuntimeError(CANARY)

        with capture_logs() as logs, pytest.raises(RuntimeError):
            await run(UnexpectedErrors(app))

        assert [line["event"] for line in logs] == ["unexpected_error"]

    @pytest.mark.anyio
    async def test_of_what_lies_outside_are_not_taken_for_the_applications(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("done")(scope, receive, send)

        async def broken_pipe(message: Message) -> None:
            raise OSError("broken pipe")

        with capture_logs() as logs, pytest.raises(OSError, match="broken pipe"):
            await UnexpectedErrors(app)({"type": "http", "path": "/"}, None, broken_pipe)

        assert logs == []

    @pytest.mark.anyio
    async def test_a_client_that_left_is_no_error(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise ClientDisconnect

        with capture_logs() as logs:
            assert await run(UnexpectedErrors(app)) == []

        assert logs == []


class TestBodyLimit:
    @pytest.fixture
    def client(self) -> Iterator[TestClient]:
        routes = APIRouter()
        routes.post("/large", max_body_size=100)(whole_body)
        routes.post("/small", max_body_size=2)(whole_body)

        @routes.post("/own-413")
        async def own() -> Response:
            return problems.problem_response(413, instance="/elsewhere")

        with TestClient(wrapped(routes=routes, max_body_bytes=10)) as client:
            yield client

    @pytest.mark.parametrize(
        ("path", "most"), [("/whole-body", 10), ("/large", 100), ("/small", 2)]
    )
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_bodies_up_to_the_limit_pass_and_larger_ones_are_413(
        self, client: TestClient, path: str, most: int, *, chunked: bool
    ) -> None:
        def post(size: int) -> Any:
            body = b"x" * size
            return client.post(path, content=iter([body[:1], body[1:]]) if chunked else body)

        assert post(most).json() == most
        response = post(most + 1)
        assert problem_of(response)["error"] == "content_too_large"
        assert response.headers["x-frame-options"] == "DENY"

    def test_holds_where_nothing_reads_the_body(self, client: TestClient) -> None:
        assert problem_of(client.post("/nowhere", content=b"x" * 11))["status"] == 413

    def test_a_problem_of_the_route_is_left_alone(self, client: TestClient) -> None:
        assert problem_of(client.post("/own-413"))["instance"] == "/elsewhere"

    def test_is_no_unexpected_error(self, client: TestClient) -> None:
        with capture_logs() as logs:
            client.post("/whole-body", content=b"x" * 11)

        assert [line["event"] for line in logs] == ["request"]

    def test_negative_control_without_it_any_body_passes(self) -> None:
        app = wrapped(leave_out=BodyLimit, max_body_bytes=10)

        assert TestClient(app).post("/whole-body", content=b"x" * 11).json() == 11


class TestDeadline:
    def test_a_late_request_is_503_and_cancelled(self) -> None:
        stopped: list[str] = []
        routes = APIRouter()

        @routes.get("/cleans-up")
        async def cleans_up() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # a rollback waits, too, and must be let
                stopped.append("cleaned up")

        app = wrapped(routes=routes, request_timeout_seconds=SOON)
        with capture_logs() as logs, TestClient(app) as client:
            response = client.get("/cleans-up")

        assert problem_of(response)["error"] == "unavailable"
        assert response.headers["retry-after"] == "2"
        assert stopped == ["cleaned up"]
        [line] = [line for line in logs if line["event"] == "deadline_exceeded"]
        assert (line["route"], line["answer_begun"]) == ("/cleans-up", False)

    def test_the_request_knows_how_much_time_is_left(self) -> None:
        left = TestClient(wrapped(request_timeout_seconds=30)).get("/time-left").json()

        assert 0 < left <= 30
        assert context.remaining_seconds() is None

    def test_negative_control_without_it_a_request_has_no_end(self) -> None:
        client = TestClient(wrapped(leave_out=Deadline, request_timeout_seconds=SOON))

        assert client.get("/time-left").json() is None

    @pytest.mark.anyio
    async def test_is_forgotten_when_the_request_is_over(self) -> None:
        await run(Deadline(PlainTextResponse("done"), seconds=30))

        assert context.remaining_seconds() is None

    @pytest.mark.anyio
    async def test_a_time_out_of_the_application_is_its_own(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise TimeoutError(CANARY)

        with pytest.raises(TimeoutError, match=CANARY):
            await run(Deadline(app, seconds=30))

    def test_a_download_lives_as_long_as_it_moves(self) -> None:
        async def download() -> AsyncIterator[bytes]:
            for _ in range(10):
                await asyncio.sleep(20)
                yield b"part"

        sent = run_in_virtual_time(Deadline(StreamingResponse(download()), seconds=30))

        assert b"".join(m.get("body", b"") for m in sent) == b"part" * 10
        assert sent[-1]["more_body"] is False

    def test_a_download_that_stands_still_is_cut_off(self) -> None:
        async def download() -> AsyncIterator[bytes]:
            yield b"part"
            await asyncio.sleep(40)
            yield b"part"

        with capture_logs() as logs:
            sent = run_in_virtual_time(Deadline(StreamingResponse(download()), seconds=30))

        assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
        assert sent[-1]["more_body"] is True
        assert logs[0]["answer_begun"] is True

    def test_server_sent_events_have_none(self) -> None:
        async def events() -> AsyncIterator[bytes]:
            for _ in range(2):
                await asyncio.sleep(20)
                yield b"data: 1\n\n"
                await asyncio.sleep(4000)

        response = StreamingResponse(events(), media_type="text/event-stream")
        sent = run_in_virtual_time(Deadline(response, seconds=30))

        assert b"".join(m.get("body", b"") for m in sent) == b"data: 1\n\n" * 2


class TestBodyDeadline:
    """A client may take as long as it likes to send much, not to send little."""

    def post(self, *parts: bytes, pause_seconds: float, app: Any = None) -> list[Message]:
        async def main() -> list[Message]:
            sent: list[Message] = []
            left = list(parts)

            async def receive() -> Message:
                await asyncio.sleep(pause_seconds)
                part = left.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(left)}

            async def send(message: Message) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
            await (app or Deadline(read_all, seconds=30))(scope, receive, send)
            return sent

        with asyncio.Runner(loop_factory=VirtualTime) as runner:
            return runner.run(main())

    def test_a_body_that_trickles_is_408_and_the_last_of_its_connection(self) -> None:
        with capture_logs() as logs:
            start, body = self.post(*[b"x"] * 100, pause_seconds=1)

        assert start["status"] == 408
        assert json.loads(body["body"])["error"] == "request_timeout"
        assert (b"connection", b"close") in start["headers"]
        assert logs[0]["event"] == "deadline_exceeded"

    def test_a_long_body_lives_as_long_as_it_moves(self) -> None:
        start, body = self.post(*[b"x" * 32_768] * 100, pause_seconds=1)

        assert start["status"] == 200
        assert body["body"] == b"3276800 30"  # what the route has left: nothing was taken from it

    def test_a_request_that_is_late_with_its_body_there_is_503(self) -> None:
        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await asyncio.sleep(40)

        with capture_logs():
            start, _ = self.post(b"x", pause_seconds=1, app=Deadline(slow, seconds=30))

        assert start["status"] == 503

    def test_negative_control_without_it_a_body_may_trickle(self) -> None:
        start, body = self.post(*[b"x"] * 100, pause_seconds=1, app=read_all)

        assert (start["status"], body["body"]) == (200, b"100 None")


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer how many bytes came, and how many seconds are left, at least."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    left = context.deadline.get()
    seconds = None if left is None else min(30, round(left - time.monotonic()))
    await PlainTextResponse(f"{size} {seconds}")(scope, receive, send)


class TestWebsockets:
    @pytest.fixture
    def client(self) -> Iterator[TestClient]:
        routes = APIRouter()

        @routes.websocket("/echo")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept()
            while True:
                await websocket.send_text(await websocket.receive_text())

        @routes.websocket("/request-id")
        async def identity(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_text(context.request_id.get() or "")
            await websocket.close()

        @routes.websocket("/crash-early")
        async def crash_early(websocket: WebSocket) -> None:
            raise RuntimeError(CANARY)

        @routes.websocket("/crash-late")
        async def crash_late(websocket: WebSocket) -> None:
            await websocket.accept()
            raise RuntimeError(CANARY)

        @routes.websocket("/crash-closed")
        async def crash_closed(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.close(1000)
            raise RuntimeError(CANARY)

        @routes.websocket("/crash-left")
        async def crash_left(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.receive()
            raise RuntimeError(CANARY)

        @routes.websocket("/refused")
        async def refused(websocket: WebSocket) -> None:
            raise NotFound("room")

        with TestClient(wrapped(routes=routes)) as client:
            yield client

    def test_have_an_id_and_a_line(self, client: TestClient) -> None:
        with capture_logs() as logs, client.websocket_connect("/request-id") as websocket:
            identity = websocket.receive_text()
            accepted = dict(websocket.extra_headers or [])

        assert accepted[b"x-request-id"].decode() == identity
        [line] = lines(logs)
        assert (line["method"], line["route"], line["status"]) == ("WEBSOCKET", "/request-id", 101)
        assert line["request_id"] == identity

    def test_a_client_that_leaves_is_no_error(self, client: TestClient) -> None:
        with capture_logs() as logs, client.websocket_connect("/echo") as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "hello"

        assert [line["event"] for line in logs] == ["request"]

    def test_a_crash_before_accept_is_a_500_problem(self, client: TestClient) -> None:
        with (
            capture_logs() as logs,
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect("/crash-early"),
        ):
            pass

        assert problem_of(denied.value)["error"] == "server_error"
        assert denied.value.headers["x-request-id"]
        assert [line["event"] for line in logs] == ["unexpected_error", "request"]
        assert lines(logs)[0]["status"] == 500

    def test_a_crash_after_accept_closes_with_1011(self, client: TestClient) -> None:
        with (
            client.websocket_connect("/crash-late") as websocket,
            pytest.raises(WebSocketDisconnect) as closed,
        ):
            websocket.receive_text()

        assert (closed.value.code, closed.value.reason) == (1011, "server_error")

    def test_a_crash_after_the_end_is_only_logged(self, client: TestClient) -> None:
        with capture_logs() as logs:
            with (
                client.websocket_connect("/crash-closed") as websocket,
                pytest.raises(WebSocketDisconnect) as closed,
            ):
                websocket.receive_text()
            with client.websocket_connect("/crash-left"):
                pass

        assert closed.value.code == 1000
        assert [line["event"] for line in logs] == ["unexpected_error", "request"] * 2

    @pytest.mark.anyio
    async def test_a_crash_after_the_end_sends_nothing_more(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            raise RuntimeError(CANARY)

        sent = await run(UnexpectedErrors(app), type="websocket")

        assert [m["type"] for m in sent] == ["websocket.accept", "websocket.close"]

    def test_a_refusal_has_the_id_and_the_security_headers(self, client: TestClient) -> None:
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect("/refused"),
        ):
            pass

        assert denied.value.headers["x-request-id"] == problem_of(denied.value)["request_id"]
        assert denied.value.headers["x-frame-options"] == "DENY"

    @pytest.mark.anyio
    async def test_a_server_that_cannot_answer_a_handshake_closes_it(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError(CANARY)

        with capture_logs() as logs:
            sent = await run(RequestContext(UnexpectedErrors(app)), type="websocket")

        assert sent == [{"type": "websocket.close", "code": 1011, "reason": "server_error"}]
        assert lines(logs)[0]["status"] == 403

    def test_have_no_deadline(self) -> None:
        routes = APIRouter()

        @routes.websocket("/slow")
        async def slow(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.send_json(context.remaining_seconds())
            await websocket.close()

        app = wrapped(routes=routes, request_timeout_seconds=SOON)
        with TestClient(app) as client, client.websocket_connect("/slow") as websocket:
            assert websocket.receive_json() is None
