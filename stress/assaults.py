"""The abuses, one by one: each returns what was not refused as it should be."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from stress.crowd import request

__all__ = ["ASSAULTS", "Assault", "Target"]

_PATIENCE_SECONDS: Final = 30.0
_TRICKLE_SECONDS: Final = 20.0
_CHUNK: Final = b"x" * 65_536
_BOUNDARY: Final = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The service, a token of a user, and how large the abuse is: 1 as its name says."""

    port: int
    token: str
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assault:
    """An abuse: ``commit`` returns what went wrong; it may take ``most_mib`` more memory."""

    key: str
    name: str
    commit: Callable[[Target], Awaitable[Sequence[str]]]
    most_mib: int


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(target: Target) -> Connection:
    return await asyncio.open_connection("127.0.0.1", target.port)


async def _status(reader: asyncio.StreamReader) -> int:
    """Return the status of the answer; 0 when the connection is closed without one."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            line = await reader.readline()
    except ConnectionError:
        return 0
    except TimeoutError:
        return -1
    return int(line.split()[1]) if line else 0


async def _send(
    target: Target, head: bytes, parts: Iterator[bytes], *, expect: Sequence[int]
) -> Sequence[str]:
    """Send a request as long as somebody takes it, and look at the answer."""
    reader, writer = await _connect(target)
    answered = asyncio.create_task(_status(reader))
    writer.write(head)
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            if answered.done():
                break
    status = await answered
    writer.close()
    return [] if status in expect else [f"answered with {status}"]


def _head(path: str, length: int, **headers: str) -> bytes:
    return request("POST", path, content_length=str(length), **headers)


def _pieces(length: int) -> Iterator[bytes]:
    for start in range(0, length, len(_CHUNK)):
        yield _CHUNK[: length - start]


_JSON: Final = {"content_type": "application/json"}
_TICKETS: Final = "/api/v1/tickets"


async def _large_upload(target: Target) -> Sequence[str]:
    """An upload of 300 MB where 10 are taken, of somebody who may upload."""
    opening = (
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n'
        "content-type: text/plain\r\n\r\n"
    ).encode()
    size = int(300_000_000 * target.scale)
    closing = f"\r\n--{_BOUNDARY}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield opening
        yield from _pieces(size)
        yield closing

    kind = {"content_type": f"multipart/form-data; boundary={_BOUNDARY}"}
    bearer = {"authorization": f"Bearer {target.token}"}
    length = len(opening) + size + len(closing)
    told = await _send(
        target, _head("/api/v1/files", length, **kind, **bearer), parts(), expect=[413]
    )
    chunked = request("POST", "/api/v1/files", transfer_encoding="chunked", **kind, **bearer)

    def chunks() -> Iterator[bytes]:
        for part in parts():
            yield b"%x\r\n%b\r\n" % (len(part), part)
        yield b"0\r\n\r\n"

    return [*told, *await _send(target, chunked, chunks(), expect=[413, 0])]


async def _large_json(target: Target) -> Sequence[str]:
    """A body of 200 MB, with its length and without."""
    size = int(200_000_000 * target.scale)
    told = await _send(target, _head(_TICKETS, size, **_JSON), _pieces(size), expect=[413])
    head = request("POST", _TICKETS, transfer_encoding="chunked", **_JSON)
    chunks = (b"%x\r\n%b\r\n" % (len(part), part) for part in _pieces(size))
    return [*told, *await _send(target, head, chunks, expect=[413, 0])]


async def _many_keys(target: Target) -> Sequence[str]:
    """A JSON object with a million keys, 20 MB."""
    keys = int(1_000_000 * target.scale)
    body = "{" + ",".join(f'"key-{number:07d}":{number:07d}' for number in range(keys)) + "}"
    return await _body(target, body.encode(), expect=[413])


async def _body(target: Target, body: bytes, *, expect: Sequence[int]) -> Sequence[str]:
    pieces = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    return await _send(target, _head(_TICKETS, len(body), **_JSON), pieces, expect=expect)


async def _deep_json(target: Target) -> Sequence[str]:
    """Half a megabyte of brackets; a number of 10,000 digits."""
    deep = b"[" * 250_000 + b"]" * 250_000
    number = b'{"text": "a", "urgency": ' + b"9" * 10_000 + b"}"
    return [
        *await _body(target, deep, expect=[400, 422]),
        *await _body(target, number, expect=[400, 422]),
    ]


async def _many_fields(target: Target) -> Sequence[str]:
    """A form of 50,000 fields, of somebody who may upload."""
    fields = int(50_000 * target.scale)
    part = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="f"\r\n\r\nv\r\n'.encode()
    body = part * fields + f"--{_BOUNDARY}--\r\n".encode()
    head = _head(
        "/api/v1/files",
        len(body),
        content_type=f"multipart/form-data; boundary={_BOUNDARY}",
        authorization=f"Bearer {target.token}",
    )
    pieces = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    return await _send(target, head, pieces, expect=[400, 413, 422])


async def _slow_headers(target: Target) -> Sequence[str]:
    """300 connections whose headers do not end."""
    began = b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: "
    return await _all(_trickle(target, began, expect=[0, 408]) for _ in range(300))


async def _slow_bodies(target: Target) -> Sequence[str]:
    """200 connections whose bodies come byte by byte: more than have a place."""
    head = _head(_TICKETS, 1000, **_JSON)
    return await _all(_trickle(target, head, expect=[408]) for _ in range(200))


async def _all(abuses: Iterator[Awaitable[Sequence[str]]]) -> Sequence[str]:
    return [line for lines in await asyncio.gather(*abuses) for line in lines]


async def _trickle(target: Target, head: bytes, *, expect: Sequence[int]) -> Sequence[str]:
    """Send a byte now and then until there is an answer, or long enough."""
    reader, writer = await _connect(target)
    answered = asyncio.create_task(_status(reader))
    writer.write(head)
    end = time.monotonic() + _TRICKLE_SECONDS
    with suppress(ConnectionError):
        while not answered.done() and time.monotonic() < end:
            await asyncio.wait([answered], timeout=0.3)
            if not answered.done():
                writer.write(b"x")
    if not answered.done():
        answered.cancel()
        writer.close()
        return [f"open after {_TRICKLE_SECONDS} seconds"]
    writer.close()
    status = await answered
    return [] if status in expect else [f"answered with {status}"]


# --------------------------------------------------------------------------------------- websockets


async def _websocket(target: Target, *, extensions: str = "") -> tuple[Connection, bytes]:
    reader, writer = await _connect(target)
    key = base64.b64encode(os.urandom(16)).decode()
    wanted = {"sec_websocket_extensions": extensions} if extensions else {}
    writer.write(
        request(
            "GET",
            "/api/v1/line",
            connection="upgrade",
            upgrade="websocket",
            sec_websocket_version="13",
            sec_websocket_key=key,
            **wanted,
        )
    )
    async with asyncio.timeout(_PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
    return (reader, writer), head


def _frame(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame; a mask of zeros leaves the payload as it is."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + bytes(4) + payload
    return struct.pack("!BBH", first, 0x80 | 126, size) + bytes(4) + payload


async def _closed(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while data := await reader.read(65_536):
                if data[0] == 0x88:
                    return True
                if data[0] == 0x81:
                    return False
    return True


async def _fragments(target: Target) -> Sequence[str]:
    """A message in two million fragments: of one byte, and of none."""
    told: list[str] = []
    for payload in (b"x", b""):
        (reader, writer), _ = await _websocket(target)
        ended = asyncio.create_task(_closed(reader))
        writer.write(_frame(0x01, b"x"))
        piece = _frame(0x00, payload) * 10_000
        with suppress(ConnectionError):
            for _ in range(int(200 * target.scale)):
                writer.write(piece)
                await writer.drain()
                if ended.done():
                    break
            writer.write(_frame(0x80))
        if not await ended:
            told.append(f"taken in fragments of {len(payload)} bytes")
        writer.close()
    return told


async def _deflated(target: Target) -> Sequence[str]:
    """A message and a body of which a few kilobytes would be megabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(20_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    (reader, writer), head = await _websocket(target, extensions="permessage-deflate")
    told = ["compression was agreed to"] if b"permessage-deflate" in head.lower() else []
    writer.write(_frame(0xC1, bomb[:60_000]))
    if not await _closed(reader):
        told.append("the message was taken")
    writer.close()
    zipped = zlib.compress(bytes(20_000_000), wbits=31)
    head = _head(_TICKETS, len(zipped), content_encoding="gzip", **_JSON)
    refused = [400, 413, 415, 422]
    return [*told, *await _send(target, head, iter([zipped]), expect=refused)]


# ------------------------------------------------------------------------------------------ log-ins


async def _log_ins(target: Target) -> Sequence[str]:
    """20 log-ins at once: each hash takes 19 MiB."""
    return await _all(_log_in(target, number) for number in range(20))


async def _log_in(target: Target, number: int) -> Sequence[str]:
    form = urlencode({"username": f"nobody{number}@example.com", "password": "a-wrong-password"})
    head = _head("/api/v1/auth/login", len(form), content_type="application/x-www-form-urlencoded")
    return await _send(target, head, iter([form.encode()]), expect=[401, 429, 503])


ASSAULTS: Final = (
    Assault(key="upload", name="an upload of 300 MB", commit=_large_upload, most_mib=30),
    Assault(key="json", name="200 MB of JSON", commit=_large_json, most_mib=30),
    Assault(key="keys", name="a million keys", commit=_many_keys, most_mib=30),
    Assault(key="deep", name="deep JSON", commit=_deep_json, most_mib=30),
    Assault(key="fields", name="50,000 fields", commit=_many_fields, most_mib=30),
    Assault(key="headers", name="300 slow headers", commit=_slow_headers, most_mib=30),
    Assault(key="bodies", name="200 slow bodies", commit=_slow_bodies, most_mib=30),
    Assault(key="fragments", name="two million fragments", commit=_fragments, most_mib=30),
    Assault(key="deflate", name="deflate bombs", commit=_deflated, most_mib=30),
    Assault(key="log-ins", name="20 log-ins", commit=_log_ins, most_mib=80),
)
"""Memory: twice what each is allowed to send, or to hold, and what a server needs for that."""
