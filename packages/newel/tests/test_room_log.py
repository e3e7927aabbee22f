"""What was said in rooms is numbered and kept: one contract in a process and over Valkey."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from sample_valkey import Valkey, until

from newel import room_log
from newel.drivers import redis_rooms
from newel.drivers.redis import RedisLink
from newel.drivers.redis_rooms import RedisRooms
from newel.errors import Unavailable
from newel.room_log import (
    HISTORY_MESSAGES,
    REPLAY_BYTES,
    Entry,
    MemoryLog,
    Position,
    Replay,
    RoomLog,
)

pytestmark = pytest.mark.anyio


class Ears:
    """Hears a log."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Entry]] = []
        self.lost = 0

    def hear(self, room: str, epoch: str, entry: Entry) -> None:
        self.heard.append((room, epoch, entry))

    def lose(self) -> None:
        self.lost += 1

    @property
    def texts(self) -> list[str]:
        return [entry.text for _, _, entry in self.heard]


@asynccontextmanager
async def listening(log: RoomLog) -> AsyncGenerator[Ears]:
    ears = Ears()
    task = asyncio.create_task(log.listen(ears.hear, lost=ears.lose))
    await until(lambda: ears.lost)
    yield ears
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def redis_rooms_at(url: str, name: str = "rooms") -> AsyncGenerator[RedisRooms]:
    link = RedisLink(url, name=name, wait_seconds=5, retry_seconds=0.05)
    yield RedisRooms(link)
    await link.close()


@pytest.fixture(params=["process", "valkey"])
async def log(request: pytest.FixtureRequest) -> AsyncGenerator[RoomLog]:
    if request.param == "process":
        yield MemoryLog()
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    async with redis_rooms_at(valkey.url) as found:
        yield found


@pytest.fixture
def name() -> str:
    return f"/chat:{uuid4()}"


class TestContract:
    async def test_messages_are_numbered_kept_and_heard(self, log: RoomLog, name: str) -> None:
        async with listening(log) as ears:
            said = ["a", "ü\n\n", '{"text":"c"}']
            positions = [await log.append(name, text, but=f"but {text[0]}") for text in said]
            await until(lambda: len(ears.heard) == 3)

        assert [position.offset for position in positions] == [1, 2, 3]
        [epoch] = {position.epoch for position in positions}
        entries = [
            Entry(number, text, f"but {text[0]}") for number, text in enumerate(said, start=1)
        ]
        assert ears.heard == [(name, epoch, entry) for entry in entries]
        assert await log.read(name, after=0) == Replay(Position(epoch, 3), entries)
        assert await log.read(name, after=2) == Replay(Position(epoch, 3), entries[2:])
        assert await log.read(name, after=2**53) == Replay(Position(epoch, 3), [])

    async def test_a_room_in_which_nothing_was_said_has_an_epoch(
        self, log: RoomLog, name: str
    ) -> None:
        replay = await log.read(name, after=0)
        assert replay.since(Position(replay.top.epoch, 0)) == []
        assert (await log.append(name, "a")).epoch == replay.top.epoch

    async def test_rooms_are_apart(self, log: RoomLog, name: str) -> None:
        await log.append(name, "a")
        other = await log.append(f"{name}:other", "b")
        assert other.offset == 1
        assert other.epoch != (await log.read(name, after=0)).top.epoch

    async def test_it_keeps_the_last_thousand(self, log: RoomLog, name: str) -> None:
        positions = [await log.append(name, str(number)) for number in range(HISTORY_MESSAGES + 5)]
        replay = await log.read(name, after=0)
        assert [entry.text for entry in replay.entries] == [str(n) for n in range(5, 1005)]
        assert replay.since(positions[3]) is None  # one more than is there
        missed = replay.since(positions[4])
        assert missed is not None
        assert len(missed) == HISTORY_MESSAGES

    async def test_what_is_renewed_has_another_epoch(self, log: RoomLog, name: str) -> None:
        before = await log.append(name, "a")
        async with listening(log) as ears:
            await log.renew(name)
            await until(lambda: ears.heard)
        replay = await log.read(name, after=0)
        assert replay.since(before) is None
        assert replay.entries == []
        assert ears.heard == [(name, replay.top.epoch, Entry(0, ""))]


def test_what_cannot_be_told_is_not_told() -> None:
    replay = Replay(Position("a", 7), [Entry(6, "six"), Entry(7, "seven")])
    assert replay.since(Position("a", 5)) == [Entry(6, "six"), Entry(7, "seven")]
    assert replay.since(Position("a", 7)) == []
    assert replay.since(Position("a", 4)) is None  # the fifth is gone
    assert replay.since(Position("a", 8)) is None  # the log has lost some
    assert replay.since(Position("b", 7)) is None


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_process_forgets_what_is_old_or_too_much(name: str) -> None:
    clock = Clock()
    log = MemoryLog(monotonic=clock)
    first = await log.append(name, "a")
    clock.seconds += 299
    await log.append(name, "b")
    assert len((await log.read(name, after=0)).entries) == 2
    clock.seconds += 2
    assert [entry.text for entry in (await log.read(name, after=0)).entries] == ["b"]
    assert (await log.append(name, "c")).epoch == first.epoch

    for _ in range(100):
        await log.append(name, "x" * 60_000)
    assert sum(len(entry.text) for entry in (await log.read(name, after=0)).entries) <= 4 << 20


