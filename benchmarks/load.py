"""The load: keeps a number of connections busy, each with one request at a time.

A process of its own, without any framework: it shares a core with the database, and what it costs
would otherwise be felt as latency. Answers are read to their end and their status is checked.

    python -m benchmarks.load workload.json get PORT CONNECTIONS SECONDS   # prints JSON
"""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

PATH = "/api/v1/agents"
STATUS = {"list": b"200", "get": b"200", "post": b"201", "patch": b"200", "delete": b"204"}
STALL_SECONDS = 10.0


class Stopped(Exception):
    """The measurement is worth nothing: an answer was wrong, missing or late."""


def requests(operation: str, workload: dict[str, Any]) -> Iterator[bytes]:
    """Yield requests without end, but for ``delete``: that one ends with the rows.

    Users and rows are picked at random, the same in every run.
    """
    pick = random.Random(operation)  # noqa: S311 - to repeat, not to hide
    users = [(user["token"], user["agents"]) for user in workload["users"]]
    numbers = count()
    if operation in {"get", "delete"}:
        pairs = [(token, agent) for token, agents in users for agent in agents]
        pick.shuffle(pairs)
        built = [_request(operation, token, f"/{agent}") for token, agent in pairs]
        while True:
            yield from built
            if operation == "delete":
                return
    elif operation == "list":
        built = [
            _request("get", token, f"?page={page}&page_size=20")
            for token, _ in users
            for page in range(1, 11)
        ]
        pick.shuffle(built)
        while True:
            yield from built
    elif operation == "post":
        for number in numbers:
            body = json.dumps({**workload["body"], "name": f"made {number:012d}"})
            yield _request(operation, users[number % len(users)][0], "", body)
    else:
        for number in numbers:
            token, agents = pick.choice(users)
            body = json.dumps({"name": f"renamed {number:012d}"})
            yield _request(operation, token, f"/{pick.choice(agents)}", body)


def _request(operation: str, token: str, rest: str, body: str = "") -> bytes:
    lines = [
        f"{operation.upper()} {PATH}{rest} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: application/json",
        f"Authorization: Bearer {token}",
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body]).encode()


class Connection:
    """One keep-alive connection and the answer that it is reading."""

    __slots__ = ("answer", "missing", "sent_at", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.missing = -1
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.answer, self.missing = b"", -1
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def is_answered(self, status: bytes) -> bool:
        """Read what is there; tell whether the answer is complete."""
        data = self.socket.recv(262_144)
        if not data:
            raise Stopped("the server closed a connection")
        if self.missing >= 0:
            self.missing -= len(data)
            return self.missing == 0
        self.answer += data
        end = self.answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        if self.answer[9:12] != status:
            raise Stopped(f"an answer was {self.answer[:600].decode(errors='replace')}")
        self.missing = end + 4 + _length(self.answer[:end]) - len(self.answer)
        return self.missing == 0


def _length(head: bytes) -> int:
    start = head.lower().find(b"\r\ncontent-length:")
    if start < 0:
        if head[9:12] == b"204":
            return 0
        raise Stopped("an answer has no Content-Length")
    return int(head[start + 17 :].partition(b"\r\n")[0])


def run(
    operation: str, workload: dict[str, Any], *, port: int, connections: int, seconds: float
) -> dict[str, Any]:
    """Send requests for ``seconds``, wait for the last answers; return what was seen."""
    feed = requests(operation, workload)
    status = STATUS[operation]
    poll = select.epoll()
    open_ones: dict[int, Connection] = {}
    for _ in range(connections):
        connection = Connection(port)
        poll.register(connection.socket, select.EPOLLIN)
        open_ones[connection.socket.fileno()] = connection
    latencies: list[float] = []
    gc.disable()  # its pauses would be latencies
    busy = len(open_ones)
    start = time.perf_counter()
    end = start + seconds
    for connection in open_ones.values():
        connection.send(next(feed))
    while busy:
        events = poll.poll(STALL_SECONDS)
        if not events:
            raise Stopped(f"no answer came for {STALL_SECONDS:.0f} seconds")
        for descriptor, _ in events:
            connection = open_ones[descriptor]
            if not connection.is_answered(status):
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            following = next(feed, None) if now < end else None
            if following is None:
                busy -= 1
            else:
                connection.send(following)
    elapsed = time.perf_counter() - start
    latencies.sort()
    return {
        "requests": len(latencies),
        "seconds": elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


def main(path: str, operation: str, port: str, connections: str, seconds: str) -> int:
    workload = json.loads(Path(path).read_text())
    try:
        seen = run(
            operation,
            workload,
            port=int(port),
            connections=int(connections),
            seconds=float(seconds),
        )
    except (Stopped, OSError) as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
