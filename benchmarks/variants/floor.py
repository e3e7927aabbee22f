"""The least that this work can cost in Python: raw ASGI, hand-written SQL on the bare driver.

Nobody should write a service so. It is the unit in which the other variants are measured.
"""

from __future__ import annotations

import base64
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from benchmarks.variants.environment import Environment
from benchmarks.variants.floor_stores import PostgresStore, SQLiteStore
from benchmarks.variants.schemas import AgentCreate, AgentUpdate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

M = TypeVar("M", bound=BaseModel)

PATH = "/api/v1/agents"
JSON = (b"content-type", b"application/json")


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Floor:
    """The application: a lifespan that opens the database, and five operations."""

    def __init__(self, environment: Environment) -> None:
        self._key = environment.token_key
        self._issuer = environment.issuer
        postgres = environment.database_url.startswith("postgresql")
        self._store: Any = (PostgresStore if postgres else SQLiteStore)(environment.database_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            status, body = await self._answer(scope, receive)
        except Refused as refused:
            status, body = refused.status, b'{"detail":"refused"}'
        length = (b"content-length", b"%d" % len(body))
        headers = [length, JSON] if body else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._store.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        path, method = scope["path"], scope["method"]
        user_id = await self._authenticate(scope["headers"])
        if path == PATH:
            if method == "GET":
                return 200, await self._list(user_id, scope["query_string"])
            if method == "POST":
                data = _parsed(AgentCreate, await _body(receive))
                return 201, to_json(await self._store.insert(user_id, data.model_dump()))
            raise Refused(405)
        if not path.startswith(f"{PATH}/"):
            raise Refused(404)
        return await self._one(method, user_id, _uuid(path[len(PATH) + 1 :]), receive)

    async def _one(
        self, method: str, user_id: uuid.UUID, agent_id: uuid.UUID, receive: Receive
    ) -> tuple[int, bytes]:
        if method == "GET":
            found = await self._store.get(user_id, agent_id)
        elif method == "PATCH":
            data = _parsed(AgentUpdate, await _body(receive)).model_dump(exclude_unset=True)
            found = await self._store.update(user_id, agent_id, data)
        elif method == "DELETE":
            found = await self._store.delete(user_id, agent_id)
        else:
            raise Refused(405)
        if found is None:
            raise Refused(404)
        return (204, b"") if method == "DELETE" else (200, to_json(found))

    async def _list(self, user_id: uuid.UUID, query: bytes) -> bytes:
        asked = parse_qs(query)
        page, size = int(asked.get(b"page", [1])[0]), int(asked.get(b"page_size", [20])[0])
        if page < 1 or not 1 <= size <= 100:
            raise Refused(422)
        items, total = await self._store.page(user_id, size, (page - 1) * size)
        pages = -(-total // size)
        answer = {"items": items, "total": total, "page": page, "page_size": size, "pages": pages}
        return to_json(answer)

    async def _authenticate(self, headers: list[tuple[bytes, bytes]]) -> uuid.UUID:
        for name, value in headers:
            if name == b"authorization" and value.startswith(b"Bearer "):
                claims = self._claims(value[7:])
                user_id = uuid.UUID(claims["sub"])
                if await self._store.is_live(user_id, uuid.UUID(claims["sid"])):
                    return user_id
        raise Refused(401)

    def _claims(self, token: bytes) -> dict[str, Any]:
        signed, _, signature = token.rpartition(b".")
        good = hmac.compare_digest(hmac.digest(self._key, signed, "sha256"), _decoded(signature))
        header, _, payload = signed.partition(b".")
        if not good or from_json(_decoded(header))["alg"] != "HS256":
            raise Refused(401)
        claims: dict[str, Any] = from_json(_decoded(payload))
        if claims["exp"] <= time.time() or claims["iss"] != self._issuer:
            raise Refused(401)
        return claims


def _decoded(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError as error:
        raise Refused(401) from error


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise Refused(422) from error


def _parsed(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(422) from error


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def build() -> Floor:
    """Return the application."""
    return Floor(Environment.read())
