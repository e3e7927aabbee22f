"""newel's own routes of files, served as `newel serve` serves them; `STORAGE_URL` says where to."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID

import uvloop
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from newel import file_routes, serve
from newel.app import create_app
from newel.auth import Authenticator
from newel.entity import Entity
from newel.modules import Module
from newel.principal import Principal
from newel.settings import Settings
from newel.uploads import FileRules

CALLER = Principal(id=UUID(int=1), permissions=frozenset({"files:write"}))
RULES = FileRules(max_bytes=200_000_000)


class User(Entity):
    """Whom files belong to."""

    __tablename__ = "users"


class Known:
    """Takes any token: the others ask for none."""

    async def authenticate(self, token: str) -> Principal:
        """Return the one user."""
        del token
        return CALLER


def authenticator(_app: FastAPI) -> Authenticator:
    """Return who knows the client."""
    return Known()


async def build() -> FastAPI:
    """Return the service with its tables and its user, all in the working directory."""
    settings = Settings(
        _env_file=None,
        secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ",  # noqa: S106 - of this run alone
        database_url="sqlite+aiosqlite:///data.db",
        migrations=Path("migrations"),
        role="web",
        api_limit="1000000/minute",
    )
    app = create_app(
        settings, file_routes.module(RULES), Module("users", authenticator=authenticator)
    )
    async with app.state.database.engine.begin() as connection:
        await connection.run_sync(User.metadata.create_all)
        async with AsyncSession(connection, autoflush=False) as session:
            user = User()
            user.id = CALLER.user_id
            session.add(user)
            await session.flush()
    return app


async def main(port: str) -> None:
    await serve.run(await build(), host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    Path("migrations").mkdir()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
