"""Services are made on the event loop, can be overridden, and what blocks still gets a thread."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI

from newel.dependants import OnTheLoop, construct_on_the_loop

pytestmark = pytest.mark.anyio


class Store:
    def __init__(self) -> None:
        self.thread = threading.current_thread()


class Service:
    def __init__(self, store: Annotated[Store, Depends()]) -> None:
        self.store = store
        self.thread = threading.current_thread()


def blocking() -> threading.Thread:
    return threading.current_thread()


def build() -> FastAPI:
    app, router = FastAPI(), APIRouter()

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

    app.include_router(router, prefix="/api")
    return app


async def ask(app: FastAPI) -> Any:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get("/api/threads")).json()


async def test_classes_are_made_on_the_loop_and_functions_in_a_thread() -> None:
    app = build()
    construct_on_the_loop(app.routes)
    assert await ask(app) == {"service": True, "store": True, "function": False, "shared": True}


async def test_without_it_each_class_takes_a_thread() -> None:
    """The negative control."""
    assert await ask(build()) == {
        "service": False,
        "store": False,
        "function": False,
        "shared": True,
    }


async def test_a_class_can_be_overridden_as_ever() -> None:
    app = build()
    construct_on_the_loop(app.routes)
    made: list[str] = []

    async def fake() -> Store:
        made.append("fake")
        return Store()

    app.dependency_overrides[Store] = fake
    assert (await ask(app))["shared"] is True
    assert made == ["fake"]


async def test_the_documentation_stays_as_it_is() -> None:
    app = build()
    construct_on_the_loop(app.routes)
    assert app.openapi() == build().openapi()


def test_it_equals_the_class_it_makes_and_no_other() -> None:
    assert OnTheLoop(Store) == Store == OnTheLoop(Store)
    assert hash(OnTheLoop(Store)) == hash(Store)
    assert OnTheLoop(Store) != Service
