"""An application with the routes of jobs, and callers who are known by their tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
from fastapi import FastAPI

from newel import job_routes
from newel.app import create_app
from newel.auth import ACCESS_COOKIE
from newel.db import Database
from newel.errors import Unauthorized
from newel.jobs import Job
from newel.modules import Module
from newel.principal import Principal
from newel.settings import Settings

ANN, BOB = Principal(id=uuid4()), Principal(id=uuid4())
OPERATOR = Principal(id=uuid4(), permissions=frozenset({"jobs:all"}))
TENANT = Principal(id=uuid4(), permissions=frozenset({"*"}), tenant_id=uuid4())
_CALLERS = {"ann": ANN, "bob": BOB, "operator": OPERATOR, "tenant": TENANT}


class ByToken:
    async def authenticate(self, token: str) -> Principal:
        if token not in _CALLERS:
            raise Unauthorized
        return _CALLERS[token]


def build(database: Database, *jobs: Job[..., Any], more: Sequence[Module] = ()) -> FastAPI:
    settings = Settings(
        _env_file=None,
        secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ",
        environment="test",
        auth_cookies=True,
        api_limit="10000/minute",
    )
    who: Callable[[FastAPI], Any] = lambda _app: ByToken()  # noqa: E731 - a value of Module
    sample = Module("sample", jobs=jobs, authenticator=who)
    app = create_app(settings, sample, job_routes.module(), *more)
    app.state.database = database
    app.state.checks = {}
    return app


@asynccontextmanager
async def client(app: FastAPI, name: str | None) -> AsyncGenerator[httpx2.AsyncClient]:
    """Call as ``name``, by header; without a name, as nobody."""
    headers = {} if name is None else {"Authorization": f"Bearer {name}"}
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="https://test", headers=headers
    ) as found:
        yield found


@asynccontextmanager
async def browser(app: FastAPI, name: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """Call as ``name`` does in a browser: by cookie, with the Origin of our own pages."""
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="https://test", cookies={ACCESS_COOKIE: name}
    ) as found:
        yield found


async def enqueue(database: Database, caller: Principal | None, job: Job[..., Any]) -> UUID:
    async with database.write(caller) as work:
        return work.enqueue(job)
