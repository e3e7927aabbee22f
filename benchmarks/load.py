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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import count, cycle
from pathlib import Path
from typing import Any

PATH = "/api/v1/agents"
LOGIN = "/api/v1/auth/login"
STATUS = {
    "get": b"200",
    "list": b"200",
    "post": b"201",
    "patch": b"200",
    "delete": b"204",
    "login": b"401",
}
STALL_SECONDS = 10.0

Workload = dict[str, Any]
"""What ``databases`` wrote: ``users`` with their tokens and agents, and the ``body`` of POST."""


class Stopped(Exception):
    """The measurement is worth nothing: an answer was wrong, missing or late."""


def requests(operation: str, workload: Workload) -> Iterator[bytes]:
    """Yield requests without end, but for ``delete``: that one ends with the rows.

    Users and rows are picked at random, the same in every run.
    """
    return _FEEDS[operation](workload, random.Random(operation))  # noqa: S311 - to repeat


def _gets(workload: Workload, pick: random.Random) -> Iterator[bytes]:
    yield from cycle(_shuffled("get", workload, pick))


def _deletes(workload: Workload, pick: random.Random) -> Iterator[bytes]:
    yield from _shuffled("delete", workload, pick)


def _shuffled(method: str, workload: Workload, pick: random.Random) -> list[bytes]:
    """Return one request for every row."""
    built = [
        _request(method, user["token"], f"/{agent}")
        for user in workload["users"]
        for agent in user["agents"]
    ]
    pick.shuffle(built)
    return built


def _lists(workload: Workload, pick: random.Random) -> Iterator[bytes]:
    built = [
        _request("get", user["token"], f"?page={page}&page_size=20")
        for user in workload["users"]
        for page in range(1, 11)
    ]
    pick.shuffle(built)
    yield from cycle(built)


def _posts(workload: Workload, pick: random.Random) -> Iterator[bytes]:
    for number in count():
        body = json.dumps({**workload["body"], "name": f"made {number:012d}"})
        yield _request("post", pick.choice(workload["users"])["token"], "", body)


def _patches(workload: Workload, pick: random.Random) -> Iterator[bytes]:
    """Each row in turn: two changes of one row at a time are a conflict, and right to be."""
    rows = [(user["token"], agent) for user in workload["users"] for agent in user["agents"]]
    pick.shuffle(rows)
    for number, (token, agent) in enumerate(cycle(rows)):
        body = json.dumps({"name": f"renamed {number:012d}"})
        yield _request("patch", token, f"/{agent}", body)


def _logins(_workload: Workload, _pick: random.Random) -> Iterator[bytes]:
    """Yield log-ins to accounts that do not exist: as dear as others, and no account is slowed."""
    for number in count():
        body = f"username=nobody{number}%40example.com&password=not-the-password"
        head = f"POST {LOGIN} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        yield f"{head}{kind}{body}".encode()


_FEEDS = {
    "get": _gets,
    "list": _lists,
    "post": _posts,
    "patch": _patches,
    "delete": _deletes,
    "login": _logins,
}


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
    operation: str, workload: Workload, *, port: int, connections: int, seconds: float
) -> dict[str, Any]:
    """Send requests for ``seconds``, wait for the last answers; return what was seen."""
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        opened: dict[int, Connection] = {}
        for _ in range(connections):
            connection = Connection(port)
            stack.enter_context(connection.socket)
            poll.register(connection.socket, select.EPOLLIN)
            opened[connection.socket.fileno()] = connection
        gc.disable()  # its pauses would be latencies
        stack.callback(gc.enable)
        start = time.perf_counter()
        latencies = _keep_busy(opened, poll, requests(operation, workload), operation, seconds)
        elapsed = time.perf_counter() - start
    latencies.sort()
    return {
        "requests": len(latencies),
        "seconds": elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


def _keep_busy(
    opened: Mapping[int, Connection],
    poll: select.epoll,
    feed: Iterator[bytes],
    operation: str,
    seconds: float,
) -> list[float]:
    """Have each connection ask again as soon as it was answered; return the latencies."""
    status, latencies = STATUS[operation], list[float]()
    end = time.perf_counter() + seconds
    busy = 0
    for connection, request in zip(opened.values(), feed, strict=False):
        connection.send(request)
        busy += 1
    while busy:
        events = poll.poll(STALL_SECONDS)
        if not events:
            raise Stopped(f"no answer came for {STALL_SECONDS:.0f} seconds")
        for descriptor, _ in events:
            connection = opened[descriptor]
            if not connection.is_answered(status):
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            following = next(feed, None) if now < end else None
            if following is None:
                busy -= 1
            else:
                connection.send(following)
    return latencies


def load_command(
    workload: Path, operation: str, *, port: int, connections: int, seconds: float
) -> list[str]:
    """Return the command that runs the load in a process of its own."""
    load = [str(workload), operation, str(port), str(connections), str(seconds)]
    return [sys.executable, "-m", "benchmarks.load", *load]


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