async def test_a_process_remembers_where_a_silent_room_ended(name: str) -> None:
    clock = Clock()
    log = MemoryLog(monotonic=clock)
    last = await log.append(name, "a")
    clock.seconds += 301
    for count in range(5):  # whatever of it is forgotten first
        if count == 0:
            assert await log.read(name, after=0) == Replay(last, [])
        await log.append(f"/other:{count}", "x")
    assert name in log._silent
    clock.seconds += 86_000
    assert await log.read(name, after=0) == Replay(last, [])
    clock.seconds += 1000  # a day since it was said, not since somebody asked
    await log.append("/other:0", "x")
    assert await log.append(name, "b") == Position(last.epoch, 2)


async def test_a_process_forgets_rooms(name: str) -> None:
    clock = Clock()
    log = MemoryLog(monotonic=clock)
    before = await log.append(name, "a")
    clock.seconds += 86_401
    silent = (await log.read("/silent", after=0)).top
    for _ in range(1000):
        await log.append("/other", "x")
    assert (await log.append(name, "b")).epoch != before.epoch
    assert (await log.append("/silent", "a")).epoch == silent.epoch, "it is where it was"


async def test_a_process_counts_so_many_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_log, "_MAX_BEGUN", 2)
    log = MemoryLog()
    epochs: set[str] = set()
    for _ in range(3):
        for number in range(3):
            epochs.add((await log.append(f"/{number}", "a")).epoch)
            await log.renew(f"/{number}")
    assert len(epochs) == 9
    assert len(log._begun) <= 2


async def test_a_process_keeps_nothing_of_rooms_in_which_nobody_spoke() -> None:
    log = MemoryLog()
    epochs = {(await log.read(f"/chat:{number}", after=0)).top.epoch for number in range(1000)}
    assert len(epochs) == 1000
    assert not log._rooms


async def test_a_process_has_a_bound_for_all_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_log, "_ALL_BYTES", 400_000)
    log = MemoryLog()
    first = await log.append("/chat:0", "x" * 1000)
    for number in range(1, 500):
        await log.append(f"/chat:{number}", "x" * 1000)
        assert log.held_bytes <= 400_000
    assert log.held_bytes > 390_000
    assert sum(len(one.kept) for one in log._rooms.values()) > 50
    replay = await log.read("/chat:0", after=0)
    assert replay == Replay(first, []), "it goes on; who missed something is told"
    assert (await log.read("/chat:499", after=0)).entries
    held = log.held_bytes
    await log.renew("/chat:499")
    assert log.held_bytes < held - 1000


async def test_a_process_remembers_so_many_silent_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_log, "_MAX_SILENT", 2)
    clock = Clock()
    log = MemoryLog(monotonic=clock)
    before = [await log.append(f"/chat:{number}", "a") for number in range(4)]
    clock.seconds += 301
    for _ in range(2):
        await log.append("/other", "b")
    await log.read("/chat:2", after=0)
    assert len(log._silent) == 2
    after = [(await log.read(f"/chat:{number}", after=0)).top for number in range(4)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, 1, 1]


