"""One connection that hears rooms: bounded, sent together, and never waited for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sample_valkey import until
from starlette.types import Message

from newel import room_connections
from newel.room_connections import QUEUE_BYTES, Allowance, Closed, RoomConnection, RoomQueue, Turn

pytestmark = pytest.mark.anyio


class Client:
    """What is sent to a client, who may stop reading."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.written: list[str] = []
        self.takes = 0
        self.aborted = False

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        self.sent.append(message)

    def write(self, text: str) -> bool:
        if self.takes <= 0:
            return False
        self.takes -= 1
        self.written.append(text)
        return True

    def abort(self) -> None:
        self.aborted = True

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if "text" in message]


def decoded(texts: list[str]) -> list[Any]:
    """Return the messages of frames: each is one, or an array of them."""
    found: list[Any] = []
    for text in texts:
        parsed = json.loads(text)
        found += parsed if isinstance(parsed, list) else [parsed]
    return found


async def test_a_burst_is_one_frame() -> None:
    client = Client()
    connection = RoomConnection("ann", client.send)
    writer = asyncio.create_task(connection.write())
    for number in range(4):
        connection.put(f'{{"n":{number}}}')
    await until(lambda: client.sent)
    connection.put('{"n":4}')
    await until(lambda: len(client.sent) == 2)
    assert client.texts == ['[{"n":0},{"n":1},{"n":2},{"n":3}]', '{"n":4}']
    writer.cancel()


async def test_a_wire_is_written_to_without_a_task() -> None:
    client = Client()
    client.takes = 2
    connection = RoomConnection("ann", client.send, wire=client)
    connection.put('{"n":0}')
    connection.put('{"n":1}')
    await asyncio.sleep(0)
    connection.put('{"n":2}')
    await until(lambda: len(client.written) == 2)
    assert client.written == ['[{"n":0},{"n":1}]', '{"n":2}']
    assert connection.waiting_bytes == 0


async def test_what_was_missed_and_written_leaves_the_usual_bound() -> None:
    client = Client()
    client.takes = 1
    connection = RoomConnection("ann", client.send, wire=client)
    connection.put_missed(['{"n":0}'])
    await until(lambda: client.written)
    connection.put("x" * (QUEUE_BYTES + 1))
    assert connection.closed.result().code == 4008


async def test_what_a_wire_does_not_take_is_sent_in_order() -> None:
    client = Client()
    client.takes = 1
    connection = RoomConnection("ann", client.send, wire=client)
    writer = asyncio.create_task(connection.write())
    for number in range(3):
        connection.put(f'{{"n":{number}}}')
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    client.takes = 0
    await until(lambda: len(decoded(client.written + client.texts)) == 3)
    assert [one["n"] for one in decoded(client.written + client.texts)] == [0, 1, 2]
    client.takes = 1  # it reads again
    connection.put('{"n":3}')
    await until(lambda: len(client.written) == 2)
    writer.cancel()


async def test_a_long_queue_is_several_frames() -> None:
    client = Client()
    connection = RoomConnection("ann", client.send)
    writer = asyncio.create_task(connection.write())
    long = json.dumps("x" * 30_000)
    for _ in range(8):
        connection.put(long)
    await until(lambda: len(decoded(client.texts)) == 8)
    assert all(len(text) < 70_000 for text in client.texts)
    assert connection.waiting_bytes == 0
    writer.cancel()


async def test_too_much_closes_it_and_is_forgotten_at_once() -> None:
    client = Client()
    connection = RoomConnection("ann", client.send)
    connection.put("x" * (QUEUE_BYTES - 1))
    assert not connection.closed.done()
    connection.put("xx")
    assert connection.closed.result().code == 4008
    assert connection.waiting_bytes == 0
    connection.put("more")
    assert connection.take() == []


async def test_bytes_are_counted_and_not_characters() -> None:
    queue = RoomQueue("ann")
    queue.put("ü" * (QUEUE_BYTES // 2))
    assert queue.waiting_bytes == QUEUE_BYTES
    queue.put("x")
    assert queue.closed.result().code == 4008
    other = RoomQueue("bob")
    other.put_missed(["ü" * 30_000] * 3)
    assert [len(other.take()) for _ in range(3)] == [1, 1, 1], "a frame has 64 KiB"
    assert other.waiting_bytes == 0


async def test_what_was_missed_does_not_count() -> None:
    queue = RoomQueue("ann")
    queue.put_missed(["x" * 50_000] * 10)
    queue.put("y")
    assert not queue.closed.done()
    taken: list[str] = []
    while frames := queue.take():
        taken += frames
    assert len(taken) == 11
    queue.put("x" * (QUEUE_BYTES + 1))  # the bound is the usual one again
    assert queue.closed.done()


async def test_what_was_missed_adds_up_to_no_more_than_once() -> None:
    queue = RoomQueue("ann")
    for _ in range(3):
        queue.put_missed(["x" * 50_000] * 20)
    assert queue.closed.result().code == 4008


async def test_there_is_space_when_enough_was_taken() -> None:
    queue = RoomQueue("ann")
    await queue.space()
    queue.put_missed(["x" * 60_000] * 10)
    waits = asyncio.create_task(queue.space())
    while queue.waiting_bytes > QUEUE_BYTES:
        await asyncio.sleep(0)
        assert not waits.done()
        queue.take()
    await asyncio.wait_for(waits, 20)


async def test_a_send_that_takes_too_long_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_connections, "SEND_SECONDS", 0.02)
    client = Client()
    client.reads.clear()
    connection = RoomConnection("ann", client.send)
    connection.put("{}")
    with pytest.raises(Closed) as closed:
        await connection.write()
    assert closed.value.code == 4008


async def test_who_does_not_read_the_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_connections, "_CLOSE_SECONDS", 0.02)
    client = Client()
    connection = RoomConnection("ann", client.send, wire=client)
    await connection.end(Closed(4401, "unauthorized"))
    assert client.sent == [{"type": "websocket.close", "code": 4401, "reason": "unauthorized"}]
    assert not client.aborted
    client.reads.clear()
    await connection.end(Closed(4008, "too slow"))
    assert client.aborted


async def test_without_a_wire_nobody_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_connections, "_CLOSE_SECONDS", 0.02)
    client = Client()
    client.reads.clear()
    await RoomConnection("ann", client.send).end(Closed(4008, "too slow"))  # the server's business
    assert client.sent == []


def test_an_allowance_comes_back_with_time() -> None:
    now = [1000.0]
    allowance = Allowance(per_second=10, burst=3, monotonic=lambda: now[0])
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    now[0] += 0.1
    assert [allowance.take() for _ in range(2)] == [True, False]
    now[0] += 3600
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


async def test_those_that_share_a_turn_are_sent_to_in_the_next_one_by_one_callback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, scheduled = asyncio.get_running_loop(), []
    call_soon = loop.call_soon
    monkeypatch.setattr(
        loop,
        "call_soon",
        lambda then, *args, **more: (scheduled.append(then), call_soon(then, *args, **more))[1],
    )
    turn, ann, bob = Turn(), Client(), Client()
    ann.takes = bob.takes = 2
    first, second = (RoomConnection("x", one.send, wire=one, turn=turn) for one in (ann, bob))
    first.put("1")
    second.put("1")
    assert (ann.written + bob.written, scheduled) == ([], [turn._run])
    await asyncio.sleep(0)
    assert (ann.written, bob.written) == (["1"], ["1"])
    first.put("2")
    await asyncio.sleep(0)
    assert (ann.written, bob.written) == (["1", "2"], ["1"]), "each turn has its own"
