"""The JavaScript client in a real Chromium; the test plays the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from sample_browser import Tab, chromium, served
from sample_jobs import until

import newel
from newel import room_client
from newel.app import create_app
from newel.modules import Module
from newel.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.timeout(120)]

SECRET = "k3y-0123456789-abcdefghij-ABCDEFGHIJ"
SCRIPT = Path(newel.__file__).with_name("room_client.js").read_text()
PAGE = """<!doctype html><title>Room</title><script type="module">
let now = 0, timers = [], made = 0;  // the page's clock stands still until the test moves it
window.setTimeout = (then, ms) => (timers.push({ id: ++made, at: now + ms, then }), made);
window.clearTimeout = id => { timers = timers.filter(one => one.id !== id) };
window.advance = ms => {
  for (const end = now + ms; ; ) {
    const next = timers.filter(one => one.at <= end).sort((a, b) => a.at - b.at)[0];
    if (!next) return void (now = end);
    clearTimeout(next.id);
    now = next.at;
    next.then();
  }
};
const { RoomClient } = await import("./client.js");
window.heard = [];
window.asked = 0;
window.ticket = async () => `t${++asked}`;
window.rooms = new RoomClient({ ticket: () => ticket() });
rooms.on("state", change => heard.push(change));
rooms.on("error", error => heard.push({ error }));
window.room = rooms.join("chat:1");
for (const type of ["said", "joined", "gap", "error"])
  room.on(type, value => heard.push({ type, value }));
window.say = text => room.send("said", { text }).then(
  sent => heard.push({ sent }), error => heard.push({ failed: error.message, why: error.data }));
