"""The load of ``benchmarks.rooms``: many clients in one room, one speaks, the others count.

A process of its own without any framework: raw sockets, epoll, and no more of websockets than it
takes to find where a frame ends. It is told on standard input what to do and answers in JSON.

    python -m benchmarks.rooms_load '{"port": 8000, "path": "/ws", "message": "Hi @@"}' 1000
    30 1        one message, the next when everybody has it: thirty of them
    4 8         the server is asked for eight at once, the next when everybody has them: four times
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

STALL_SECONDS = 20.0
IDLE_SECONDS = 0.005
"""How long nobody speaks between two measurements, so that the server waits for them."""

MARK = b"@@"
"""What a message has once in it, whatever the server wraps it in."""


class Stopped(Exception):
    """The measurement is worth nothing: a client was closed, or a message did not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """How one speaks to a server: ``steps`` are what to send and what has to come, in turns.

    ``{token}`` in the path and the steps is this client's; ``{times}`` in the message is how many
    messages the server makes of it.
    """

    port: int
    path: str
    message: str
    steps: Sequence[Sequence[str]] = ()
    tokens: Sequence[str] = ()
    ping: str = ""
    pong: str = ""

    def of(self, text: str, number: int) -> str:
        """Return ``text`` as client ``number`` says it."""
        return text.replace("{token}", self.tokens[number] if self.tokens else "")


@dataclass(slots=True, eq=False)
class Client:
    """One connection; ``rest`` is the beginning of a frame whose end has not come yet."""

    talk: Talk
    number: int
    channel: socket.socket = field(init=False)
    rest: bytes = b""
    seen: int = 0

    def __post_init__(self) -> None:
        self.channel = socket.create_connection(("127.0.0.1", self.talk.port), STALL_SECONDS)
        self.channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [
            f"GET {self.talk.of(self.talk.path, self.number)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.talk.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
        self.channel.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self.rest:
            self.rest += self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise Stopped(f"a websocket was refused: {head[:200].decode(errors='replace')}")
        for said, wanted in self.talk.steps:
            if said:
                self.send(self.talk.of(said, self.number))
            while wanted.encode() not in self.frames(b""):
                self.rest += self._more()
        self.seen = 0
        self.channel.settimeout(0)

    def _more(self) -> bytes:
        data = self.channel.recv(65_536)
        if not data:
            raise Stopped(f"the server closed client {self.number}: {self.rest[-200:]!r}")
        return data

    def send(self, text: str) -> None:
        """Send ``text`` in a frame."""
        self.channel.sendall(framed(text.encode()))

    def read(self) -> None:
        """Take what is there, count the messages in it."""
        with suppress(BlockingIOError):
            self.frames(self._more())

    def frames(self, data: bytes) -> bytes:
        """Return the whole frames that have come, count the messages in them, answer pings."""
        data = self.rest + data
        end = start = 0
        while len(data) - start >= 2:
            length, head = data[start + 1], 2
            if length == 126:
                length, head = int.from_bytes(data[start + 2 : start + 4]), 4
            elif length == 127:
                length, head = int.from_bytes(data[start + 2 : start + 10]), 10
            if start + head + length > len(data):
                break
            kind, start = data[start] & 15, start + head + length
            if kind != 1 or length == len(self.talk.ping):
                self._answer(kind, data[start - length : start])
            end = start
        whole, self.rest = data[:end], data[end:]
        self.seen += whole.count(MARK)
        return whole

    def _answer(self, kind: int, payload: bytes) -> None:
        if kind == 8:
            raise Stopped(f"client {self.number} was closed: {payload!r}")
        if kind == 9:
            self.channel.sendall(framed(payload, kind=10))
        elif self.talk.ping and payload == self.talk.ping.encode():
            self.send(self.talk.pong)


def framed(payload: bytes, *, kind: int = 1) -> bytes:
    """Return a frame as a client sends it; the mask of zeros leaves the payload as it is."""
    length = len(payload)
    head = bytes([128 | length]) if length < 126 else b"\xfe" + length.to_bytes(2)
    return bytes([128 | kind]) + head + b"\0\0\0\0" + payload


@dataclass(slots=True, kw_only=True)
class Crowd:
    """All clients of one server; each one speaks when it is its turn."""

    poll: select.epoll
    clients: list[Client] = field(default_factory=list["Client"])
    turns: int = 0
    by_descriptor: dict[int, Client] = field(default_factory=dict[int, Client])

    def add(self, client: Client) -> None:
        """Take in a client, and let none of the others wait for that."""
        self.clients.append(client)
        self.poll.register(client.channel, select.EPOLLIN)
        self.by_descriptor[client.channel.fileno()] = client
        self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Read what comes within ``seconds``; tell whether somebody wrote to standard input."""
        told = False
        for descriptor, _ in self.poll.poll(seconds):
            client = self.by_descriptor.get(descriptor)
            if client is None:
                told = True
            else:
                client.read()
        return told

    def quiet(self) -> None:
        """Read until nothing has come for a moment, so that both sides wait."""
        end = time.monotonic() + IDLE_SECONDS
        while (left := end - time.monotonic()) > 0:
            self.wait(left)

    def say(self, messages: int) -> float:
        """Have ``messages`` said at once; return after how many seconds everybody has them all."""
        speaker = self.clients[self.turns % len(self.clients)]
        self.turns += 1
        listeners = [client for client in self.clients if client is not speaker]
        for client in self.clients:
            client.seen = 0
        start = time.perf_counter()
        speaker.send(speaker.talk.message.replace("{times}", str(messages)))
        while (missing := sum(messages - one.seen for one in listeners)) > 0:
            if not self.wait(STALL_SECONDS) and time.perf_counter() > start + STALL_SECONDS:
                raise Stopped(f"{missing} messages did not come in {STALL_SECONDS:.0f} seconds")
        if any(one.seen != messages for one in listeners):
            raise Stopped("somebody has got a message twice")
        return time.perf_counter() - start

    def measure(self, times: int, messages: int) -> dict[str, Any]:
        """Say ``messages`` at once, ``times`` over; return how many arrived and how quickly."""
        took: list[float] = []
        for _ in range(times):
            took.append(self.say(messages))
            self.quiet()
        took.sort()
        return {
            "deliveries": times * messages * (len(self.clients) - 1),
            "until_all_have_it_ms": took[len(took) // 2] * 1000,
        }


def main(talk: Talk, clients: int) -> int:
    gc.disable()
    try:
        with select.epoll() as poll:
            crowd = Crowd(poll=poll)
            for number in range(clients):
                crowd.add(Client(talk, number))
            crowd.quiet()
            poll.register(sys.stdin, select.EPOLLIN)
            print(json.dumps({"clients": clients}), flush=True)
            while True:
                if not crowd.wait(STALL_SECONDS):
                    continue
                told = os.read(0, 4096).decode().split()  # the one line that waits
                if not told:
                    return 0
                print(json.dumps(crowd.measure(*(int(part) for part in told))), flush=True)
    except (Stopped, OSError) as error:
        print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)
        return 1


if __name__ == "__main__":
    [_, told, count] = sys.argv
    sys.exit(main(Talk(**json.loads(told)), int(count)))
