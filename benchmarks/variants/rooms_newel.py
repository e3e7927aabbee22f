"""newel's rooms, served as `newel serve` serves them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Literal
from uuid import UUID

import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.rooms_load import Talk
from newel import room_routes, serve
from newel.app import create_app
from newel.auth import Authenticator
from newel.modules import Module
from newel.principal import Principal
from newel.rooms import Visit, anyone, room
from newel.settings import Settings

CONNECTIONS_OF_A_USER = 20


class Ask(BaseModel):
    """What a client sends: what is to be said, and how often."""

    type: Literal["message"] = "message"
    content: str
    times: int


class Said(BaseModel):
    """What is said in the room."""

    type: Literal["message"] = "message"
    content: str


class Numbered:
    """Takes a number for a token: the others know nobody at all."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {}

    async def authenticate(self, token: str) -> Principal:
        """Return the user of that number, remembered as `accounts` remembers them."""
        if token not in self.known:
            self.known[token] = Principal(id=UUID(int=int(token)))
        return self.known[token]


async def say(_caller: Principal, visit: Visit, message: Ask) -> Said:
    """Say it as often as was asked for: all but once by the service, once by the client."""
    said = Said(content=message.content)
    for _ in range(message.times - 1):
        visit.work.broadcast(visit.name, said)
    return said


def authenticator(_app: FastAPI) -> Authenticator:
    """Return who knows the clients."""
    return Numbered()


def build(directory: Path) -> FastAPI:
    """Return the service; nothing but its rooms."""
    settings = Settings(
        _env_file=None,
        secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ",  # noqa: S106 - of this run alone
        database_url=f"sqlite+aiosqlite:///{directory}/data.db",
        migrations=directory,
        role="web",
        api_limit="1000000/minute",  # all clients come from one address
    )
    bench = room("bench", Ask, may_join=anyone, on_message=say, exclude_sender=True)
    return create_app(
        settings,
        room_routes.module(),
        Module("bench", rooms=[bench], authenticator=authenticator),
    )


def talk(port: int, content: str, *, clients: int) -> Talk:
    """Return how so many clients speak to it."""
    auth = '{"type":"auth","data":{"token":"{token}"}}'
    return Talk(
        port=port,
        path="/api/v1/rooms/ws",
        steps=[(auth, '"welcome"'), ('{"type":"join","room":"bench"}', '"joined"')],
        message=f'{{"type":"message","room":"bench","data":{content}}}',
        tokens=[str(number // CONNECTIONS_OF_A_USER + 1) for number in range(clients)],
    )


def main(port: str) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve.run(build(Path(directory)), host="127.0.0.1", port=int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
