"""A request finds the route that FastAPI would have found, in one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, WebSocket, routing
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from newel import context
from newel.routing import RouteIndex

pytestmark = pytest.mark.anyio


def named(name: str) -> Callable[..., Any]:
    async def endpoint(request: Request) -> dict[str, Any]:
        return {
            "name": name,
            "template": context.route_template(request.scope),
            "path_params": {key: str(value) for key, value in request.path_params.items()},
        }

    endpoint.__name__ = name
    return endpoint


def build() -> FastAPI:
    """Return an application with everything that two routes can do to each other."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    inner, items, files, late = APIRouter(), APIRouter(), APIRouter(), APIRouter()
    inner.add_api_route("/me", named("me"))
    inner.add_api_route("/{user_id}", named("user"))
    inner.add_api_route("/{user_id}", named("change"), methods=["PATCH"])
    inner.add_api_route("/last", named("shadowed"))  # behind /{user_id}
    items.add_api_route("/{kind}/all", named("all of a kind"))
    items.add_api_route("/red/{item_id}", named("red item"))
    items.add_api_route("/{number:int}", named("number"))
    items.add_api_route("/{word}", named("word"))
    files.add_api_route("/{name}.json", named("json"))
    files.add_api_route("/{path:path}", named("path"))
    late.add_api_route("/users/me", named("too late"))
    late.add_api_route("/", named("root"))

    @inner.websocket("/me")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("socket")
        await websocket.close()

    outer = APIRouter()
    outer.include_router(inner, prefix="/users")
    app.router.routes.append(Route("/plain/{x}", lambda _: PlainTextResponse("plain")))
    app.include_router(outer, prefix="/api")
    app.router.routes.append(
        Mount("/items/blue", app=PlainTextResponse("mounted"))  # in front of /items/{...}
    )
    app.include_router(items, prefix="/items")
    app.include_router(files, prefix="/files")
    app.include_router(late, prefix="/api")
    return app


def indexed() -> FastAPI:
    app = build()
    app.router.middleware_stack = RouteIndex(app)
    return app


async def ask(app: FastAPI, method: str, path: str) -> tuple[int, Any, str | None]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, path)
    is_json = "json" in answer.headers.get("content-type", "") and answer.content
    body = answer.json() if is_json else answer.text
    return answer.status_code, body, answer.headers.get("allow")


REQUESTS = [
    *(f"GET /api/users/{name}" for name in ["me", "7", "last", "", "7/8", "m%65", "%7Bx%7D"]),
    *("PATCH /api/users/7", "PATCH /api/users/me", "PUT /api/users/7", "HEAD /api/users/7"),
    *("GET /api/users", "GET /api/", "GET /api", "GET /", "GET //api/users/me", "GET /nothing"),
    *(f"GET /items/{path}" for path in ["red/all", "red/1", "12", "word", "blue/all", "1/2/3"]),
    *(f"GET /files/{path}" for path in ["a.json", "a.txt", "a/b/c.json", "", "a//b"]),
    *("GET /plain/1", "POST /plain/1", "OPTIONS /items/12", "GET /docs"),
]


@pytest.mark.parametrize("request_line", REQUESTS)
async def test_the_answer_is_the_one_without_the_index(request_line: str) -> None:
    method, path = request_line.split(" ")
    assert await ask(indexed(), method, path) == await ask(build(), method, path)


async def test_it_is_the_index_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with FastAPI's own search broken, what is indexed still answers."""

    def broken(*_: object) -> Any:
        raise AssertionError("FastAPI has searched")

    app = indexed()
    monkeypatch.setattr(routing._IncludedRouter, "matches", broken)
    for path, name in {"/api/users/me": "me", "/items/red/1": "red item", "/api/": "root"}.items():
        status, body, _ = await ask(app, "GET", path)
        assert (status, body["name"]) == (200, name)


def test_websockets_find_their_route_too() -> None:
    with TestClient(indexed()).websocket_connect("/api/users/me") as socket:
        assert socket.receive_text() == "socket"


async def test_what_is_added_later_is_found() -> None:
    app = indexed()
    app.add_api_route("/later", named("later"))
    assert (await ask(app, "GET", "/later"))[0] == 200


async def test_form_limits_of_a_router_are_kept() -> None:
    app, router = FastAPI(), APIRouter(form_limits={"max_fields": 1})

    async def form(request: Request) -> int:
        return len(await request.form())

    router.add_api_route("/form", form, methods=["POST"])
    app.include_router(router)
    app.router.middleware_stack = RouteIndex(app)
    scope = {"type": "http", "method": "POST", "path": "/form", "headers": []}
    assert RouteIndex(app).find(scope) is None


async def test_dependencies_overrides_and_documentation_stay_as_they_are() -> None:
    plain, fast = build(), indexed()
    assert fast.openapi() == plain.openapi()
    assert fast.url_path_for("user", user_id="7") == plain.url_path_for("user", user_id="7")


def test_fastapi_still_has_the_names_that_the_index_stands_on() -> None:
    scope = {"type": "http", "method": "GET", "path": "/api/users/me", "headers": []}
    child = RouteIndex(build()).find(scope)
    assert child is not None
    effective = child["fastapi"]["effective_route_context"]
    assert routing._FASTAPI_SCOPE_KEY == "fastapi"
    assert routing._FASTAPI_EFFECTIVE_ROUTE_CONTEXT_KEY == "effective_route_context"
    assert effective.path_format == "/api/users/me"
    assert child["route"] is effective.original_route


@pytest.mark.parametrize("depth", [1, 3])
def test_the_last_of_200_routes_is_looked_at_as_rarely_as_the_first_of_10(depth: int) -> None:
    """Counted, not timed: benchmarks/routing.py has the times."""

    def looks(routes: int, wanted: int) -> int:
        router = APIRouter()
        for number in range(routes):
            router.add_api_route(f"/r{number}/{{id}}", named(f"r{number}"))
        for level in range(depth):
            outer = APIRouter()
            outer.include_router(router, prefix=f"/level{level}")
            router = outer
        app = FastAPI()
        app.include_router(router)
        index = RouteIndex(app)
        path = "".join(f"/level{level}" for level in reversed(range(depth))) + f"/r{wanted}/1"
        counted = 0
        original = routing._EffectiveRouteContext.matches

        def count(self: Any, scope: Any) -> Any:
            nonlocal counted
            counted += 1
            return original(self, scope)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(routing._EffectiveRouteContext, "matches", count)
            found = index.find({"type": "http", "method": "GET", "path": path, "headers": []})
        assert found is not None
        return counted

    assert looks(10, 0) == looks(200, 199) == 1


async def test_path_parameters_are_converted_once() -> None:
    app = FastAPI()
    router = APIRouter()

    @router.get("/{user_id}")
    async def read(user_id: UUID) -> str:
        return str(user_id)

    app.include_router(router, prefix="/users")
    app.router.middleware_stack = RouteIndex(app)
    wanted = "01890000-0000-7000-8000-000000000000"
    assert (await ask(app, "GET", f"/users/{wanted}"))[1] == wanted
    assert (await ask(app, "GET", "/users/x"))[0] == 422
