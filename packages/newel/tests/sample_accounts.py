"""A service with accounts, whose time stands still, and clients of it at addresses of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
from fastapi import APIRouter, FastAPI, UploadFile, WebSocket
from pydantic import Field
from sample_apps import borrowed
from sample_entities import User
from sqlalchemy import select, update

from newel import accounts, job_routes
from newel.app import create_app
from newel.auth import limit, public, require_role, requires
from newel.db import Database
from newel.events import OutboxEvent
from newel.identity import AuthSession
from newel.limits import Decision, MemoryLimiter, Rate
from newel.modules import Module
from newel.principal import Principal
from newel.schemas import InputModel, Text, omittable
from newel.settings import Settings
from newel.testing import FrozenClock

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
EMAIL = "ann@example.com"
PASSWORD = "correct horse battery"
AUTH = "/api/v1/auth"
ROLES = {
    "user": frozenset({"agents:read", "agents:write"}),
    "reader": frozenset({"agents:read"}),
    "admin": frozenset({"*"}),
}

FullName = Annotated[Text, Field(max_length=100)]


class NewUser(accounts.Register):
    full_name: FullName | None = None


class UserUpdate(InputModel):
    full_name: FullName = omittable()


class UserRead(accounts.AccountRead):
    full_name: str | None


class Unlimited:
    """A limiter that lets everything pass: what is measured or raced must not be slowed down."""

    async def hit(self, key: str, rate: Rate, *, cost: int = 1) -> Decision:
        return Decision(
            allowed=True,
            limit=rate.limit,
            period_seconds=rate.period_seconds,
            remaining=rate.limit,
            retry_after_seconds=0,
            reset_after_seconds=0,
        )

    async def reset(self, key: str) -> None:
        pass


class World:
    """The application, its time, its database, and clients."""

    def __init__(self, app: FastAPI, clock: FrozenClock, stack: AsyncExitStack) -> None:
        self.app = app
        self.clock = clock
        self.database: Database = app.state.database
        self._stack = stack
        self._seconds = 1000.0
        app.state.limiter = MemoryLimiter(monotonic=lambda: self._seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass, for tokens and for limits."""
        self._seconds += seconds
        self.clock.move(seconds=seconds)

    async def client(self, ip: str = "192.0.2.1", **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.app, client=(ip, 50_000), raise_app_exceptions=False)
        return await self._stack.enter_async_context(
            httpx2.AsyncClient(transport=transport, base_url="https://test", headers=headers)
        )

    async def register(self, email: str = EMAIL, **fields: Any) -> httpx2.Response:
        client = await self.client()
        body = {"email": email, "password": PASSWORD, **fields}
        return await client.post(f"{AUTH}/register", json=body)

    async def log_in(
        self, email: str = EMAIL, password: str = PASSWORD, *, ip: str = "192.0.2.1"
    ) -> httpx2.Response:
        client = await self.client(ip)
        form = {"username": email, "password": password}
        return await client.post(f"{AUTH}/login", data=form)

    async def member(self, email: str = EMAIL, *, ip: str = "192.0.2.1") -> httpx2.AsyncClient:
        """Return a client that is logged in; ``x-refresh`` among its headers is its token."""
        await self.register(email)
        return await self.logged_in(email, ip=ip)

    async def logged_in(self, email: str = EMAIL, *, ip: str = "192.0.2.1") -> httpx2.AsyncClient:
        tokens = (await self.log_in(email, ip=ip)).json()
        client = await self.client(ip, authorization=f"Bearer {tokens['access_token']}")
        client.headers["x-refresh"] = tokens.get("refresh_token", "")
        return client

    async def refresh(self, token: str) -> httpx2.Response:
        client = await self.client()
        return await client.post(f"{AUTH}/refresh", json={"refresh_token": token})

    async def users(self) -> list[User]:
        return await self._all(User)

    async def user(self) -> User:
        [found] = await self.users()
        return found

    async def sessions(self) -> list[AuthSession]:
        return await self._all(AuthSession)

    async def events(self) -> list[str]:
        return [event.name for event in await self._all(OutboxEvent)]

    async def change_user(self, **values: Any) -> None:
        async with self.database.write(None) as work, work.as_system("arrange"):
            await work.session.execute(update(User).values(**values))

    async def _all(self, entity: type[Any]) -> list[Any]:
        async with self.database.read(None) as work, work.as_system("look"):
            return list(await work.session.scalars(select(entity).order_by(entity.id)))


