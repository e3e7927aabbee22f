"""``newel.connections``: a client that never ends its request, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvicorn
from sample_runs import wait_until
from starlette.types import Receive, Scope, Send

from newel.connections import WIRE, ConnectionConfig

HEADER_SECONDS = 0.4
MOST = 400


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        sockets = {"/": echo, "/much": say_much, "/refused": refuse, "/late": speak_late}
        await sockets[scope["path"]](receive, send)
        return
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/wait":  # for the end of the connection
        while (await receive())["type"] != "http.disconnect":
            pass
    body = b"done"
    if scope["path"] == "/headers":  # as they are when the body is there
        body = b",".join(name for name, _ in scope["headers"])
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        size = len(message.get("text") or message.get("bytes") or b"")
        await send({"type": "websocket.send", "text": str(size)})


MUCH = ["x" * 20_000] * 100


async def say_much(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    for text in MUCH:
        await send({"type": "websocket.send", "text": text})
    await receive()


async def refuse(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"not", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b" here"})


async def speak_late(receive: Receive, send: Send) -> None:
    """Speak when it is over, as who writes to many does until it hears of the end."""
    await receive()
    with suppress(OSError):  # as ASGI has it: nobody is there any more
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
        await send({"type": "websocket.send", "text": "too late"})


class Served:
    """A server in a thread of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        self.config = config
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # else megabytes wait in the kernel
            self.listener.setsockopt(socket.SOL_SOCKET, buffer, 65_536)
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve(sockets=[self.listener]))
        )

    @property
    def count(self) -> int:
        return len(self.server.server_state.connections)

    def connect(self, data: bytes = b"", *, receive_bytes: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(20)
        client.connect(self.listener.getsockname())
        client.sendall(data)
        return client


@contextmanager
def serving(config: uvicorn.Config) -> Generator[Served]:
    served = Served(config)
    served.thread.start()
    wait_until(lambda: served.server.started)
    try:
        yield served
    finally:
        served.server.should_exit = served.server.force_exit = True
        served.thread.join(20)


def options(**values: Any) -> dict[str, Any]:
    return {"log_config": None, "lifespan": "off", "access_log": False, **values}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    config = ConnectionConfig(
        app, header_seconds=HEADER_SECONDS, most=MOST, **options(timeout_keep_alive=30)
    )
    with serving(config) as one:
        yield one


@pytest.fixture(scope="module")
def patient() -> Iterator[Served]:
    """One that waits for a head: who is closed was closed for what it sent."""
    with serving(ConnectionConfig(app, header_seconds=600, **options())) as one:
        yield one


@pytest.fixture(scope="module")
def unguarded() -> Iterator[Served]:
    """uvicorn as it comes."""
    with serving(uvicorn.Config(app, **options(timeout_keep_alive=30))) as one:
        yield one


def rest_of(client: socket.socket) -> bytes:
    """Return what comes until the server closes; fails when it does not."""
    received = b""
    with suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return received


def stays_open(client: socket.socket) -> bool:
    client.settimeout(3 * HEADER_SECONDS)
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True


ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
UNFINISHED = {
    "nothing": b"",
    "half a line": b"GET / HT",
    "headers without an end": b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ",
}


def answered(served: Served) -> socket.socket:
    """Return a connection that has had its first answer."""
    client = served.connect(ASK)
    read_answer(client)
    return client


def read_answer(client: socket.socket) -> None:
    """Read an answer to its end; fails when the connection is closed before."""
    received = b""
    while not received.endswith(b"done"):
        part = client.recv(65536)
        assert part, received
        received += part


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_a_head_that_does_not_come_closes_the_connection(served: Served, data: bytes) -> None:
    with served.connect(data) as client:
        assert rest_of(client) == b""


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_negative_control_uvicorn_waits_for_ever(unguarded: Served, data: bytes) -> None:
    with unguarded.connect(data) as client:
        assert stays_open(client)


def test_trickling_does_not_help(served: Served) -> None:
    def trickle() -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            client.sendall(b"x: y\r\n")
            time.sleep(0.02)

    with served.connect(b"GET / HTTP/1.1\r\n") as client, pytest.raises(ConnectionError):
        trickle()


def test_three_hundred_slow_clients_are_gone_and_others_served(served: Served) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(served.connect(b"GET / HTTP/1.1\r\nx")) for _ in range(300)]
        stack.enter_context(answered(served)).close()
        assert [rest_of(client) for client in slow] == [b""] * 300
    wait_until(lambda: served.count == 0)


