"""WS002: sockets that have gone are not let go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_RECEIVES: Final = frozenset({"receive_text", "receive_json", "receive_bytes"})
_SENDS: Final = frozenset({"send_text", "send_json", "send_bytes"})
_CAUGHT: Final = frozenset(
    {"WebSocketDisconnect", "Exception", "BaseException", "RuntimeError", "ConnectionClosed"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find endless receiving without a handler, and loops that the first dead socket ends."""
    for route in review.routes:
        function = review.function(route.endpoint) if route.kind == "websocket" else None
        for line in _unhandled(function) if function is not None else ():
            yield RULE.found(
                "nobody handles the client's leaving: it ends the handler with an exception",
                file=function.file if function else None,
                line=line,
                route=route.label,
            )
    for function, reach in review.served.items():
        for line in _fragile(function):
            yield RULE.found(
                "the first socket that has gone keeps the message from those after it",
                file=function.file,
                line=line,
                route=reach.route,
            )


def _unhandled(function: Function) -> Iterator[int]:
    """Yield the lines of an endpoint that wait for messages in a loop, outside every `try`."""
    if any(isinstance(node, ast.AsyncWith | ast.With) for node in function.nodes):
        return  # what is entered there may handle it
    handled = {
        id(inner)
        for node in function.nodes
        if isinstance(node, ast.Try) and (_catches(node) or node.finalbody)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for loop in function.nodes:
        if isinstance(loop, ast.While) and id(loop) not in handled:
            calls = [node for node in ast.walk(loop) if _receives(node) and id(node) not in handled]
            yield from (getattr(call, "lineno", loop.lineno) for call in calls[:1])


def _fragile(function: Function) -> Iterator[int]:
    """Yield the lines that send to each of several sockets without a `try` of its own."""
    if "WebSocket" not in function.module.text:
        return
    for loop in function.nodes:
        if not isinstance(loop, ast.For):
            continue
        names = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
        guarded = {
            id(inner)
            for node in ast.walk(loop)
            if isinstance(node, ast.Try) and node.handlers
            for inner in ast.walk(node)
        }
        for node in ast.walk(loop):
            if _sends_to(node, names) and id(node) not in guarded:
                yield getattr(node, "lineno", loop.lineno)


def _sends_to(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Await(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method))):
            return name in names and method in _SENDS
        case _:
            return False


def _receives(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _RECEIVES
        case _:
            return False


def _catches(node: ast.Try) -> bool:
    for handler in node.handlers:
        if handler.type is None:
            return True
        names = {getattr(n, "attr", None) or getattr(n, "id", "") for n in ast.walk(handler.type)}
        if names & _CAUGHT:
            return True
    return False


RULE = Rule(
    id="WS002",
    title="Sockets that have gone are not let go",
    severity="change",
    how="source",
    why="Clients leave without a word all the time: each leaves an error in the log and a dead "
    "socket in the "
    "list, and one dead socket silences a room.",
    fix="`try: ... finally: manager.disconnect(websocket)`; iterate over a copy, and let each "
    "send fail alone: "
    "`except (WebSocketDisconnect, RuntimeError)`",
    seed="002 WebSocket Chat, 004 WebSocket Support",
    expected="`async for message in websocket.iter_text()`, a `try` or a context manager around "
    "the loop, a "
    "`try` around each send, `gather(..., return_exceptions=True)`.",
    bad="""
from fastapi import FastAPI, WebSocket

app = FastAPI()


class Room:
    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []

    async def broadcast(self, text: str) -> None:
        for socket in self.sockets:
            await socket.send_text(text)  # finding


room = Room()


@app.websocket("/room")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    room.sockets.append(websocket)
    while True:
        await room.broadcast(await websocket.receive_text())  # finding
""",
    good="""
import asyncio

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


class Room:
    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []

    async def broadcast(self, text: str) -> None:
        for socket in list(self.sockets):
            try:
                await socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                self.sockets.remove(socket)

    async def at_once(self, text: str) -> None:
        sending = [socket.send_text(text) for socket in self.sockets]
        await asyncio.gather(*sending, return_exceptions=True)


room = Room()


@app.websocket("/room")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    room.sockets.append(websocket)
    try:
        while True:
            await room.broadcast(await websocket.receive_text())
    finally:
        room.sockets.remove(websocket)


@app.websocket("/caught")
async def caught(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        try:
            await room.at_once(await websocket.receive_text())
        except WebSocketDisconnect:
            return


@app.websocket("/iterated")
async def iterated(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
""",
    find=find,
)
