"""The same room by python-socketio, as its guide shows it, behind uvicorn."""

from __future__ import annotations

from typing import Any

import socketio

ROOM = "bench"


def build() -> socketio.ASGIApp:
    """Return the service; whoever connects is in the room."""
    server = socketio.AsyncServer(async_mode="asgi")

    @server.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        await server.enter_room(sid, ROOM)

    @server.event
    async def message(sid: str, data: dict[str, Any]) -> None:
        for _ in range(data["times"]):
            await server.emit("message", data, room=ROOM, skip_sid=sid)

    return socketio.ASGIApp(server)