def agents_module() -> Module:
    """Routes that ask for one thing each."""
    router = APIRouter(prefix="/agents")

    @router.get("", dependencies=[requires("agents:read")])
    async def list_agents() -> str:
        return "agents"

    @router.post("", dependencies=[requires("agents:write")])
    async def create_agent() -> str:
        return "created"

    @router.post("/form", dependencies=[requires("agents:write")])
    async def take_form(file: UploadFile) -> str | None:
        return file.filename

    @router.get("/who")
    async def who(caller: Annotated[Principal, requires()]) -> dict[str, Any]:
        return {
            "id": str(caller.id),
            "roles": sorted(caller.roles),
            "permissions": sorted(caller.permissions),
            "tenant_id": caller.tenant_id and str(caller.tenant_id),
        }

    @router.get("/open")
    async def open_to_all(caller: Annotated[Principal, public()]) -> bool:
        return caller.is_authenticated

    @router.get("/admins", dependencies=[require_role("admin", "reader")])
    async def admins() -> str:
        return "admins"

    @router.websocket("/socket")
    async def socket(
        socket: WebSocket, caller: Annotated[Principal, requires("agents:read")]
    ) -> None:
        await socket.accept()
        await socket.send_text(str(caller.id))
        await socket.close()

    return Module("agents", routers=[router, _counted_routes()])


def _counted_routes() -> APIRouter:
    """Routes that count who calls them."""
    router = APIRouter(prefix="/agents")

    @router.get("/by-principal", dependencies=[public(), limit("2/minute")])
    async def by_principal() -> str:
        return "limited"

    @router.get("/by-ip", dependencies=[public(), limit("2/minute", by="ip")])
    async def by_ip() -> str:
        return "limited"

    twice = [public(), limit("2/minute", by="ip"), limit("2/minute", by=lambda _: "everybody")]

    @router.get("/by-two", dependencies=twice)
    async def by_two() -> str:
        return "limited"

    @router.get("/asked-twice", dependencies=[requires(), require_role("reader")])
    async def asked_twice() -> str:
        return "counted once"

    for name, limited in {
        "by-ip-too": limit("2/minute", by="ip"),
        "by-key": limit("6/minute", by=lambda asked: asked.headers.get("x-key", ""), cost=3),
    }.items():
        router.get(f"/{name}", name=name, dependencies=[public(), limited])(by_ip)

    return router


_OF_THE_MODULE = {"register", "read", "update", "administrator_role", "mails"}


def build(database_url: str, directory: Path, **choices: Any) -> tuple[FastAPI, FrozenClock]:
    """Return the application; ``choices`` are settings and arguments of ``accounts.module``.

    With ``pages`` it has those of jobs.
    """
    chosen = {name: value for name, value in choices.items() if name in _OF_THE_MODULE}
    more = [job_routes.module()] if choices.pop("pages", False) else []
    settings = {name: value for name, value in choices.items() if name not in chosen}
    directory.joinpath("migrations").mkdir(exist_ok=True)
    clock = FrozenClock()
    values = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "database_url": database_url,
        "migrations": directory / "migrations",
        **settings,
    }
    fields: dict[str, Any] = {"register": NewUser, "read": UserRead, "update": UserUpdate}
    module = accounts.module(User, roles=ROLES, **{**fields, **chosen})
    return create_app(Settings(**values), module, agents_module(), *more, clock=clock), clock


def _build(chosen: tuple[str, Path, tuple[tuple[str, Any], ...]]) -> FastAPI:
    database_url, directory, choices = chosen
    return build(database_url, directory, **dict(choices))[0]


@asynccontextmanager
async def open_world(database_url: str, directory: Path, **choices: Any) -> AsyncGenerator[World]:
    """Run the application of ``build``, or one like it that a test before this has built."""
    chosen = (database_url, directory.parent, tuple(sorted(choices.items())))
    async with AsyncExitStack() as stack:
        app = stack.enter_context(borrowed(_build, chosen))
        await stack.enter_async_context(app.router.lifespan_context(app))
        yield World(app, app.state.clock, stack)