@pytest.mark.parametrize("text", ["a" * 44, "a" * 4000, "ü" * 400, "😀" + "a" * 400])
@pytest.mark.parametrize("silent", [True, False])
async def test_a_process_counts_what_it_holds(text: str, silent: bool) -> None:
    clock = Clock()
    log = MemoryLog(monotonic=clock)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            clock.seconds += 0.001
            await log.append(f"/chat:{number:032x}", f"{text}{number}", but=f"{number:016x}")
        if silent:
            clock.seconds += 301
            for number in range(1000):
                clock.seconds += 0.001
                await log.append("/other", str(number), but=f"{number:016x}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(log._silent) == 1000) is silent
    assert 0.6 * log.held_bytes < after - before < 1.1 * log.held_bytes, after - before


async def test_no_message_looks_at_all_rooms() -> None:
    clock = Clock()
    log = MemoryLog(monotonic=clock)
    for number in range(5000):
        await log.append(f"/chat:{number}", "a")
    clock.seconds += 301
    for count in range(1, 2501):
        await log.append("/other", "b")
        assert len(log._silent) == 2 * count, "two of them each time"
    clock.seconds += 86_401
    await log.append("/other", "b")
    assert len(log._silent) == 4998


@pytest.mark.parametrize("first", ["said", "read"])
async def test_a_room_whose_number_valkey_evicted_begins_anew(
    valkey: Valkey, name: str, first: str
) -> None:
    async with redis_rooms_at(valkey.url) as log:
        for _ in range(3):
            before = await log.append(name, "old")
        await log._link.client.delete(log._keys(name)[0])  # as under `maxmemory`
        if first == "read":
            assert (await log.read(name, after=0)).entries == []
        after = await log.append(name, "new")
        assert after == Position(after.epoch, 1)
        assert after.epoch != before.epoch
        assert await log.read(name, after=0) == Replay(after, [Entry(1, "new")])


@pytest.mark.parametrize("damaged", [0, 1])
async def test_what_fails_in_one_room_is_its_own_matter(
    valkey: Valkey, name: str, damaged: int
) -> None:
    link = RedisLink(valkey.url, name="rooms", wait_seconds=5, retry_seconds=3600)
    log = RedisRooms(link)
    for call in (lambda: log.append(name, "new"), lambda: log.read(name, after=0)):
        before = await log.append(name, "old")
        key = log._keys(name)[damaged]
        await link.client.delete(key)
        await link.client.set(key, "what is neither a number nor a stream")
        with pytest.raises(Unavailable):
            await link.call("say", partial(link.client.hget, key, "epoch"))
        assert await log.append(f"{name}:other", "a")  # Redis answers, whatever it says
        async with listening(log) as ears:
            await call()
            await until(lambda: ears.heard)
        assert (await log.read(name, after=0)).since(before) is None
        assert await log.append(name, "more")
    await link.close()


@pytest.mark.parametrize(
    "answer",
    [
        ReadOnlyError("You can't write against a read only replica."),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ResponseError("MISCONF Errors writing to disk"),
    ],
)
async def test_what_valkey_answers_of_itself_is_its_absence(
    valkey: Valkey, answer: ResponseError
) -> None:
    link = RedisLink(valkey.url, name="rooms", wait_seconds=5, retry_seconds=3600)

    async def refused() -> None:
        raise answer

    await link.call("ping", link.client.ping)
    with pytest.raises(Unavailable):
        await link.call("say", refused)
    with pytest.raises(Unavailable):  # at once, until it is tried again
        await link.call("ping", link.client.ping)
    await link.close()


async def test_valkey_does_not_read_what_is_old(
    valkey: Valkey, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with redis_rooms_at(valkey.url) as log:
        first = await log.append(name, "a")
        assert (await log.read(name, after=0)).entries
        monkeypatch.setattr(redis_rooms, "HISTORY_SECONDS", -1)
        replay = await log.read(name, after=0)
        assert replay.since(Position(first.epoch, 0)) is None
        assert replay.since(first) == []


async def test_valkey_reads_no_more_than_is_sent_at_once(valkey: Valkey, name: str) -> None:
    async with redis_rooms_at(valkey.url) as log:
        for number in range(40):
            position = await log.append(name, str(number) + "x" * 60_000)
        replay = await log.read(name, after=0)
        assert REPLAY_BYTES < sum(len(entry.text) for entry in replay.entries) < 1_200_000
        assert [entry.offset for entry in replay.entries] == list(range(23, 41))
        assert replay.since(Position(position.epoch, 22)) == replay.entries
        assert replay.since(Position(position.epoch, 21)) is None


async def test_processes_hear_each_other_and_services_do_not(valkey: Valkey, name: str) -> None:
    async with redis_rooms_at(valkey.url) as one, redis_rooms_at(valkey.url) as two:
        async with redis_rooms_at(valkey.url, "another") as other, listening(two) as ears:
            await other.append(name, "of another service")
            await one.append(name, "a")
            await two.append(name, "b")
            await until(lambda: len(ears.heard) == 2)
        assert ears.texts == ["a", "b"]
        assert (await two.read(name, after=0)).top.offset == 2


async def test_presence_ends_when_it_is_not_said_again(valkey: Valkey, name: str) -> None:
    async with redis_rooms_at(valkey.url) as one, redis_rooms_at(valkey.url) as two:
        await one.mark([(name, "ann"), (name, "bob"), (f"{name}:2", "cid")], seconds=30)
        await two.mark([(name, "ann")], seconds=30)
        assert sorted(await two.present(name)) == ["ann", "bob"]
        await one.unmark(name, "ann")
        assert sorted(await one.present(name)) == ["ann", "bob"]  # she is at the other process
        await two.unmark(name, "ann")
        await one.mark([(name, "bob")], seconds=1)
        async with asyncio.timeout(20):
            while await one.present(name):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)


async def test_without_valkey_everything_says_so(tmp_path: object) -> None:
    async with redis_rooms_at("unix:///nowhere/socket") as log:
        for call in (
            log.append("/a", "b"),
            log.read("/a", after=0),
            log.renew("/a"),
            log.mark([("/a", "b")], seconds=1),
            log.unmark("/a", "b"),
            log.present("/a"),
        ):
            with pytest.raises(Unavailable):
                await call


def test_the_bounds_are_those_of_the_page() -> None:
    assert (room_log.HISTORY_MESSAGES, room_log.HISTORY_SECONDS) == (1000, 300.0)
