"""What every operation must refuse, read from the API docs: what is added later counts too."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

pytestmark = pytest.mark.anyio

Api = dict[str, Any]
NO_ID = "00000000-0000-0000-0000-000000000000"
PUBLIC = ["GET /api/v1/files/shared/{signed}"]


@pytest.fixture
def operations(app: FastAPI) -> Api:
    """Everything but log-in and chats and what is public, by ``GET /api/v1/users``."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/api/v1/") and "/auth/" not in path and "/rooms/" not in path
        if f"{method.upper()} {path}" not in PUBLIC
    }


async def send(client: AsyncClient, names: Iterable[str], id: str = NO_ID, query: str = "") -> Any:
    requests = {name: re.sub(r"{\w+}", id, name).split(" ") for name in names}
    assert requests
    return {
        name: (await client.request(method, f"{path}?{query}")).status_code
        for name, (method, path) in requests.items()
    }


async def test_who_is_not_logged_in_is_refused(client: AsyncClient, operations: Api) -> None:
    assert await send(client, operations) == dict.fromkeys(operations, 401)


async def test_who_has_no_permission_is_refused(nobody: AsyncClient, operations: Api) -> None:
    assert await send(nobody, operations) == dict.fromkeys(operations, 403)


async def test_a_malformed_id_is_refused(admin: AsyncClient, operations: Api) -> None:
    names = [name for name in operations if "{" in name]
    assert await send(admin, names, id="x") == dict.fromkeys(names, 422)


@pytest.mark.parametrize("query", ["page=0", "page_size=-1", "page_size=101", "sort=x", "x=1"])
async def test_a_wrong_query_is_refused(admin: AsyncClient, operations: Api, query: str) -> None:
    names = [name for name in operations if "page_size" in str(operations[name])]
    assert await send(admin, names, query=query) == dict.fromkeys(names, 422)
