"""A planned route gets what FastAPI would have given it, and each dependency is made once."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Request,
    Response,
)
from fastapi.routing import iter_route_contexts

from newel import dependants
from newel.endpoints import answer_directly

pytestmark = pytest.mark.anyio

Log = list[str]


class Store:
    def __init__(self) -> None:
        self.thread = threading.current_thread()


class Service:
    def __init__(self, store: Annotated[Store, Depends()]) -> None:
        self.store = store
        self.thread = threading.current_thread()


def blocking() -> threading.Thread:
    return threading.current_thread()


async def unit(request: Request) -> AsyncIterator[Log]:
    log: Log = request.app.state.log
    log.append("open")
    try:
        yield log
    except RuntimeError:
        log.append("failed")
        raise
    log.append("close")


Unit = Annotated[Log, Depends(unit, scope="function")]
LateUnit = Annotated[Log, Depends(unit)]


async def fresh(unit: Unit) -> object:
    unit.append("made")
    return object()


async def tagged(response: Response, x_tag: Annotated[str, Header()] = "none") -> str:
    response.headers["X-Tagged"] = x_tag
    return x_tag


async def deny(unit: Unit, request: Request) -> None:
    if "deny" in request.query_params:
        raise HTTPException(401)
    unit.append("allowed")


Fresh = Annotated[object, Depends(fresh, use_cache=False)]


def build() -> FastAPI:
    app, router = FastAPI(), APIRouter(dependencies=[Depends(deny)])
    app.state.log = []

    @router.get("/threads")
    async def threads(
        service: Annotated[Service, Depends()],
        store: Annotated[Store, Depends()],
        other: Annotated[threading.Thread, Depends(blocking)],
    ) -> dict[str, bool]:
        main = threading.current_thread()
        return {
            "service": service.thread is main,
            "store": store.thread is main,
            "function": other is main,
            "shared": service.store is store,
        }

    @router.post("/items/{number}")
    async def create(  # noqa: PLR0917 - one parameter of each kind
        number: int,
        body: dict[str, int],
        first: Fresh,
        second: Fresh,
        tag: Annotated[str, Depends(tagged)],
        work: Unit,
    ) -> list[Any]:
        work.append("endpoint")
        return [number, body, first is second, tag]

    @router.post("/fails")
    async def fails(work: Unit) -> None:
        work.append("endpoint")
        raise RuntimeError

    @router.get("/late")
    async def late(work: LateUnit, early: Unit) -> bool:
        return work is early

    @router.get("/plain")
    def plain(service: Annotated[Service, Depends()]) -> bool:
        return service.store is not None

    app.include_router(router, prefix="/api")
    return app


def planned() -> FastAPI:
    app = build()
    answer_directly(app.routes)
    return app


async def ask(app: FastAPI, method: str, path: str, **options: Any) -> Any:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, f"/api{path}", **options)
    body = answer.json() if "json" in answer.headers["content-type"] else answer.text
    return answer.status_code, body, answer.headers.get("x-tagged"), app.state.log


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/items/7", {"json": {"a": 1}, "headers": {"X-Tag": "red"}}),
    ("POST", "/items/7", {"json": {"a": 1}}),
    ("POST", "/items/x", {"json": {"a": 1}}),
    ("POST", "/items/7", {"json": {"a": "x"}}),
    ("POST", "/items/x?deny=1", {"json": []}),
    ("POST", "/fails", {}),
    ("GET", "/late", {}),
    ("GET", "/plain", {}),
]


@pytest.mark.parametrize(("method", "path", "options"), REQUESTS)
async def test_answers_order_and_ends_are_those_of_fastapi(
    method: str, path: str, options: dict[str, Any]
) -> None:
    assert await ask(planned(), method, path, **options) == await ask(
        build(), method, path, **options
    )


async def test_classes_are_made_on_the_loop_and_functions_in_a_thread() -> None:
    _, body, _, _ = await ask(planned(), "GET", "/threads")
    assert body == {"service": True, "store": True, "function": False, "shared": True}


async def test_without_a_plan_each_class_takes_a_thread() -> None:
    """The negative control."""
    _, body, _, _ = await ask(build(), "GET", "/threads")
    assert body == {"service": False, "store": False, "function": False, "shared": True}


async def test_it_is_the_plan_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    app, made = planned(), 0
    original = dependants.Plan.solve

    async def count(self: Any, *given: Any) -> Any:
        nonlocal made
        made += 1
        return await original(self, *given)

    monkeypatch.setattr(dependants.Plan, "solve", count)
    for path in ("/threads", "/late", "/plain"):
        await ask(app, "GET", path)
    assert made == 2  # a plain `def` is left to FastAPI


@pytest.mark.parametrize("overridden", [Store, Service, unit, deny])
async def test_whatever_is_overridden_is_replaced(overridden: Callable[..., Any]) -> None:
    app, made = planned(), Log()

    async def fake() -> Any:
        made.append("fake")
        return Service(Store()) if overridden is Service else Store()

    async def fake_unit() -> Log:
        made.append("fake")
        return app.state.log

    app.dependency_overrides[overridden] = fake_unit if overridden is unit else fake
    status, *_ = await ask(app, "GET", "/threads")
    assert (status, set(made)) == (200, {"fake"})


async def test_what_an_override_leaves_for_later_is_done() -> None:
    app, done = planned(), Log()

    async def fake(tasks: BackgroundTasks) -> Store:
        tasks.add_task(done.append, "later")
        return Store()

    app.dependency_overrides[Store] = fake
    status, *_ = await ask(app, "GET", "/threads")
    assert (status, done) == (200, ["later"])


async def test_the_documentation_stays_as_it_is() -> None:
    assert planned().openapi() == build().openapi()


def test_who_reads_the_dependencies_of_a_route_sees_them_all() -> None:
    def calls(dependant: Any) -> list[Any]:
        return [dependant.call, *(c for d in dependant.dependencies for c in calls(d))]

    def seen(app: FastAPI) -> dict[str | None, list[str]]:
        return {
            route.path: [getattr(call, "__qualname__", "") for call in calls(route.dependant)]
            for route in iter_route_contexts(app.routes)
            if hasattr(route, "dependant")
        }

    assert seen(planned()) == seen(build())


def test_fastapi_still_has_what_the_plan_stands_on() -> None:
    parameters = inspect.signature(dependants._solve_generator).parameters
    assert set(parameters) == {"dependant", "stack", "sub_values", "request"}
    for route in iter_route_contexts(build().routes):
        assert hasattr(route, "_effective_route")