@pytest.mark.parametrize("data", [b"\r\n", b"GET / HTTP/1.1\r\nx"], ids=["a line end", "a part"])
def test_the_next_request_of_a_connection_has_to_come_too(served: Served, data: bytes) -> None:
    with answered(served) as client:
        client.sendall(data)
        assert rest_of(client) == b""


def test_who_asks_for_nothing_more_keeps_the_connection_for_as_long_as_uvicorn_says(
    served: Served,
) -> None:
    with answered(served) as client:
        assert stays_open(client)


def test_a_head_in_pieces_is_answered(served: Served) -> None:
    with served.connect() as client:
        for index in range(len(ASK)):
            client.sendall(ASK[index : index + 1])
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_a_body_has_another_deadline(served: Served) -> None:
    head = b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n1"
    with served.connect(head) as client:
        assert stays_open(client)
        client.sendall(b"2")
        client.settimeout(20)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_body_that_nobody_reads_ends_too(served: Served) -> None:
    with served.connect(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n1") as client:
        read_answer(client)
        client.sendall(b"2")
        assert rest_of(client) == b""


MOST_HEAD_BYTES = 65536


@pytest.mark.parametrize("connect", [Served.connect, answered], ids=["first", "next"])
def test_a_head_without_an_end_is_431(
    patient: Served, connect: Callable[[Served], socket.socket]
) -> None:
    with connect(patient) as client:
        client.sendall(b"GET / HTTP/1.1\r\nx: ".ljust(MOST_HEAD_BYTES, b"y"))
        client.sendall(b"y")
        assert rest_of(client).startswith(b"HTTP/1.1 431 ")


def flood_with_lines(client: socket.socket) -> None:
    """Send 800 KB of headers, or of trailers, which the server may put an end to."""
    with suppress(ConnectionError):
        for _ in range(200):
            client.sendall(b"x: " + b"y" * 4093 + b"\r\n")


def test_a_head_without_an_end_behind_a_request_in_flight_is_cut_off(patient: Served) -> None:
    with patient.connect(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n") as client:
        wait_until(lambda: patient.server.server_state.tasks)
        client.sendall(b"GET / HTTP/1.1\r\n")
        flood_with_lines(client)
        wait_until(lambda: patient.count == 0)
        # What is in flight is no place for another answer.
        assert rest_of(client) == b""


def test_negative_control_uvicorn_keeps_a_head_without_an_end(unguarded: Served) -> None:
    with unguarded.connect(b"GET / HTTP/1.1\r\n") as client:
        flood_with_lines(client)
        assert stays_open(client)


WITH_TRAILERS = (
    b"POST /headers HTTP/1.1\r\nHost: x\r\nX-Said: by-a-proxy\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Forged: yes\r\n\r\n"
)


def test_what_comes_after_a_body_is_no_header(served: Served) -> None:
    """A proxy that says who the client is looks at headers alone."""
    with served.connect(WITH_TRAILERS) as client:
        answer = rest_of(client)
    assert b"x-said" in answer
    assert b"x-forged" not in answer


def test_negative_control_uvicorn_takes_it_for_one(unguarded: Served) -> None:
    with unguarded.connect(WITH_TRAILERS) as client:
        assert b"x-forged" in rest_of(client)


def test_trailers_without_an_end_are_cut_off(patient: Served) -> None:
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    with patient.connect(head) as client:
        flood_with_lines(client)
        wait_until(lambda: patient.count == 0)


@pytest.mark.parametrize("size", [70_000, 200_000], ids=["one read", "several"])
def test_a_head_that_comes_with_the_end_of_a_body_is_not_charged_with_it(
    patient: Served, size: int
) -> None:
    first = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with patient.connect(first + b"x" * size + b"GET / HTTP/1.1\r\nHost: x\r\n") as client:
        read_answer(client)
        client.sendall(b"Connection: close\r\n\r\n")
        assert rest_of(client).endswith(b"done")


def test_one_connection_too_many_is_closed(served: Served) -> None:
    wait_until(lambda: served.count == 0)
    config = ConnectionConfig(app, most=3, **options())
    with serving(config) as small, ExitStack() as stack:
        first, *_ = [stack.enter_context(answered(small)) for _ in range(3)]
        with small.connect() as another:
            assert rest_of(another) == b""
        first.close()
        wait_until(lambda: small.count == 2)
        stack.enter_context(answered(small))


def test_while_draining_an_answer_is_the_last_of_its_connection() -> None:
    config = ConnectionConfig(app, **options())
    with serving(config) as one, answered(one) as client:
        config.draining = True
        client.sendall(ASK)
        received = rest_of(client)
    assert b"connection: close" in received
    assert received.endswith(b"done")


# --------------------------------------------------------------------------------------- websockets


def frame(payload: bytes = b"", *, opcode: int, fin: bool) -> bytes:
    """Return a client's frame; with a mask of zeros the payload stays as it is."""
    size = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        return head + bytes([0x80 | size]) + bytes(4) + payload
    if size < 65536:
        return head + b"\xfe" + struct.pack("!H", size) + bytes(4) + payload
    return head + b"\xff" + struct.pack("!Q", size) + bytes(4) + payload


TEXT, CONTINUED, PING = 1, 0, 9


def handshake(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-extensions: permessage-deflate\r\n"
        f"sec-websocket-key: {key}\r\n\r\n"
    ).encode()


def websocket(served: Served, path: str = "/", **values: Any) -> socket.socket:
    client = served.connect(handshake(path), **values)
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += client.recv(1)
    assert received.startswith(b"HTTP/1.1 101")
    assert b"deflate" not in received.lower(), "a kilobyte could be a megabyte"
    return client


def close_code(client: socket.socket) -> int:
    with suppress(ConnectionResetError):
        received = rest_of(client)
        assert received[0] == 0x88, received
        return struct.unpack("!H", received[2:4])[0]
    return 0


def test_a_message_in_pieces_is_one(served: Served) -> None:
    with websocket(served) as client:
        client.sendall(frame(b"ab", opcode=TEXT, fin=False))
        client.sendall(frame(b"cd", opcode=CONTINUED, fin=False) * 500)
        client.sendall(frame(opcode=CONTINUED, fin=True))
        assert client.recv(100) == b"\x81\x041002"


def test_a_websocket_has_no_deadline_of_a_head(served: Served) -> None:
    with websocket(served) as client:
        assert stays_open(client)
        client.settimeout(20)
        client.sendall(frame(b"ab", opcode=TEXT, fin=True))
        assert client.recv(100) == b"\x81\x012"


def a_large_message() -> bytes:
    return frame(b"x" * 65_537, opcode=TEXT, fin=True)


def many_fragments() -> bytes:
    return frame(b"x", opcode=TEXT, fin=False) + frame(b"x", opcode=CONTINUED, fin=False) * 2_000


def empty_fragments() -> bytes:
    return frame(b"x", opcode=TEXT, fin=False) + frame(opcode=CONTINUED, fin=False) * 2_000


@pytest.mark.parametrize("data", [a_large_message, many_fragments, empty_fragments])
def test_too_much_of_one_message_closes_with_1009(
    served: Served, data: Callable[[], bytes]
) -> None:
    with websocket(served) as client:
        client.sendall(data())
        assert close_code(client) == 1009


NO_HANDSHAKES = {
    "with a body": (b"content-length: 5\r\n\r\nhello", 400),
    "with a body in chunks": (b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "with too many headers": (b"x: y\r\n" * 200 + b"\r\n", 431),
    "with too long a header": (b"cookie: " + b"x" * 9_000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("name", NO_HANDSHAKES)
def test_a_handshake_that_is_none_is_answered_and_over(patient: Served, name: str) -> None:
    rest, status = NO_HANDSHAKES[name]
    with patient.connect(handshake("/").removesuffix(b"\r\n") + rest) as client:
        assert rest_of(client).startswith(b"HTTP/1.1 %d " % status)
    wait_until(lambda: patient.count == 0)


def test_negative_control_uvicorn_keeps_it_without_end(unguarded: Served) -> None:
    rest, _ = NO_HANDSHAKES["with a body"]
    with unguarded.connect(handshake("/").removesuffix(b"\r\n") + rest) as client:
        assert stays_open(client)


def errors_of_too_much(
    served: Served, caplog: pytest.LogCaptureFixture, *, early: bool
) -> list[str]:
    """Return what a service logs when a client sends too much, perhaps with its handshake."""
    caplog.clear()
    with ExitStack() as stack:
        if early:
            client = stack.enter_context(served.connect(handshake("/late") + a_large_message()))
        else:
            client = stack.enter_context(websocket(served, "/late"))
            client.sendall(a_large_message())
        with suppress(ConnectionResetError):
            rest_of(client)
    wait_until(lambda: not served.server.server_state.tasks)
    return [record.message for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("early", [True, False])
def test_too_much_of_one_message_is_no_error_of_the_service(
    served: Served, caplog: pytest.LogCaptureFixture, early: bool
) -> None:
    assert errors_of_too_much(served, caplog, early=early) == []


def test_negative_control_uvicorn_says_that_the_service_is_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = uvicorn.Config(app, **options(ws_max_size=65_536, ws_per_message_deflate=False))
    with serving(config) as plain:
        assert len(errors_of_too_much(plain, caplog, early=False)) == 1


def test_negative_control_uvicorn_keeps_every_fragment() -> None:
    config = uvicorn.Config(app, **options(ws_per_message_deflate=False))
    with serving(config) as plain, websocket(plain) as client:
        client.sendall(empty_fragments())
        client.sendall(frame(opcode=CONTINUED, fin=True))
        assert client.recv(100) == b"\x81\x011"


def flood(client: socket.socket) -> None:
    """Send pings and read none of the answers, until the server has had enough or 4 MB went."""
    pings = frame(b"x" * 125, opcode=PING, fin=True) * 64
    for _ in range(4_000_000 // len(pings)):
        client.sendall(pings)


def test_who_pings_and_reads_nothing_is_cut_off(served: Served) -> None:
    with websocket(served, receive_bytes=4096) as client:
        with pytest.raises(ConnectionError):
            flood(client)
        wait_until(lambda: served.count == 0)


def test_who_reads_on_may_ping_while_much_is_on_its_way(patient: Served) -> None:
    pings = frame(b"x" * 125, opcode=PING, fin=True) * 8
    expected = sum(4 + len(text) for text in MUCH) + len(MUCH) * 8 * 127
    with websocket(patient, "/much", receive_bytes=4096) as client:
        [connection] = patient.server.server_state.connections
        wait_until(lambda: unsent(connection) > 65_536)
        for text in MUCH:
            client.sendall(pings)
            expected -= skip(client, len(text))
        assert skip(client, expected) == expected


def skip(client: socket.socket, size: int) -> int:
    """Read so many bytes, or to the end; return how many there were."""
    left = size
    while left and (part := client.recv(left)):
        left -= len(part)
    return size - left


def test_negative_control_uvicorn_keeps_every_answer() -> None:
    config = uvicorn.Config(app, **options(ws_per_message_deflate=False))
    with serving(config) as plain, websocket(plain, receive_bytes=4096) as client:
        flood(client)
        [connection] = plain.server.server_state.connections
        wait_until(lambda: unsent(connection) > 1_000_000)


def unsent(connection: Any) -> int:
    return connection.transport.get_write_buffer_size()


def refused(served: Served, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Have a websocket refused; return the errors that were logged of it."""
    caplog.clear()
    with served.connect(handshake("/refused")) as client:
        answer = rest_of(client)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"not here")
    wait_until(lambda: not served.server.server_state.tasks)
    return [record.message for record in caplog.records if record.levelname == "ERROR"]


def test_a_websocket_that_is_refused_is_no_error(
    patient: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert refused(patient, caplog) == []


def test_negative_control_to_uvicorn_it_is_one(
    unguarded: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(refused(unguarded, caplog)) == 1


def test_a_wire_is_written_to_only_while_somebody_reads_an_open_websocket() -> None:
    taken: dict[str, bool] = {}

    async def speak(scope: Scope, receive: Receive, send: Send) -> None:
        wire = scope["extensions"][WIRE]
        await receive()
        taken["before it is accepted"] = wire.write("no")
        await send({"type": "websocket.accept"})
        taken["open"] = wire.write("yes")
        while wire.write("x" * 20_000):  # nobody reads
            pass
        taken["unread"] = wire.write("no")
        await receive()  # it has read all of it
        taken["read again"] = wire.write("yes")
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
        taken["closing"] = wire.write("no")

    config = ConnectionConfig(speak, header_seconds=600, **options())
    with serving(config) as one, websocket(one, receive_bytes=4096) as client:
        assert skip(client, 5) == 5
        [connection] = one.server.server_state.connections
        wait_until(lambda: unsent(connection) > 0)
        while unsent(connection):
            client.recv(4096)
        client.sendall(frame(b"go on", opcode=TEXT, fin=True))
        wait_until(lambda: "closing" in taken)
    assert taken == {
        "before it is accepted": False,
        "open": True,
        "unread": False,
        "read again": True,
        "closing": False,
    }
