"""WS001: a websocket that anybody may open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access, is_public
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.roles import text_of
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_SAID: Final = re.compile(
    r"(token|auth|jwt|cookie|\.headers|query_params|session_id|api_?key|ticket|secret|credential"
    r"|verify|signature|origin|current_user|login|permission|WebSocketException|1008|4401|4403)",
    re.IGNORECASE,
)
_PARAM: Final = re.compile(
    r"(token|key|ticket|session|auth|secret|signature|code|jwt)", re.IGNORECASE
)
_FEED: Final = re.compile(r"(ticker|price|quote|echo|time|broadcast|live|feed|log)", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find websockets without a guard that read no credential, where other routes ask for one."""
    access = Access(review)
    if not access.has_authentication or access.guards_websockets:
        return
    for route in review.routes:
        if route.kind == "websocket" and not _asks(review, access, route):
            file, line = review.at(route)
            yield RULE.found(
                "the websocket is open to anybody",
                file=file,
                line=line,
                route=route.label,
                cause="no guard of websockets",
            )


def _asks(review: Review, access: Access, route: Route) -> bool:
    """Tell whether something on the way to the handler, or in it, may look at a credential."""
    if access.is_protected(route) or is_public(review, route):
        return True
    name = f"{route.path} {route.name}"
    if _FEED.search(name) and "{" not in route.path:
        return True
    if any(_PARAM.search(param.name) for param in route.params) or not list(review.starts(route)):
        return True
    reached = {inner for start in review.starts(route) for inner in review.calls.reached(start)}
    return any(_SAID.search(text_of(function)) for function in reached)


RULE = Rule(
    id="WS001",
    title="A websocket is open to anybody",
    severity="block",
    how="import",
    why="Middleware and CORS for HTTP do not look at websockets: any page that a user visits may "
    "open it, "
    "read what is sent and send what it likes.",
    fix="depend on the caller as HTTP routes do, from a short-lived token in the query or the "
    "first "
    "message; check `Origin`; close with 1008 before `accept()`",
    seed="002 WebSocket Chat, 003 WebSocket Support",
    expected="handlers that read a header, a cookie, a query parameter or anything named as a "
    "credential; "
    "public feeds by their path; applications that ask nobody anywhere, or whose own middleware "
    "refuses websockets by their Origin or caller.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


class Rooms:
    def __init__(self) -> None:
        self.open: dict[str, list[WebSocket]] = {}

    async def connect(self, websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        self.open.setdefault(room, []).append(websocket)


rooms = Rooms()


@app.get("/rooms")
def names(user: Annotated[str, Depends(bearer)]) -> list[str]:
    return list(rooms.open)


@app.websocket("/rooms/{room_id}")
async def chat(websocket: WebSocket, room_id: str) -> None:  # finding
    await rooms.connect(websocket, room_id)
    try:
        while True:
            await websocket.receive_json()
    except WebSocketDisconnect:
        rooms.open[room_id].remove(websocket)
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketException
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


def caller(token: Annotated[str, Query()]) -> str:
    if token != "known":
        raise WebSocketException(code=1008)
    return token


def find_user(websocket: WebSocket) -> str | None:
    return websocket.cookies.get("session")


@app.get("/rooms")
def names(user: Annotated[str, Depends(bearer)]) -> list[str]:
    return [user]


@app.websocket("/rooms/{room_id}")
async def chat(websocket: WebSocket, room_id: str, user: Annotated[str, Depends(caller)]) -> None:
    await websocket.accept()


@app.websocket("/cookies/{room_id}")
async def by_cookie(websocket: WebSocket, room_id: str) -> None:
    if find_user(websocket) is None:
        await websocket.close()
        return
    await websocket.accept()


@app.websocket("/first-message/{room_id}")
async def by_message(websocket: WebSocket, room_id: str) -> None:
    await websocket.accept()
    first = await websocket.receive_json()
    if first["token"] == "known":
        await websocket.send_text(room_id)


@app.websocket("/ticker")
async def ticker(websocket: WebSocket) -> None:
    await websocket.accept()
""",
    find=find,
)
