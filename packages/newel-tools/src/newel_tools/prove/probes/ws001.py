"""A websocket asks who it talks to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.answer import Session
from newel_tools.prove.examples import ACCOUNTS
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.requests import BASE_URL

__all__ = ["PROBE"]

_SECONDS: Final = 7.0  # some wait five seconds for a first message with a token
_FOREIGN: Final = "https://elsewhere.example"
_TEXTS: Final = ('{"type": "message", "text": "newel prove"}', "newel prove")
_REFUSAL: Final = re.compile(
    r"unauth|forbidden|not allowed|denied|error|invalid|token", re.IGNORECASE
)


def _run(lab: Lab) -> Iterator[Result]:
    if not lab.has_log_in:
        yield PROBE.skipped("", "the application asks nobody who they are: AUTH001")
        return
    for path in lab.service.websockets:
        yield _opened(lab, path)


def _opened(lab: Lab, path: str) -> Result:
    label = f"WS {path}"
    filled = re.sub(r"\{[^}]*\}", "1", path)
    headers = [("origin", _FOREIGN)]
    session = lab.service.converse(filled, headers=headers, send=list(_TEXTS), seconds=_SECONDS)
    if _talks(session):
        said = "it talks to anybody: no credentials, and the Origin of another site"
        details = [f"received: {text[:200]}" for text in session.messages[:3]]
        return PROBE.broke(label, said, details=details, commands=[_command(filled)])
    cookie = lab.user.tokens.get("cookie")
    if not cookie:
        return PROBE.kept(label)
    headers.append(("cookie", cookie))
    session = lab.service.converse(filled, headers=headers, send=list(_TEXTS), seconds=2.0)
    if _talks(session):
        said = "another site opens it with the visitor's cookies"
        return PROBE.broke(label, said, severity="change", commands=[_command(filled)])
    return PROBE.kept(label)


def _talks(session: Session) -> bool:
    """Tell whether the other side stayed, or said something that was no refusal."""
    if not session.accepted or session.refused:
        return False
    if session.open_at_end:
        return True
    return any(not _REFUSAL.search(text) for text in session.messages)


def _command(path: str) -> str:
    address = BASE_URL.replace("http://", "ws://") + path
    return f"python -m websockets {address}"


_BAD = f"""{ACCOUNTS}
# file: main.py
from fastapi import FastAPI, WebSocket, WebSocketException

import accounts

app = FastAPI()
app.include_router(accounts.router)


@app.websocket("/chat/{{room}}")
async def chat(socket: WebSocket, room: str) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{{room}}: {{text}}")
"""
PROBE = Probe(
    id="WS001",
    title="No websocket talks to somebody unknown",
    severity="block",
    why="CORS does not guard websockets; whatever the room says, every site may listen.",
    fix="check the Origin and a ticket before `accept`, or close unless a token comes first",
    seed="002, 003 websocket",
    expected="applications without accounts; public feeds have to be skipped by a line of settings",
    bad=_BAD,
    good=_BAD.replace(
        "    await socket.accept()",
        '    if socket.headers.get("authorization", "")[7:] not in accounts.tokens:\n'
        "        raise WebSocketException(1008)\n    await socket.accept()",
    ),
    run=_run,
)