</script>"""


@dataclass(eq=False)
class Line:
    """A connection of the page; the test is the server."""

    socket: WebSocket
    said: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    async def hears(self) -> Any:
        return await asyncio.wait_for(self.said.get(), 20)

    async def say(self, *messages: dict[str, Any]) -> None:
        """Send one message, or several in one frame."""
        stamped = [{"timestamp": "2026-11-21T12:00:00Z", "data": {}, **one} for one in messages]
        await self.socket.send_text(json.dumps(stamped[0] if len(stamped) == 1 else stamped))

    async def let_in(self, **joined: Any) -> Any:
        """Welcome the page and let it into its room; return how it has asked to join."""
        await self.say({"type": "welcome", "data": {"user_id": "u", "connection_id": "c"}})
        asked = await self.hears()
        if joined:
            data = {"members": [], "member_count": 1, **joined}
            await self.say({"type": "joined", "room": "chat:1", "data": data})
        return asked


@dataclass(eq=False)
class Stage:
    """A page, and the connections it makes."""

    tab: Tab
    lines: asyncio.Queue[Line]
    url: str

    async def line(self) -> Line:
        return await asyncio.wait_for(self.lines.get(), 20)

    async def next_line(self) -> Line:
        """Have the page wait as long as it means to, and return its next connection."""
        change = await self.becomes("waiting")
        await self.passes(change["seconds"])
        return await self.line()

    async def passes(self, seconds: float) -> None:
        await self.tab.evaluate(f"advance({seconds * 1000 + 1})")

    async def heard(self, key: str) -> list[Any]:
        """Return what has a key that JSON does not leave out."""
        found = await self.tab.evaluate("heard")
        return [one.get(key) for one in found if key in one]

    async def of_type(self, type: str) -> list[Any]:
        found = await self.tab.evaluate("heard")
        return [one["value"] for one in found if one.get("type") == type]

    async def becomes(self, state: str) -> dict[str, Any]:
        await self.tab.becomes(f"rooms.state === {state!r}")
        changes = [one for one in await self.tab.evaluate("heard") if one.get("state") == state]
        return changes[-1]


def said(offset: int | None, text: str) -> dict[str, Any]:
    return {
        "type": "said",
        "room": "chat:1",
        "offset": offset,
        "from": "u2",
        "data": {"text": text},
    }


def stage_app(lines: asyncio.Queue[Line]) -> FastAPI:
    app = FastAPI()

    @app.get("/rooms/page")
    async def page() -> Response:
        return Response(PAGE, media_type="text/html")

    @app.get("/rooms/client.js")
    async def client() -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    @app.websocket("/rooms/ws")
    async def websocket(socket: WebSocket) -> None:
        await socket.accept()
        line = Line(socket)
        lines.put_nowait(line)
        with suppress(WebSocketDisconnect):
            while True:
                line.said.put_nowait(json.loads(await socket.receive_text()))

    return app


@pytest.fixture
async def stage() -> AsyncGenerator[Stage]:
    lines = asyncio.Queue[Line]()
    async with served(stage_app(lines)) as url, chromium() as tab:
        await tab.open(f"{url}/rooms/page")
        yield Stage(tab, lines, url)
        assert [one for one in tab.errors if "exceptionId" in one] == []


async def test_what_was_missed_follows_and_each_message_comes_once(stage: Stage) -> None:
    first = await stage.line()
    assert first.socket.query_params["ticket"] == "t1"
    asked = await first.let_in(epoch="e", offset=5, recovered=False)
    assert asked == {"type": "join", "room": "chat:1"}
    await first.say(said(6, "six"), said(7, "seven"))  # several in one frame
    await stage.tab.becomes("heard.filter(one => one.type === 'said').length === 2")
    await first.socket.close(1012)

    second = await stage.next_line()
    assert second.socket.query_params["ticket"] == "t2", "a ticket is good once"
    asked = await second.let_in(epoch="e", offset=9, recovered=True)
    assert asked["data"] == {"epoch": "e", "offset": 7}
    await second.say(said(8, "eight"))
    await second.say(said(8, "eight"), said(9, "nine"))
    await second.say(said(None, "unnumbered"))
    await stage.tab.becomes("heard.filter(one => one.type === 'said').length === 5")
    assert await stage.of_type("gap") == []
    await second.socket.close(4008)

    third = await stage.next_line()
    asked = await third.let_in(epoch="f", offset=3, recovered=False)
    assert asked["data"] == {"epoch": "e", "offset": 9}
    await third.say(said(4, "four"))
    await stage.tab.becomes("heard.filter(one => one.type === 'said').length === 6")
    texts = [one["data"]["text"] for one in await stage.of_type("said")]
    assert texts == ["six", "seven", "eight", "nine", "unnumbered", "four"]
    [gap] = await stage.of_type("gap")
    assert gap["recovered"] is False
    await third.socket.close(1011)

    fourth = await stage.next_line()
    asked = await fourth.let_in(epoch=None, offset=None, recovered=False)
    assert asked["data"] == {"epoch": "f", "offset": 4}
    found = {"epoch": "g", "offset": 1, "recovered": False}  # its Redis, again
    await fourth.say({"type": "joined", "room": "chat:1", "data": found})
    await stage.tab.becomes("heard.filter(one => one.type === 'gap').length === 3")
    await fourth.socket.close(1011)
    asked = await (await stage.next_line()).let_in()
    assert asked["data"] == {"epoch": "g", "offset": 1}


async def test_what_one_says_has_an_outcome(stage: Stage) -> None:
    line = await stage.line()
    await line.let_in(epoch="e", offset=0, recovered=False)
    await stage.tab.evaluate("say('one'), say('two'), say('three'), null")
    one, two, _ = [await line.hears() for _ in range(3)]
    assert one == {"type": "said", "room": "chat:1", "data": {"text": "one"}, "id": one["id"]}
    await line.say(
        # Of another one, who happens to use the same words: nobody's outcome.
        {**said(1, "hello"), "data": {"id": two["id"]}},
        {"type": "sent", "room": "chat:1", "data": {"id": one["id"], "epoch": "e", "offset": 2}},
        # Number 3, which another one said, is still on its way: it has not been seen.
        {"type": "sent", "room": "chat:1", "data": {"id": "-", "epoch": "e", "offset": 4}},
        said(2, "heard by who said it, after the outcome"),
        {"type": "error", "room": "chat:1", "data": {"id": two["id"], "detail": "Too long."}},
        {"type": "error", "room": "chat:1", "data": {"detail": "Of the room."}},
        {"type": "error", "data": {"detail": "Of no room."}},
    )
    await stage.tab.becomes("heard.some(one => one.failed)")
    assert [one["offset"] for one in await stage.heard("sent")] == [2]
    assert (await stage.heard("failed"), await stage.heard("why")) == (
        ["Too long."],
        [{"id": two["id"], "detail": "Too long."}],
    )
    assert await stage.of_type("error") == [{"detail": "Of the room."}]
    assert await stage.heard("error") == [{"detail": "Of no room."}]

    await line.socket.close(1011)  # the third has no outcome: nobody knows
    line = await stage.next_line()
    assert await stage.heard("failed") == ["Too long.", "the connection broke"]
    await stage.tab.evaluate("say('too early'), null")
    asked = await line.let_in(epoch="e", offset=2, recovered=True)
    assert asked["data"] == {"epoch": "e", "offset": 2}, "one's own messages were seen"
    await line.say(said(3, "three"), said(4, "one's own"), said(5, "five"))
    await stage.tab.becomes("heard.some(one => one.value?.offset === 5)")
    assert [one["offset"] for one in await stage.of_type("said")] == [1, 2, 3, 5]
    assert (await stage.heard("failed"))[-1] == "not connected"

    await stage.tab.evaluate("window.second = rooms.join('chat:2'), room.leave(), null")
    assert await line.hears() == {"type": "join", "room": "chat:2"}
    assert await line.hears() == {"type": "leave", "room": "chat:1"}
    await line.socket.close(1012)
    assert (await (await stage.next_line()).let_in())["room"] == "chat:2", (
        "what was left stays left"
    )


async def test_who_is_refused_stops_and_who_is_away_comes_back(stage: Stage) -> None:
    line = await stage.line()
    await line.let_in()
    await line.socket.close(4401)  # it has expired: a new ticket, at once
    line = await stage.line()
    assert line.socket.query_params["ticket"] == "t2"
    await line.let_in()
    await line.socket.close(4401)
    await (await stage.line()).socket.close(4401)  # the new ticket is refused as well
    assert (await stage.becomes("stopped"))["code"] == 4401
    assert await stage.tab.evaluate("asked") == 3

    for code in (4400, 4403):
        await stage.tab.open(f"{stage.url}/rooms/page")
        await (await stage.line()).socket.close(code)
        assert (await stage.becomes("stopped"))["code"] == code

    await stage.tab.open(f"{stage.url}/rooms/page")
    line = await stage.line()
    await stage.tab.evaluate("ticket = async () => { asked++; throw new Error('away') }, null")
    await line.socket.close(1011)
    waits: list[float] = []
    for tries in range(1, 9):
        await stage.tab.becomes(f"asked === {tries} && rooms.state === 'waiting'")
        waits.append((await stage.becomes("waiting"))["seconds"])
        await stage.passes(waits[-1])
    for number, seconds in enumerate(waits):
        longest = min(0.5 * 2**number, 30)
        assert longest / 2 <= seconds <= longest, "longer each time, never beyond half a minute"
    assert len({seconds / 2**number for number, seconds in enumerate(waits)}) > 1, "not in step"
    await stage.tab.becomes("asked === 9 && rooms.state === 'waiting'")
    await stage.tab.evaluate("ticket = async () => null, dispatchEvent(new Event('online')), null")
    assert (await stage.becomes("stopped"))["reason"] == "nobody is logged in"
    assert stage.lines.empty()


async def test_a_connection_that_says_nothing_is_given_up(stage: Stage) -> None:
    line = await stage.line()
    await line.let_in(epoch="e", offset=0, recovered=False)
    await stage.tab.becomes("heard.some(one => one.type === 'joined')")
    await stage.passes(25)
    assert await line.hears() == {"type": "ping"}
    await line.say({"type": "pong"}, said(1, "and a word"))
    await stage.tab.becomes("heard.some(one => one.type === 'said')")
    await stage.passes(25)
    assert await line.hears() == {"type": "ping"}, "a pong is a sign of life"
    await stage.passes(9)
    assert await stage.tab.evaluate("rooms.state") == "open"
    await stage.passes(1)
    other = await stage.next_line()  # no pong has come
    await other.let_in(epoch="e", offset=0, recovered=True)
    await stage.tab.evaluate("rooms.close(), null")
    assert (await stage.becomes("stopped"))["code"] == 1000
    assert stage.lines.empty()
    await until(lambda: other.socket.client_state.name == "DISCONNECTED")


async def test_the_service_gives_out_its_client(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, secret_key=SECRET, migrations=tmp_path)
    app = create_app(settings, Module("rooms", routers=[room_client.router()]))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://service.example"
    ) as anybody:
        answer = await anybody.get("/api/v1/rooms/client.js")
        assert (answer.status_code, answer.text) == (200, SCRIPT)
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache", "an upgrade is seen at once"
        known = {"If-None-Match": answer.headers["etag"]}
        assert (await anybody.get("/api/v1/rooms/client.js", headers=known)).status_code == 304
