"""A service with rooms on a real server, and clients of it; servers may share one Valkey."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from uuid import UUID, uuid4

import httpx2
import uvicorn
import websockets
from fastapi import APIRouter, FastAPI
from pydantic import Field
from websockets.exceptions import ConnectionClosed

from newel import room_routes
from newel.app import create_app
from newel.auth import requires
from newel.connections import ConnectionConfig
from newel.db import CurrentWork
from newel.errors import Conflict, Unauthorized, Unavailable
from newel.modules import Module
from newel.principal import Principal
from newel.room_delivery import Rooms
from newel.rooms import Visit, anyone, room
from newel.schemas import InputModel
from newel.settings import Settings

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
API = "/api/v1/rooms"


class Said(InputModel):
    type: Literal["said"] = "said"
    text: Annotated[str, Field(max_length=60_000)]


class Typing(InputModel):
    type: Literal["typing"] = "typing"


class Fail(InputModel):
    type: Literal["fail"] = "fail"
    how: Literal["expected", "unexpected"]


async def on_message(
    caller: Principal, visit: Visit, message: Said | Typing | Fail
) -> Said | Typing | None:
    match message:
        case Fail(how="expected"):
            visit.work.broadcast(visit.name, Said(text="never said"))
            raise Conflict("The chat is closed.")
        case Fail():
            raise RuntimeError("the text of an exception")
        case Typing():
            return None
        case Said():
            return message


async def is_own(caller: Principal, visit: Visit) -> bool:
    return visit.values["user_id"] == str(caller.id)


class People:
    """Who holds which token; an ``Authenticator`` that can forget them."""

    def __init__(self) -> None:
        self.tokens: dict[str, Principal] = {}
        self.looks = 0
        self.removed: set[UUID] = set()
        self.is_away = False
        self.trouble: Callable[[], Awaitable[Any]] | None = None
        self.asked: list[Visit] = []
        self.left: list[str] = []
        self.may_go = asyncio.Event()

    async def may_still_join(self, caller: Principal, visit: Visit) -> bool:
        """Admit whom nobody has removed; that changes nothing in the caller."""
        if self.is_away:
            raise Unavailable
        return caller.id not in self.removed

    async def may_join_if_asked(self, caller: Principal, visit: Visit) -> bool:
        """Admit everybody, unless there is trouble with the question."""
        self.asked.append(visit)
        if self.trouble is not None and visit.name.endswith(":trouble"):
            await self.trouble()
        return True

    async def has_left(self, caller: Principal, visit: Visit) -> None:
        """Take as long as ``may_go`` is not set."""
        self.left.append(visit.name)
        await self.may_go.wait()

    def add(self, *permissions: str, tenant_id: UUID | None = None) -> str:
        """Return the token of a new user."""
        id = uuid4()
        self.tokens[str(id)] = Principal(
            id=id, permissions=frozenset(permissions), tenant_id=tenant_id
        )
        return str(id)

    async def authenticate(self, token: str) -> Principal:
        self.looks += 1
        if token not in self.tokens:
            raise Unauthorized
        return self.tokens[token]


def _posts() -> APIRouter:
    """Routes that speak in rooms: after the commit, or never."""
    router = APIRouter(prefix="/posts")

    @router.post("/{name}")
    async def post(name: str, work: CurrentWork, caller: Annotated[Principal, requires()]) -> None:
        work.broadcast(name, Said(text="posted"))

    @router.post("/{name}/fail")
    async def fail(name: str, work: CurrentWork, caller: Annotated[Principal, requires()]) -> None:
        work.broadcast(name, Said(text="rolled back"))
        raise Conflict

    return router


def settings_of(directory: Path, **settings: Any) -> Settings:
    directory.joinpath("migrations").mkdir(exist_ok=True)
    values = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "database_url": f"sqlite+aiosqlite:///{directory}/{uuid4()}.db",
        "migrations": directory / "migrations",
        "api_limit": "100000/minute",
        **settings,
    }
    return Settings(**values)


def build(directory: Path, people: People, **settings: Any) -> FastAPI:
    kinds = [
        room("chat:{id}", Said | Typing | Fail, may_join=anyone, on_message=on_message),
        room("quiet:{id}", Said, may_join=anyone, on_message=on_message, exclude_sender=True),
        room("own:{user_id}", may_join=is_own),
        room("staff", may_join="staff:read"),
        room("club:{id}", Said, may_join=people.may_still_join, on_message=on_message),
        room("slow:{id}", may_join=anyone, on_leave=people.has_left),
        room("asked:{id}:{how}", Said, may_join=people.may_join_if_asked, on_message=on_message),
    ]
    chat = Module("chat", routers=[_posts()], rooms=kinds, authenticator=lambda _: people)
    return create_app(settings_of(directory, **settings), chat, room_routes.module())


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # the tests' own are left alone


class Served:
    """An application on a server of its own in this process."""

    def __init__(self, app: FastAPI, people: People, *, plain: bool = False) -> None:
        self.app = app
        self.people = people
        self.rooms: Rooms = app.state.rooms
        options: dict[str, Any] = {"lifespan": "on", "log_config": None, "access_log": False}
        config = uvicorn.Config(app, **options) if plain else ConnectionConfig(app, **options)
        self.server = _Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        # What a connection holds unread, so that a client who does not read is found out soon.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self.port: int = self._listener.getsockname()[1]
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.server.serve(sockets=[self._listener]))
        async with asyncio.timeout(20):
            while not self.server.started:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.app.state.draining = self.server.should_exit = True
        if self._task is not None:
            async with asyncio.timeout(30):
                await self._task

    def kill(self) -> None:
        """End every connection as a crash does; nobody can connect again."""
        for connection in list(self.server.server_state.connections):
            cast("Any", connection).transport.abort()
        for server in self.server.servers:
            server.close()

    def http(self, token: str | None = None) -> httpx2.AsyncClient:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers)

    async def ticket(self, token: str) -> str:
        async with self.http(token) as client:
            answer = await client.post(f"{API}/tickets")
        assert answer.status_code == 201, answer.text
        return answer.json()["ticket"]


@asynccontextmanager
async def served(
    directory: Path, people: People | None = None, *, plain: bool = False, **settings: Any
) -> AsyncGenerator[Served]:
    """Run the service; with the same ``people`` and ``redis_url`` it is another process of it."""
    people = people or People()
    found = Served(build(directory, people, **settings), people, plain=plain)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


class Client:
    """One websocket; what it hears is told apart by type, in order."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.frames = 0
        self._heard: list[dict[str, Any]] = []

    async def send(self, kind: str, room: str | None = None, **more: Any) -> None:
        message = {"type": kind, **more} | ({} if room is None else {"room": room})
        await self.socket.send(json.dumps(message))

    async def next(self, *kinds: str) -> dict[str, Any]:
        """Return the next message; of these kinds only, others are passed over."""
        async with asyncio.timeout(20):
            while True:
                while not self._heard:
                    found = json.loads(await self.socket.recv())
                    self.frames += 1
                    self._heard = found if isinstance(found, list) else [found]
                message = self._heard.pop(0)
                if not kinds or message["type"] in kinds:
                    return message

    async def texts(self, count: int) -> list[str]:
        """Return the texts of the next ``count`` messages that were said."""
        return [(await self.next("said"))["data"]["text"] for _ in range(count)]

    async def join(self, room: str, since: dict[str, Any] | None = None) -> dict[str, Any]:
        await self.send("join", room, **({} if since is None else {"data": since}))
        return (await self.next("joined", "error"))["data"]

    async def say(self, room: str, text: str, **more: Any) -> None:
        await self.send("said", room, data={"text": text}, **more)

    async def closed(self) -> int:
        """Return the code that the connection is closed with."""
        async with asyncio.timeout(20):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code or 0

    async def nothing_more(self) -> None:
        """Assert that nothing comes before the answer to a ping."""
        await self.send("ping")
        assert (await self.next())["type"] == "pong"


@asynccontextmanager
async def connected(
    server: Served, token: str | None = None, *, query: str = "", **options: Any
) -> AsyncGenerator[Client]:
    """A client; with a ``token`` it has introduced itself."""
    address = f"ws://127.0.0.1:{server.port}{API}/ws{query}"
    async with websockets.connect(address, proxy=None, **options) as socket:
        client = Client(socket)
        if token is not None:
            await client.send("auth", data={"token": token})
            await client.next("welcome")
        yield client


@asynccontextmanager
async def members_of(
    server: Served, room: str, count: int, **options: Any
) -> AsyncGenerator[Sequence[Client]]:
    """Several users, each in ``room``."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            token = server.people.add()
            clients.append(await stack.enter_async_context(connected(server, token, **options)))
            assert "epoch" in await clients[-1].join(room)
        yield clients
