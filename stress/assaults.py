"""The abuses, one by one: each returns what was not refused as it should be."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import socket
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlencode

from stress.crowd import request

__all__ = ["ASSAULTS", "Assault", "Target"]

_PATIENCE_SECONDS: Final = 30.0
_TRICKLE_SECONDS: Final = 20.0
_CHUNK: Final = b"x" * 65_536
_BOUNDARY: Final = "b"

_AT_ONCE: Final = 20
_CLOSED_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The service, tokens of its users, and how large the abuse is: 1 as its name says.

    ``connections`` tells how many the service has.
    """

    port: int
    tokens: Sequence[str]
    scale: float
    connections: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assault:
    """An abuse by ``users``: ``commit`` returns what went wrong; it may take ``most_mib`` more."""

    key: str
    name: str
    commit: Callable[[Target], Awaitable[Sequence[str]]]
    most_mib: int
    users: int = 1


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


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


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
    bearer = _bearer(target.tokens[0])
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
        **_bearer(target.tokens[0]),
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


async def _websocket(
    connection: Connection, path: str = "/api/v1/line", **headers: str
) -> tuple[Connection, bytes]:
    reader, writer = connection
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        request(
            "GET",
            path,
            connection="upgrade",
            upgrade="websocket",
            sec_websocket_version="13",
            sec_websocket_key=key,
            **headers,
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
        (reader, writer), _ = await _websocket(await _connect(target))
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
    offered = {"sec_websocket_extensions": "permessage-deflate"}
    (reader, writer), head = await _websocket(await _connect(target), **offered)
    told = ["compression was agreed to"] if b"permessage-deflate" in head.lower() else []
    writer.write(_frame(0xC1, bomb[:60_000]))
    if not await _closed(reader):
        told.append("the message was taken")
    writer.close()
    zipped = zlib.compress(bytes(20_000_000), wbits=31)
    head = _head(_TICKETS, len(zipped), content_encoding="gzip", **_JSON)
    refused = [400, 413, 415, 422]
    return [*told, *await _send(target, head, iter([zipped]), expect=refused)]


# ------------------------------------------------------------------------------------------ a room


async def _room(target: Target) -> Sequence[str]:
    """1,000 connections in one room, of which 100 read nothing while 1 MB is said there.

    Each of the others hears all of it; who reads nothing is closed five seconds later.
    """
    names = itertools.cycle(target.tokens)
    joined: list[Connection] = []
    before, count = target.connections(), int(1000 * target.scale)
    for start in range(0, count, _AT_ONCE):
        joining = (
            _in_room(target, next(names), is_stalled=number % 10 == 0)
            for number in range(start, min(start + _AT_ONCE, count))
        )
        joined += await asyncio.gather(*joining)
    healthy = [one for number, one in enumerate(joined) if number % 10]
    said = json.dumps({"type": "said", "room": "hall", "data": {"text": "x" * 50_000}})
    unheard = 0
    for _ in range(20):
        healthy[0][1].write(_frame(0x81, said.encode()))
        unheard += (await asyncio.gather(*map(_hears, healthy))).count(False)
    end = time.monotonic() + _CLOSED_SECONDS
    while (more := target.connections() - before - len(healthy)) and time.monotonic() < end:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.1)
    for _, writer in joined:
        writer.transport.abort()
    told = {f"{unheard} times somebody did not hear": unheard, f"{more} too many are open": more}
    return [line for line, number in told.items() if number]


async def _in_room(target: Target, token: str, *, is_stalled: bool) -> Connection:
    channel = socket.socket()
    if is_stalled:  # as behind an Ethernet: else the system keeps 4 MB for it, and nobody notices
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    channel.setblocking(False)  # noqa: FBT003 - as the library has it
    await asyncio.get_running_loop().sock_connect(channel, ("127.0.0.1", target.port))
    opened = await asyncio.open_connection(sock=channel)
    connection, _ = await _websocket(opened, "/api/v1/rooms/ws", **_bearer(token))
    connection[1].write(_frame(0x81, b'{"type":"join","room":"hall"}'))
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while b'"joined"' not in await _text(connection):
            pass
    if is_stalled:
        cast("asyncio.Transport", connection[1].transport).pause_reading()
    return connection


async def _text(connection: Connection) -> bytes:
    """Return what is said next, and answer pings; raises ``IncompleteReadError`` at the end."""
    reader, writer = connection
    while True:
        first, size = await reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        payload = await reader.readexactly(size)
        if first == 0x89:
            writer.write(_frame(0x8A, payload))
        else:
            return payload


async def _hears(connection: Connection) -> bool:
    with suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return b'"said"' in await _text(connection)
    return False


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
    Assault(
        key="room",
        name="100 of 1,000 in a room read nothing",
        commit=_room,
        most_mib=100,
        users=50,
    ),
    Assault(key="log-ins", name="20 log-ins", commit=_log_ins, most_mib=80),
)
"""Memory: twice what each is allowed to send, or to hold, and what a server needs for that."""
