"""Answers that the client has already: its ``If-None-Match`` names them, so 304 and no body.

app = FastAPI(middleware=[Middleware(NotModified)])     # one of ``default_middleware``

@router.get("/{agent_id}")
async def get_agent(agent_id: UUID, agents: Agents, tagged: Tagged) -> AgentRead:
    return tagged(await agents.get(agent_id))           # ``concurrency.Tagged`` sets the ETag
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["NotModified", "describe", "is_known"]

_VERSION: Final = re.compile(r'"[0-9]*"', re.ASCII)
_OF_BODIES: Final = frozenset({b"content-length", b"content-type"})


class NotModified:
    """Answers 304, without a body, to a GET whose client has what it would get.

    It looks at answers in one piece that have an ``ETag``. One that is a version, ``"3"``, becomes
    ``"3-<digest of the body>"``: what is answered also changes with what it shows of other rows,
    with a field that a release adds, with the version of the API. The client alone may keep such
    an answer and has to ask anew, ``Cache-Control: private, no-cache``, unless it says otherwise.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return
        held: Message | None = None

        async def answer(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_tagged(message):
                held = message
                return
            if held is not None:
                start, held = held, None
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    message = _revalidated(start, message, Headers(scope=scope))
                await send(start)
            await send(message)

        await self.app(scope, receive, answer)


def _is_tagged(start: Message) -> bool:
    return start["status"] == 200 and b"etag" in dict(start["headers"])


def _revalidated(start: Message, body: Message, asked: Headers) -> Message:
    """Tag ``start`` by its ``body``, and return that; of what is known make a 304 without one."""
    present = dict(start["headers"])
    tag = str(present[b"etag"], "latin-1")
    if _VERSION.fullmatch(tag):
        digest = hashlib.sha256(body.get("body", b""), usedforsecurity=False).hexdigest()[:16]
        tag = f'"{"-".join(filter(None, (tag[1:-1], digest)))}"'
    headers = [header for header in start["headers"] if header[0] != b"etag"]
    headers.append((b"etag", tag.encode("latin-1")))
    if b"cache-control" not in present:
        headers.append((b"cache-control", b"private, no-cache"))
    start["headers"] = headers
    if not is_known(tag, asked):
        return body
    start["status"] = 304
    start["headers"] = [header for header in headers if header[0] not in _OF_BODIES]
    return {**body, "body": b""}


def is_known(tag: str, asked: Headers) -> bool:
    """Tell whether a request's ``If-None-Match`` names the ``ETag``, or is ``*``.

    Weak ones are compared, too (RFC 9110, 13.1.2): a proxy that compresses an answer makes its tag
    weak. What is no list of tags names none.
    """
    offered = ",".join(asked.getlist("if-none-match")).split(",")
    return any(each.strip().removeprefix("W/") in {tag.removeprefix("W/"), "*"} for each in offered)


def describe(operation: dict[str, Any]) -> None:
    """Say in an operation's OpenAPI that it answers 304."""
    operation["responses"].setdefault("304", {"description": "It is what the client has"})
    operation.setdefault("parameters", []).append(
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "Answer 304 if what would be sent is this, by the ETag it came with.",
            "schema": {"type": "string", "maxLength": 1000},
        }
    )
