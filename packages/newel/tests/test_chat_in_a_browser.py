"""The page of docs/chat.md in a real Chromium, whose server is killed and started again."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from sample_browser import Tab, chromium, served
from sample_chat import build, process
from sample_jobs import until
from sample_valkey import Valkey

from newel.testing import PASSWORD, log_in, make_user

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("log_lines"),
]

ANN, BEN = "ann@example.com", "ben@example.com"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def redis(tmp_path: Path) -> Any:
    """A Valkey that the test may stop."""
    server = Valkey(tmp_path / "valkey")
    tmp_path.joinpath("valkey").mkdir()
    server.start()
    yield server
    server.stop()


class Ben:
    """Another user, on another process, by a program."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def say(self, *contents: str) -> None:
        """Say things; return when they were said on."""
        for content in contents:
            message = {"type": "message", "room": "chat:42", "data": {"content": content}}
            await self._socket.send(json.dumps({**message, "id": content}))
            await self.hears("sent")

    async def hears(self, kind: str) -> dict[str, Any]:
        while True:
            said = json.loads(await self._socket.recv())
            for message in said if isinstance(said, list) else [said]:
                if message["type"] == kind:
                    return message


@asynccontextmanager
async def ben_chatting(url: str, headers: dict[str, str]) -> AsyncGenerator[Ben]:
    address = url.replace("http", "ws") + "/api/v1/rooms/ws"
    async with websockets.connect(address, additional_headers=headers, proxy=None) as connection:
        ben = Ben(connection)
        await connection.send(json.dumps({"type": "join", "room": "chat:42"}))
        await ben.hears("joined")
        yield ben


async def lines(tab: Tab) -> list[str]:
    found = await tab.evaluate("[...document.querySelectorAll('#said li')].map(e => e.innerText)")
    return [line.rpartition(": ")[2] for line in found if not line.startswith("Somebody")]


async def test_a_page_goes_on_after_its_server_was_killed(
    tmp_path: Path, redis: Valkey, prepare_database: Callable[[str], None]
) -> None:
    port, app = free_port(), build(tmp_path, redis.url)
    prepare_database(app.state.settings.database_url)
    async with served(app) as other, chromium() as tab:
        await make_user(app, email=ANN, password=PASSWORD)
        ben_headers = await log_in(app, await make_user(app, email=BEN, password=PASSWORD))
        async with ben_chatting(other, ben_headers) as ben:
            async with process(port, tmp_path, redis.url) as first:
                await tab.open(f"http://127.0.0.1:{port}/chat#42")
                await tab.tab_to("E-mail")
                await tab.type(ANN)
                await tab.press("Tab")
                await tab.type(PASSWORD)
                await tab.press("Enter")
                await tab.shows("2 here")
                await ben.hears("system")
                await ben.say("one", "two")
                await tab.shows("two")
                await tab.tab_to("Message")
                await tab.type("hello")
                await tab.press("Enter")
                await tab.shows("You: hello")
                assert (await ben.hears("message"))["data"] == {"content": "hello"}
                first.kill()
            await tab.shows("Connecting ...")
            await ben.say("three", "four", "five")
            async with process(port, tmp_path, redis.url):
                await tab.becomes("(dispatchEvent(new Event('online')), !say.hidden)")
                await tab.shows("five")
                await ben.say("six")
                await tab.shows("six")
                everything = ["one", "two", "hello", "three", "four", "five", "six"]
                assert await lines(tab) == everything, "what was missed, once, in order"
                redis.stop()  # its history is gone: what was missed now cannot be said
                redis.start()
                await tab.shows("Something may be missing here.")
                await until(lambda: _heard(ben, tab))
        foreign = [url for url in tab.requests if f"127.0.0.1:{port}" not in url]
        assert foreign == [], "everything comes from the service itself"


async def _heard(ben: Ben, tab: Tab) -> bool:
    await ben.say("seven")
    return "seven" in await lines(tab)
