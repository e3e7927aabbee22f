"""A service with users' files, and looks at what lies in its folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from sample_accounts import SECRET
from sample_entities import User
from sqlalchemy import func, select

from newel import accounts, file_routes
from newel.app import create_app
from newel.clock import utc_now
from newel.files import StoredFile
from newel.settings import Settings
from newel.testing import FrozenClock, KnownUser, log_in, make_user
from newel.uploads import FileRules

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
RIGHTS = frozenset({"files:read", "files:write"})
ROLES = {"user": RIGHTS, "reader": frozenset({"files:read"}), "admin": frozenset({"*"})}
RULES = FileRules(max_bytes=200_000, quota_bytes=300_000, most_at_once=3)
"""Of one file and of all of a user's."""


class World:
    def __init__(self, app: FastAPI, folder: Path) -> None:
        self.app = app
        self.folder = folder

    @asynccontextmanager
    async def user(self, role: str = "user") -> AsyncGenerator[httpx2.AsyncClient]:
        known: KnownUser = await make_user(self.app, roles=[role], password="a-long-password-1")
        async with self.anybody(**await log_in(self.app, known)) as client:
            yield client

    def anybody(self, **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(
            transport=transport, base_url="https://test/api/v1", headers=headers
        )

    def stored(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    async def rows(self) -> int:
        database = self.app.state.database
        return (await database.rows(select(func.count()).select_from(StoredFile), {}))[0][0]


@asynccontextmanager
async def running(
    database_url: str, tmp_path: Path, rules: FileRules = RULES, storage: Path | None = None
) -> AsyncGenerator[World]:
    tmp_path.joinpath("migrations").mkdir()
    folder = storage or tmp_path / "files"
    settings = Settings(
        _env_file=None,
        secret_key=SECRET,
        environment="test",
        database_url=database_url,
        migrations=tmp_path / "migrations",
        storage_url=f"file:{folder}",
        login_limit="1000/minute",
    )
    app = create_app(
        settings,
        accounts.module(User, roles=ROLES),
        file_routes.module(rules),
        clock=FrozenClock(utc_now()),
    )
    async with LifespanManager(app):
        yield World(app, folder)


def form(content: bytes = PNG, name: str = "photo.png") -> Mapping[str, Any]:
    return {"files": {"file": (name, content, "application/x-whatever")}}
