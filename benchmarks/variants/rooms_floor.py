"""The least that a message to everybody can cost here: one frame, made before, into each transport.

No server, no framework, no room: a protocol on the event loop that the others run on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64encode
from hashlib import sha1
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
TEXT = (
    b'{"type":"message","data":{"content":"Hello @@ everybody in this room, how are you?"},'
    b'"timestamp":"2026-11-21T12:00:00.000000Z","room":"bench","offset":1234,'
    b'"from":"0199aaaa-0000-7000-8000-000000000000"}'
)
FRAME = b"\x81\x7e" + len(TEXT).to_bytes(2) + TEXT


class Floor(asyncio.Protocol):
    """One client; when it says something, everybody else gets the frame, as often as it says."""

    def __init__(self, everybody: set[Floor]) -> None:
        self.everybody = everybody
        self.transport: asyncio.Transport
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.everybody.discard(self)

    def data_received(self, data: bytes) -> None:
        if not self.is_open:
            self.answer(data)
            return
        if data[0] & 15 != 1:
            return
        for _ in range(json.loads(data[6:])["times"]):  # the load masks with zeros
            for other in self.everybody:
                if other is not self:
                    other.transport.write(FRAME)

    def answer(self, request: bytes) -> None:
        """Take a request: one for a websocket is accepted."""
        _, found, rest = request.partition(b"Sec-WebSocket-Key: ")
        if not found:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        accept = b64encode(sha1(rest.partition(b"\r\n")[0] + GUID).digest())  # noqa: S324 - RFC 6455
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.is_open = True
        self.everybody.add(self)


async def serve(port: int) -> None:
    everybody: set[Floor] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Floor(everybody), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
