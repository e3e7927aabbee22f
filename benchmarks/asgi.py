"""Calls an application through ASGI in this process: what a request costs without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Client:
    """Asks ``app`` as a server would; with a bearer token where there is one."""

    app: Any
    token: str = ""

    async def ask(self, method: str, target: str, body: bytes = b"") -> int:
        """Return the status of the answer."""
        path, _, query = target.partition("?")
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": self._headers(body),
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        seen: list[int] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Mapping[str, Any]:
            if not parts:
                await asyncio.Event().wait()  # nobody hangs up
            return parts.pop()

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen.append(message["status"])

        await self.app(scope, receive, send)
        return seen[0]

    def _headers(self, body: bytes) -> list[tuple[bytes, bytes]]:
        headers = [(b"host", b"127.0.0.1")]
        if self.token:
            headers.append((b"authorization", f"Bearer {self.token}".encode()))
        if body:
            headers += [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ]
        return headers


@asynccontextmanager
async def living(app: Any) -> AsyncGenerator[None]:
    """Start ``app``, and stop it after the block, as a server would."""
    said, heard = asyncio.Queue[Mapping[str, Any]](), asyncio.Queue[Mapping[str, Any]]()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.create_task(app(scope, said.get, heard.put))

    async def tell(what: str) -> None:
        said.put_nowait({"type": f"lifespan.{what}"})
        answer = await heard.get()
        if answer["type"] != f"lifespan.{what}.complete":
            raise RuntimeError(answer.get("message"))

    await tell("startup")
    yield
    await tell("shutdown")
    await life
