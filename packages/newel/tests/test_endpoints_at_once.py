"""Requests that are under way together, or cut off, are answered as FastAPI answers them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.types import Message

from newel.endpoints import DirectAnswer, answer_directly

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    name: str
    tags: list[str] = []


class Said(BaseModel):
    number: int
    item: Item
    by: str


class Caller:
    def __init__(self, x_caller: Annotated[str, Header()]) -> None:
        self.name = x_caller


def noting(name: str) -> Any:
    async def note(request: Request) -> AsyncIterator[None]:
        log: list[str] = request.app.state.log
        try:
            yield
        except BaseException as error:
            log.append(f"{name}: {type(error).__name__}")
            raise
        log.append(f"{name}: done")

    return note


def scope(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}


within: Any = Depends(noting("until the answer"), scope="function")
around: Any = Depends(noting("until the end"))


def build(*, is_direct: bool) -> FastAPI:
    app, router = FastAPI(), APIRouter()
    app.state.log, app.state.begun = [], asyncio.Event()

    @router.post("/items/{number}")
    async def say(number: int, item: Item, caller: Annotated[Caller, Depends()]) -> Said:
        await asyncio.sleep(0)  # all others are under way by now
        return Said(number=number, item=item, by=caller.name)

    @router.get("/never", dependencies=[around, within])
    async def never() -> str:
        app.state.begun.set()
        await asyncio.Event().wait()
        return "never"

    @router.post("/streamed")
    async def streamed(request: Request) -> int:
        return max([app.state.alive() async for _ in request.stream()])

    app.include_router(router, prefix="/all")
    if is_direct:
        answer_directly(app.routes)
        found = [found._effective_route for found in iter_route_contexts(app.routes)]
        assert sum(isinstance(getattr(route, "app", None), DirectAnswer) for route in found) == 3
    return app


@pytest.mark.parametrize("is_direct", [False, True], ids=["FastAPI", "direct"])
async def test_each_of_many_at_once_gets_its_own_answer(is_direct: bool) -> None:
    transport = httpx2.ASGITransport(app=build(is_direct=is_direct))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    f"/all/items/{number}",
                    json={"name": f"n{number}", "tags": ["t"] * (number % 3)},
                    headers={"X-Caller": f"c{number}"},
                )
                for number in range(100)
            )
        )
    assert [answer.json() for answer in answers] == [
        {
            "number": number,
            "item": {"name": f"n{number}", "tags": ["t"] * (number % 3)},
            "by": f"c{number}",
        }
        for number in range(100)
    ]


@pytest.mark.parametrize("is_direct", [False, True], ids=["FastAPI", "direct"])
async def test_what_is_cut_off_ends_its_dependencies_in_order(is_direct: bool) -> None:
    app = build(is_direct=is_direct)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    request = asyncio.create_task(app(scope("/all/never"), receive, send))
    await app.state.begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request

    assert app.state.log == ["until the answer: CancelledError", "until the end: CancelledError"]
    assert sent == []


@pytest.mark.parametrize("is_direct", [False, True], ids=["FastAPI", "direct"])
async def test_what_is_streamed_is_not_kept(is_direct: bool) -> None:
    app, chunks = build(is_direct=is_direct), [b"-"] * 9
    received: list[weakref.ref[Chunk]] = []
    sent: list[Message] = []

    async def receive() -> Message:
        chunk = Chunk(type="http.request", body=chunks.pop(), more_body=bool(chunks))
        received.append(weakref.ref(chunk))
        return chunk

    async def send(message: Message) -> None:
        sent.append(message)

    app.state.alive = lambda: sum(chunk() is not None for chunk in received)
    await app(scope("/all/streamed", "POST"), receive, send)

    assert len(received) == 9
    assert int(sent[1]["body"]) <= 2, "at any time"


class Chunk(dict[str, Any]):
    """A message to which there may be weak references."""
