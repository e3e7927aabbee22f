"""A service with webhooks, somebody's server that receives them, and looks at what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI
from sample_accounts import SECRET
from sample_entities import User
from sqlalchemy import select, text

from newel import accounts, webhooks
from newel.app import create_app
from newel.db import Database, Work
from newel.events import Event
from newel.modules import Module
from newel.principal import Principal
from newel.settings import Settings
from newel.webhooks import WebhookDelivery, WebhookEndpoint, send_webhooks, set_secret
from newel.worker import Worker

ROLES = {
    "user": frozenset({"webhooks:read", "webhooks:write"}),
    "reader": frozenset({"webhooks:read"}),
    "stranger": frozenset[str](),
    "admin": frozenset({"*"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItemAdded(Event):
    amount: int
    owner_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed(Event):
    name: str


class Receiver:
    """Somebody's server: keeps what it was sent, answers what it is told to."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        names = {
            line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line
        }
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append((names, body))
        status = self.answers.pop(0) if self.answers else 204
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    found = Receiver()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    async with server:
        found.port = server.sockets[0].getsockname()[1]
        yield found


async def owner_of(work: Work, event: OrderItemAdded) -> UUID | None:
    return event.owner_id


def build(
    database_url: str, directory: Path, *, hooks: Module | None = None, **settings: Any
) -> FastAPI:
    directory.joinpath("migrations").mkdir(exist_ok=True)
    values = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "database_url": database_url,
        "migrations": directory / "migrations",
        "webhook_networks": "127.0.0.1/32",
        **settings,
    }
    hooks = hooks or webhooks.module(OrderItemAdded, Renamed, owner_of=owner_of)
    return create_app(Settings(**values), accounts.module(User, roles=ROLES), hooks)


class World:
    def __init__(self, app: FastAPI, owner: UUID, receiver: Receiver) -> None:
        self.app = app
        self.owner = owner
        self.receiver = receiver
        self.database: Database = app.state.database

    async def endpoint(self, *events: str, url: str | None = None) -> tuple[UUID, str]:
        """Add an endpoint; return its id and its secret."""
        async with self.database.write(Principal(id=self.owner)) as work:
            endpoint = WebhookEndpoint(
                owner_id=self.owner, url=url or self.receiver.url, events=list(events)
            )
            secret = set_secret(endpoint, self.app.state.keys)
            work.session.add(endpoint)
        return endpoint.id, secret

    async def send(self, event: Event | None = None) -> list[UUID]:
        async with self.database.write(None) as work, work.as_system("tell"):
            event = event or OrderItemAdded(id=uuid4(), amount=5)
            return list(await send_webhooks(work, event, owner_id=self.owner))

    async def work_off(self) -> None:
        await Worker(self.app, self.app.state.background).drain()

    async def hurry(self) -> None:
        """Make what waits for its retry due."""
        async with self.database.write(None) as work, work.as_system("hurry"):
            await work.session.execute(text("UPDATE jobs SET run_at = created_at"))

    async def messages(self) -> list[WebhookDelivery]:
        async with self.database.read(None) as work, work.as_system("look"):
            query = select(WebhookDelivery).order_by(WebhookDelivery.id)
            return list(await work.session.scalars(query))

    async def is_active(self) -> bool:
        async with self.database.read(None) as work, work.as_system("look"):
            [endpoint] = await work.session.scalars(select(WebhookEndpoint))
            return endpoint.is_active
