"""The least that storing an upload can cost here: the body, as it comes, into one file."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

PLACE = Path("upload")


async def _floor(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    stores = scope["method"] == "POST"
    if stores:
        await _store(receive)
    status = 201 if stores else 404
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body"})


async def _store(receive: Receive) -> None:
    with PLACE.open("wb") as file:  # noqa: ASYNC230 - a thread would cost more, and nobody waits
        more = True
        while more:
            message = await receive()
            file.write(message.get("body", b""))
            more = message.get("more_body", False)
        file.flush()
        os.fsync(file.fileno())


async def _live(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})


def build() -> ASGIApp:
    """Return the service; it writes into the working directory."""
    return _floor
