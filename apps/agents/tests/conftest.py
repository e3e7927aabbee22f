"""What the tests share; most of it is newel.testing's."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient
from newel import testing
from newel.testing import MakeApp, make_user

from agent_management.application import build
from agent_management.settings import Settings

pytest_plugins = ["newel.testing"]

LogIn = Callable[..., Awaitable[AsyncClient]]


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> MakeApp:
    own: dict[str, Any] = {
        "_env_file": None,
        "environment": "test",
        "secret_key": secrets.token_hex(32),
        "migrations": Path(__file__).parents[1] / "migrations",
        "api_limit": "100000/minute",
        "storage_url": f"file:{tmp_path_factory.mktemp('files')}",
    }
    return lambda **settings: build(Settings(**own, **settings))


@pytest.fixture
def log_in(app: FastAPI, client: AsyncClient) -> LogIn:
    """Return what makes a user with some roles and a client that is logged in as them."""

    async def log_in(*roles: str) -> AsyncClient:
        headers = await testing.log_in(app, await make_user(app, roles=roles))
        return AsyncClient(transport=ASGITransport(app), base_url="http://test", headers=headers)

    return log_in


def client_of(*roles: str) -> Any:
    @pytest.fixture
    async def log_in_once(log_in: LogIn) -> AsyncClient:
        return await log_in(*roles)

    return log_in_once


owner, stranger = client_of("user"), client_of("user")
reader, nobody, admin = client_of("reader"), client_of(), client_of("admin")
