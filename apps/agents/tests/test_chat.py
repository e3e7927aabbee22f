"""Chats over websockets: who hears what is said, and who is refused."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

pytestmark = pytest.mark.anyio


class Socket:
    """A websocket to the application, without a network."""

    def __init__(self) -> None:
        self.to_app: asyncio.Queue[Any] = asyncio.Queue()
        self.from_app: asyncio.Queue[Any] = asyncio.Queue()
        self.heard: list[Any] = []

    async def event(self) -> Any:
        return await asyncio.wait_for(self.from_app.get(), 10)

    async def closed(self) -> int:
        """Return the code by which it is closed, after it was accepted."""
        assert (await self.event())["type"] == "websocket.accept"
        return (await self.event())["code"]

    async def send(self, type: str, chat: str, **more: Any) -> None:
        text = json.dumps({"type": type, "room": chat, **more})
        await self.to_app.put({"type": "websocket.receive", "text": text})

    async def hear(self, *types: str) -> Any:
        """Return the next message of these types; a frame has one message or several."""
        while True:
            while not self.heard:
                frame = json.loads((await self.event())["text"])
                self.heard = frame if isinstance(frame, list) else [frame]
            message = self.heard.pop(0)
            if message["type"] in types:
                return message

    async def join(self, chat: str) -> Any:
        await self.send("join", chat)
        return await self.hear("joined", "error")

    async def say(self, chat: str, content: str) -> Any:
        await self.send("message", chat, data={"content": content}, id="1")
        return await self.hear("sent", "error")


@asynccontextmanager
async def opened(app: FastAPI, query: str, origin: str = "http://test") -> AsyncGenerator[Socket]:
    """Open a websocket; what the application answers is the first event."""
    socket = Socket()
    scope = {
        "type": "websocket",
        "path": "/api/v1/rooms/ws",
        "query_string": query.encode(),
        "headers": [(b"host", b"test"), (b"origin", origin.encode())],
    }
    await socket.to_app.put({"type": "websocket.connect"})
    serving = asyncio.ensure_future(app(scope, socket.to_app.get, socket.from_app.put))
    yield socket
    await socket.to_app.put({"type": "websocket.disconnect", "code": 1000})
    await serving


async def ticket_of(client: AsyncClient) -> str:
    answer = await client.post("/api/v1/rooms/tickets")
    assert answer.status_code == 201, answer.text
    return f"ticket={answer.json()['ticket']}"


@asynccontextmanager
async def connected(app: FastAPI, client: AsyncClient) -> AsyncGenerator[Socket]:
    async with opened(app, await ticket_of(client)) as socket:
        assert (await socket.event())["type"] == "websocket.accept"
        yield socket


@pytest.fixture
def chat() -> str:
    return "chat:lobby"


async def test_the_others_hear_what_is_said(
    app: FastAPI, owner: AsyncClient, stranger: AsyncClient, chat: str
) -> None:
    async with connected(app, owner) as ann, connected(app, stranger) as ben:
        assert (await ann.join(chat))["type"] == "joined"
        assert (await ben.join(chat))["type"] == "joined"
        assert (await ann.hear("system"))["data"]["event"] == "joined"
        assert (await ann.say(chat, "hello"))["type"] == "sent"
        assert (await ben.hear("message"))["data"] == {"content": "hello"}
        assert (await ben.say(chat, "hi"))["type"] == "sent"
        assert (await ann.hear("message"))["data"] == {"content": "hi"}, "and nothing of her own"


@pytest.mark.parametrize("content", ["", "x" * 4001, "\0"])
async def test_what_is_no_message_is_refused(
    app: FastAPI, owner: AsyncClient, chat: str, content: str
) -> None:
    async with connected(app, owner) as ann:
        await ann.join(chat)
        assert (await ann.say(chat, content))["data"]["error"] == "validation_failed"


async def test_who_is_not_logged_in_gets_no_ticket(client: AsyncClient) -> None:
    assert (await client.post("/api/v1/rooms/tickets")).status_code == 401


async def test_a_ticket_is_good_once(app: FastAPI, owner: AsyncClient) -> None:
    ticket = await ticket_of(owner)
    async with opened(app, ticket) as ann:
        assert (await ann.event())["type"] == "websocket.accept"
        assert await ann.hear("welcome")
    async with opened(app, ticket) as again:
        assert await again.closed() == 4401


@pytest.mark.usefixtures("client")
async def test_who_has_no_ticket_is_sent_away(app: FastAPI) -> None:
    async with opened(app, "") as nobody:
        await nobody.send("join", "chat:lobby")
        assert await nobody.closed() == 4401


async def test_a_page_of_another_site_is_refused(app: FastAPI, owner: AsyncClient) -> None:
    async with opened(app, await ticket_of(owner), origin="https://elsewhere.example") as page:
        event = await page.event()
    assert (event["type"], event["code"]) == ("websocket.close", 4403), "before it is accepted"
