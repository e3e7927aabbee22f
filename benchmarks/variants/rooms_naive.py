"""A room as one writes it first: a list of websockets, and ``send_json`` in a loop over it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect


class ConnectionManager:
    """Who is in which room."""

    def __init__(self) -> None:
        self.rooms: dict[str, list[WebSocket]] = {}

    async def connect(self, websocket: WebSocket, room_id: str) -> None:
        await websocket.accept()
        self.rooms.setdefault(room_id, []).append(websocket)

    def disconnect(self, websocket: WebSocket, room_id: str) -> None:
        self.rooms[room_id].remove(websocket)

    async def broadcast_to_room(
        self, message: dict[str, Any], room_id: str, exclude: WebSocket | None = None
    ) -> None:
        for websocket in self.rooms[room_id]:
            if websocket is not exclude:
                await websocket.send_json(message)


def build() -> FastAPI:
    """Return the service."""
    app = FastAPI()
    manager = ConnectionManager()

    @app.websocket("/chat/{room_id}")
    async def chat(  # pyright: ignore[reportUnusedFunction] # FastAPI calls it
        websocket: WebSocket, room_id: str
    ) -> None:
        await manager.connect(websocket, room_id)
        try:
            while True:
                said = await websocket.receive_json()
                message = {
                    "type": "message",
                    "data": {"content": said["content"], "user": said.get("user", "Anonymous")},
                    "timestamp": datetime.now(UTC).isoformat(),
                }
                for _ in range(said["times"]):
                    await manager.broadcast_to_room(message, room_id, exclude=websocket)
        except WebSocketDisconnect:
            manager.disconnect(websocket, room_id)

    return app
