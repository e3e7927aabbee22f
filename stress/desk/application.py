"""A help desk: tickets, users' papers, a line and a room to talk; all that a stranger can abuse."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, FastAPI, WebSocket
from pydantic import Field
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from newel import accounts, file_routes, room_routes
from newel.app import create_app
from newel.auth import public
from newel.db import CurrentWork
from newel.entity import Entity
from newel.identity import Account
from newel.middleware import default_middleware
from newel.modules import Module
from newel.principal import Principal
from newel.rooms import Visit, anyone, room
from newel.schemas import InputModel
from newel.settings import Settings
from newel.uploads import FileRules
from stress.desk import sabotage

__all__ = ["DeskSettings", "DeskUser", "Ticket", "build"]

UPLOAD_BYTES = 10 * 1024 * 1024


class DeskSettings(Settings):
    """``sabotage`` names guards that are left out, separated by commas."""

    sabotage: str = ""


class DeskUser(Account):
    """Somebody who keeps papers here."""

    __tablename__ = "users"


class Ticket(Entity):
    """A question."""

    __tablename__ = "desk_tickets"

    text: Mapped[str] = mapped_column(String(2000))


class TicketCreate(InputModel):
    """What somebody asks."""

    text: Annotated[str, Field(min_length=1, max_length=2000)]
    urgency: Annotated[int, Field(ge=0, le=9)] = 0


class Said(InputModel):
    """What somebody says in the hall."""

    type: Literal["said"] = "said"
    text: Annotated[str, Field(max_length=60_000)]


async def say(_caller: Principal, _visit: Visit, message: Said) -> Said:
    """Say it to everybody."""
    return message


router = APIRouter(dependencies=[public()])


@router.post("/tickets", status_code=201)
async def open_ticket(data: TicketCreate, work: CurrentWork) -> dict[str, str]:
    """Open a ticket."""
    ticket = Ticket(text=data.text)
    work.session.add(ticket)
    return {"id": str(ticket.id)}


@router.get("/tickets/{ticket_id}")
async def read_ticket(ticket_id: UUID, work: CurrentWork) -> dict[str, Any]:
    """Read a ticket."""
    ticket = await work.session.get_one(Ticket, ticket_id)
    return {"id": str(ticket.id), "text": ticket.text}


@router.websocket("/line")
async def line(websocket: WebSocket) -> None:
    """Answer how long each message was."""
    await websocket.accept()
    while True:
        await websocket.send_text(str(len(await websocket.receive_text())))


def build(settings: DeskSettings) -> FastAPI:
    """Return the desk's application, without the guards that are sabotaged."""
    planted = sabotage.named(settings.sabotage)
    users = accounts.module(DeskUser, roles={"user": frozenset({"files:read", "files:write"})})
    upload_bytes = max([UPLOAD_BYTES, *(one.upload_bytes for one in planted)])
    papers = file_routes.module(FileRules(max_bytes=upload_bytes))
    hall = room("hall", Said, may_join=anyone, on_message=say)
    tickets = Module("tickets", routers=[router], rooms=[hall])
    parts = (users, papers, tickets, room_routes.module())
    left_out: set[Any] = {kind for one in planted for kind in one.left_out}
    chain = [one for one in default_middleware(settings) if one.cls not in left_out]
    app = create_app(settings, *parts, middleware=chain, title="desk")
    app.router.lifespan_context = _with_tables(app.router.lifespan_context)
    for one in planted:
        one.plant(app)
    return app


def _with_tables(lifespan: Any) -> Any:
    """Return ``lifespan`` after the tables have been made: the harness knows no users."""

    @asynccontextmanager
    async def started(app: FastAPI) -> AsyncGenerator[None]:
        async with app.state.database.engine.begin() as connection:
            await connection.run_sync(Entity.metadata.create_all)
        async with lifespan(app):
            yield

    return started
