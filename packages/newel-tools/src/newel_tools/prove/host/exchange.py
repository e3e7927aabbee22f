"""One request and its answer, and one websocket session, as ASGI has them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any
from urllib.parse import unquote, urlsplit

from .record import Places, Record, current

__all__ = ["call", "converse"]

_BODY_BYTES = 1024 * 1024  # of an answer; the rest is counted, and not kept
_CHUNK_BYTES = 64 * 1024
_MESSAGES = 100


def _scope(kind: str, asked: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    parts = urlsplit(str(asked["path"]))
    headers = [
        (name.lower().encode("latin-1"), _encoded(value)) for name, value in asked["headers"]
    ]
    if not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", b"127.0.0.1:8000"))
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "method": asked.get("method", "GET"),
        "path": unquote(parts.path),
        "raw_path": parts.path.encode("ascii", "replace"),
        "root_path": "",
        "query_string": parts.query.encode("ascii", "replace"),
        "headers": headers,
        "client": (asked.get("client") or "127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": dict(state),
        "extensions": {},
    }


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


async def call(
    app: Any, asked: dict[str, Any], *, record: Record, places: Places, state: dict[str, Any]
) -> dict[str, Any]:
    """Send one request and return its answer.

    ``asked`` has ``method``, ``path`` (with its query), ``headers`` (pairs), ``body`` (base64),
    ``fill_bytes`` (as many zero bytes between ``body`` and ``tail``), ``client`` and ``seconds``.
    """
    answer = _Answer(asked, record)
    token = current.set(record)
    try:
        running = app(_scope("http", asked, state), answer.receive, answer.send)
        await asyncio.wait_for(running, asked.get("seconds", 10.0))
    except asyncio.TimeoutError:  # noqa: UP041 - another class before Python 3.11
        answer.outcome = "timeout"
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the application raises, an exit too, is its answer
        record.add_error(error, where=places.of_error(error))
        answer.outcome = "exception" if answer.status else "no answer"
    finally:
        current.reset(token)
    return answer.as_json()


class _Answer:
    """Collects what an application sends, and hands it the request's body in chunks."""

    def __init__(self, asked: dict[str, Any], record: Record) -> None:
        self.outcome = "answered"
        self.status: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.size = 0
        self.done = asyncio.Event()
        self._record = record
        self._body = bytearray()
        self._chunks = _chunks(asked)

    async def receive(self) -> dict[str, Any]:
        chunk = next(self._chunks, None)
        if chunk is None:
            await self.done.wait()
            return {"type": "http.disconnect"}
        body, more = chunk
        await asyncio.sleep(0)
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            raw: Any = message.get("headers") or []
            self.headers = [
                (bytes(k).decode("latin-1"), bytes(v).decode("latin-1")) for k, v in raw
            ]
            self._record.answered = True
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self.size += len(body)
            self._body += body[: _BODY_BYTES - len(self._body)]
            if not message.get("more_body", False):
                self.done.set()
            await asyncio.sleep(0)

    def as_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "status": self.status,
            "headers": self.headers,
            "body": base64.b64encode(bytes(self._body)).decode("ascii"),
            "body_bytes": self.size,
            "finished": self.done.is_set(),
        }


def _chunks(asked: dict[str, Any]) -> Any:
    body = base64.b64decode(asked.get("body") or "")
    fill = int(asked.get("fill_bytes") or 0)
    tail = base64.b64decode(asked.get("tail") or "")
    if not fill:
        yield body + tail, False
        return
    yield body, True
    while fill > 0:
        yield bytes(min(fill, _CHUNK_BYTES)), True
        fill -= _CHUNK_BYTES
    yield tail, False


async def converse(
    app: Any, asked: dict[str, Any], *, record: Record, places: Places, state: dict[str, Any]
) -> dict[str, Any]:
    """Open a websocket, send the texts of ``asked["send"]`` and keep what comes in ``seconds``.

    It is left early when as many messages as were sent have come.
    """
    session = _Session(list(asked.get("send") or ()))
    scope = _scope("websocket", asked, state)
    scope["subprotocols"] = list(asked.get("subprotocols") or ())
    token = current.set(record)
    task = asyncio.ensure_future(app(scope, session.receive, session.send))
    current.reset(token)
    enough = asyncio.ensure_future(session.enough.wait())
    await asyncio.wait(
        [task, enough], timeout=asked.get("seconds", 2.0), return_when=asyncio.FIRST_COMPLETED
    )
    enough.cancel()
    open_at_end = not task.done()
    session.leave()
    with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
        try:
            await asyncio.wait_for(task, 2.0)
        except asyncio.TimeoutError:  # noqa: UP041 - another class before Python 3.11
            raise
        except BaseException as error:
            record.add_error(error, where=places.of_error(error))
            if isinstance(error, asyncio.CancelledError):
                raise
    return {**session.as_json(), "open_at_end": open_at_end}


class _Session:
    """The client's side of a websocket."""

    def __init__(self, texts: list[str]) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self._texts = texts
        self.enough = asyncio.Event()
        self.accepted = False
        self.close_code: int | None = None
        self.refusal_status: int | None = None
        self.messages: list[str] = []

    async def receive(self) -> dict[str, Any]:
        return await self._incoming.get()

    async def send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = True
            for text in self._texts:
                self._incoming.put_nowait({"type": "websocket.receive", "text": text})
        elif kind == "websocket.send" and len(self.messages) < _MESSAGES:
            text = message.get("text")
            self.messages.append(text if text is not None else repr(message.get("bytes"))[:1000])
            if self._texts and len(self.messages) >= len(self._texts):
                self.enough.set()
        elif kind == "websocket.close":
            self.close_code = message.get("code", 1000)
        elif kind == "websocket.http.response.start":
            self.refusal_status = message["status"]
        await asyncio.sleep(0)

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})

    def as_json(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "close_code": self.close_code,
            "refusal_status": self.refusal_status,
            "messages": self.messages,
        }
