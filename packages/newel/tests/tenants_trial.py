"""A service whose users belong to tenants, run by test_accounts in a process of its own.

A process has one table ``users``, and the other tests have theirs without tenants.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx2
from fastapi import APIRouter
from pydantic import SecretStr
from sqlalchemy import select

from newel import accounts
from newel.app import create_app
from newel.auth import requires
from newel.db import CurrentWork
from newel.entity import Entity, Tenanted
from newel.identity import Account
from newel.modules import Module
from newel.settings import Settings


class User(Account, Tenanted):
    __tablename__ = "users"


router = APIRouter()


@router.get("/colleagues", dependencies=[requires("users:all")])
async def colleagues(work: CurrentWork) -> list[str]:
    return list(await work.session.scalars(select(User.email)))


async def main(directory: Path) -> list[Any]:
    """Return what each request was answered with."""
    seen: list[Any] = []
    directory.joinpath("migrations").mkdir()
    settings = Settings(
        _env_file=None,
        secret_key=SecretStr("0123456789abcdefghijklmnopqrstuvwxyz"),
        database_url=f"sqlite+aiosqlite:///{directory}/tenants.db",
        migrations=directory / "migrations",
        log_level="ERROR",
    )
    roles = {"user": frozenset[str](), "admin": frozenset({"*"})}
    module = accounts.module(User, roles=roles)
    app = create_app(settings, module, Module(name="colleagues", routers=[router]))
    async with app.state.database.engine.begin() as connection:
        await connection.run_sync(Entity.metadata.create_all)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://test/api/v1") as client:
        password = "correct horse battery"
        await accounts.create_administrator(app, email="ann@example.com", password=password)
        body = {"email": "bob@example.com", "password": password}
        made = await client.post("/auth/register", json=body)
        seen.append(made.status_code)
        for email in ("ann@example.com", "bob@example.com"):
            form = {"username": email, "password": password}
            tokens = (await client.post("/auth/login", data=form)).json()
            headers = {"authorization": f"Bearer {tokens['access_token']}"}
            seen.append((await client.get("/auth/me", headers=headers)).json()["email"])
            answer = await client.get("/colleagues", headers=headers)
            seen.append(answer.json() if answer.is_success else answer.status_code)
            again = {"refresh_token": tokens["refresh_token"]}
            seen.append((await client.post("/auth/refresh", json=again)).status_code)
    await app.state.database.close()
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
