"""What is said reaches those who are there, in order and without a gap, whatever Redis does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel
from sample_valkey import Valkey, until

from newel import room_delivery, room_log
from newel.drivers.redis import RedisLink
from newel.drivers.redis_rooms import RedisRooms
from newel.errors import Unavailable
from newel.room_delivery import MAX_MESSAGE_BYTES, Rooms, is_room_name
from newel.room_log import Entry, Heard, MemoryLog, Position, Replay
from newel.testing import FrozenClock

pytestmark = pytest.mark.anyio

ROOM = "chat:42"


class Said(BaseModel):
    type: str = "said"
    text: str = ""


class Ear:
    """A receiver that keeps what it is given."""

    def __init__(self, user: str = "ann") -> None:
        self.id = uuid4().hex
        self.user = user
        self.heard: list[dict[str, Any]] = []

    def put(self, frame: str) -> None:
        self.heard.append(json.loads(frame))

    def put_missed(self, frames: Sequence[str]) -> None:
        for frame in frames:
            self.put(frame)

    @property
    def texts(self) -> list[str]:
        return [one["data"]["text"] for one in self.heard if one["type"] == "said"]

    @property
    def joined(self) -> list[dict[str, Any]]:
        return [one["data"] for one in self.heard if one["type"] == "joined"]

    @property
    def position(self) -> Position:
        """Where a client knows to be."""
        joined = self.joined[-1]
        offsets = [one.get("offset", 0) for one in self.heard]
        return Position(joined["epoch"], max([joined["offset"], *offsets]))

    async def join(self, rooms: Rooms, since: Position | None = None) -> Ear:
        await rooms.join(self, ROOM, tenant_id=None, since=since)
        return self


async def say(rooms: Rooms, *texts: str) -> None:
    for text in texts:
        await rooms.publish(ROOM, Said(text=text))


class LeakyLog(MemoryLog):
    """A log whose messages are not heard while it leaks, or only after others."""

    def __init__(self) -> None:
        super().__init__()
        self.leaks = False
        self.reads = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def listen(self, heard: Heard, *, lost: Callable[[], None]) -> None:
        def leaking(room: str, epoch: str, entry: Entry) -> None:
            if not self.leaks:
                heard(room, epoch, entry)

        await super().listen(leaking, lost=lost)

    async def read(self, room: str, *, after: int) -> Replay:
        self.reads += 1
        replay = await super().read(room, after=after)  # as it is when the read begins
        await self.may_answer.wait()
        return replay


@asynccontextmanager
async def running(log: MemoryLog | None = None) -> AsyncGenerator[Rooms]:
    rooms = Rooms(log)
    async with rooms.running():
        await asyncio.sleep(0)
        yield rooms


class TestOneProcess:
    async def test_a_message_says_who_when_and_what(self) -> None:
        rooms, ann = Rooms(clock=FrozenClock()), uuid4()
        async with rooms.running():
            await asyncio.sleep(0)
            ear = await Ear().join(rooms)
            spoken = rooms.spoken(ROOM, Said(text='"ü"'), tenant_id=None, sender=ann)
            await rooms.say(spoken)
        assert ear.heard[1] == {
            "type": "said",
            "room": ROOM,
            "from": str(ann),
            "data": {"text": '"ü"'},
            "timestamp": "2030-01-01T12:00:00.000Z",
            "offset": 1,
        }

    async def test_who_comes_back_gets_exactly_what_was_missed(self) -> None:
        async with running() as rooms:
            ear = await Ear().join(rooms)
            assert ear.joined[0]["recovered"] is False  # nothing was asked for
            await say(rooms, "a", "b")
            await rooms.leave(ear, ROOM, tenant_id=None)
            await say(rooms, "c", "d")
            back = await Ear().join(rooms, since=ear.position)
            await say(rooms, "e")
        assert back.joined[0]["recovered"] is True
        assert (ear.texts, back.texts) == (["a", "b"], ["c", "d", "e"])

    async def test_who_missed_nothing_is_told_so(self) -> None:
        async with running() as rooms:
            ear = await Ear().join(rooms)
            await say(rooms, "a")
            again = await Ear().join(rooms, since=ear.position)
        assert again.joined[0]["recovered"] is True
        assert again.texts == []

    @pytest.mark.parametrize("position", ["epoch", "future", "gone", "too much", "ü"])
    async def test_what_cannot_be_recovered_is_not_said_to_be(self, position: str) -> None:
        async with running() as rooms:
            ear = await Ear().join(rooms)
            start = ear.position
            length = 1100 if position == "gone" else 3
            long = {"too much": "x" * 60_000, "ü": "ü" * 30_000}.get(position, "short")
            for _ in range(length if long == "short" else 20):  # of ü fewer than 1 Mi, as text
                await say(rooms, long)
            since = {
                "epoch": Position("another", 1),
                "future": Position(start.epoch, 99_999),
            }.get(position, start)
            back = await Ear().join(rooms, since=since)
        assert back.joined[0]["recovered"] is False
        assert back.joined[0]["offset"] == ear.position.offset  # go on from here
        assert back.texts == []

    async def test_rooms_of_tenants_are_apart(self) -> None:
        one, two = uuid4(), uuid4()
        async with running() as rooms:
            ears = {tenant: Ear() for tenant in (one, two, None)}
            for tenant, ear in ears.items():
                await rooms.join(ear, ROOM, tenant_id=tenant, since=None)
            await rooms.publish(ROOM, Said(text="of one"), tenant_id=one)
            assert await rooms.members(ROOM, tenant_id=uuid4()) == []
        assert [ear.texts for ear in ears.values()] == [["of one"], [], []]

    async def test_members_are_users_each_once(self) -> None:
        async with running() as rooms:
            ears = [await Ear(user).join(rooms) for user in ("ann", "ann", "bob")]
            assert sorted(await rooms.members(ROOM, tenant_id=None)) == ["ann", "bob"]
            assert ears[2].joined[0]["member_count"] == 2
            await rooms.leave(ears[0], ROOM, tenant_id=None)
            assert sorted(await rooms.members(ROOM, tenant_id=None)) == ["ann", "bob"]
            await rooms.leave(ears[1], ROOM, tenant_id=None)
            await rooms.leave(ears[1], ROOM, tenant_id=None)  # again: nothing happens
            assert await rooms.members(ROOM, tenant_id=None) == ["bob"]

    async def test_who_has_left_hears_nothing(self) -> None:
        async with running() as rooms:
            ear = await Ear().join(rooms)
            await rooms.leave(ear, ROOM, tenant_id=None)
            await say(rooms, "a")
        assert ear.texts == []

    @pytest.mark.parametrize(
        ("room", "message"),
        [
            ("", Said()),
            ("a/b", Said()),
            ("x" * 129, Said()),
            (ROOM, Said(type="joined")),
            (ROOM, Said(type="")),
            (ROOM, Said(text="ü" * (MAX_MESSAGE_BYTES // 2))),
        ],
    )
    async def test_what_is_no_room_or_no_message_is_refused(
        self, room: str, message: BaseModel
    ) -> None:
        with pytest.raises(ValueError, match=r"room|type"):
            await Rooms().publish(room, message)

    def test_names_of_rooms(self) -> None:
        assert is_room_name("chat:42_~.-Z")
        assert not any(is_room_name(name) for name in ("", "a b", "a/b", "ä", "a\n"))


class TestGaps:
    async def test_what_was_not_heard_is_read(self) -> None:
        log = LeakyLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            await say(rooms, "a")
            log.leaks = True
            await say(rooms, "b", "c")
            log.leaks = False
            assert ear.texts == ["a"]
            await say(rooms, "d")
            await until(lambda: len(ear.texts) == 4)
            await say(rooms, "e")
        assert ear.texts == ["a", "b", "c", "d", "e"]
        assert len(ear.joined) == 1  # nobody had to be told

    async def test_what_is_said_while_it_is_read_comes_after_it(self) -> None:
        log = LeakyLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            log.leaks = True
            await say(rooms, "a")
            log.leaks = False
            log.may_answer.clear()
            await say(rooms, "b")
            await until(lambda: log.reads == 2)
            await say(rooms, "c", "d")  # heard; what is read knows nothing of them
            assert ear.texts == []
            log.may_answer.set()
            await until(lambda: len(ear.texts) == 4)
        assert ear.texts == ["a", "b", "c", "d"]

    async def test_who_joins_meanwhile_gets_each_message_once(self) -> None:
        log = LeakyLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            start = ear.position
            await say(rooms, "a")
            log.may_answer.clear()
            back = Ear()
            joining = asyncio.create_task(back.join(rooms, since=start))
            await until(lambda: log.reads == 2)
            await say(rooms, "b", "c")
            log.may_answer.set()
            await joining
            await say(rooms, "d")
        assert back.texts == ear.texts == ["a", "b", "c", "d"]
        assert back.heard[0]["type"] == "joined"

    async def test_a_room_that_began_anew_is_told(self) -> None:
        log = MemoryLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            await say(rooms, "a")
            await log.renew(f"/{ROOM}")
            await until(lambda: len(ear.joined) == 2)
            await say(rooms, "b")
        assert ear.joined[1]["recovered"] is False
        assert ear.joined[1]["epoch"] != ear.joined[0]["epoch"]
        assert ear.position.offset == 1
        assert ear.texts == ["a", "b"]

    async def test_what_is_lost_while_somebody_joins_is_read(self) -> None:
        log = LeakyLog()
        async with running(log) as rooms:
            ear, back = await Ear().join(rooms), Ear()
            start = ear.position
            await say(rooms, "a")
            log.may_answer.clear()
            joining = asyncio.create_task(back.join(rooms, since=start))
            await until(lambda: log.reads == 2)
            log.leaks = True
            await say(rooms, "b")  # neither heard, nor in what was read before
            log.leaks = False
            rooms._lost()  # as when it hears again
            log.may_answer.set()
            await joining
            await until(lambda: len(ear.texts) == len(back.texts) == 2)
            await say(rooms, "c")
        assert ear.texts == back.texts == ["a", "b", "c"]
        assert (len(ear.joined), len(back.joined)) == (1, 1)  # nobody had to be told

    async def test_what_is_lost_while_it_is_read_is_read(self) -> None:
        log = LeakyLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            log.may_answer.clear()
            rooms._lost()
            await until(lambda: log.reads == 2)
            log.leaks = True
            await say(rooms, "a")
            log.leaks = False
            rooms._lost()
            log.may_answer.set()
            await until(lambda: ear.texts == ["a"])
            assert log.reads == 3, "once for each time"
            await until(lambda: not rooms._rooms[f"/{ROOM}"].is_behind)

    async def test_the_last_of_too_much_at_once_is_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_delivery, "_MAX_BACKLOG", 2)
        monkeypatch.setattr(room_log, "HISTORY_MESSAGES", 3)  # what was heard need not be there
        log = LeakyLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            log.may_answer.clear()
            joining = asyncio.create_task(Ear().join(rooms, since=Position("x", 0)))
            await until(lambda: log.reads == 2)
            await say(rooms, *"abcd")  # nothing after it shows a gap
            log.may_answer.set()
            await joining
            await until(lambda: len(ear.texts) == 4)
        assert ear.texts == list("abcd")
        assert len(ear.joined) == 1

    async def test_too_much_at_once_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room_delivery, "_MAX_BACKLOG", 2)
        log = LeakyLog()
        async with running(log) as rooms:
            ear = await Ear().join(rooms)
            log.may_answer.clear()
            joining = asyncio.create_task(Ear().join(rooms, since=Position("x", 0)))
            await until(lambda: log.reads == 2)
            await say(rooms, *"abcd")
            log.may_answer.set()
            await joining
            await say(rooms, "e")
            await until(lambda: len(ear.texts) == 5)
        assert ear.texts == list("abcde")


class AwayLog(MemoryLog):
    """A log that may be away."""

    is_away = True

    async def append(self, room: str, text: str, *, but: str = "") -> Position:
        if self.is_away:
            raise Unavailable
        return await super().append(room, text, but=but)


async def test_the_time_to_owe_and_to_pay_does_not_grow_with_what_is_owed() -> None:
    log = AwayLog()
    rooms = Rooms(log)

    async def cpu_seconds(work: Awaitable[None]) -> float:
        start = time.process_time()
        await work
        return time.process_time() - start

    first = await cpu_seconds(say(rooms, *["hello"] * 1000))
    await say(rooms, *["hello"] * 13_000)
    last = await cpu_seconds(say(rooms, *["hello"] * 1000))
    assert last < 6 * first, "it was 25 times as much"
    log.is_away = False
    assert await cpu_seconds(rooms._pay()) < 30 * first, "it was 200 times as much"
    assert (await log.read(f"/{ROOM}", after=0)).top.offset == 15_000
    assert rooms._owed_bytes == 0


async def test_what_is_owed_is_counted_in_bytes() -> None:
    rooms = Rooms(AwayLog())
    await say(rooms, "ü" * 1000)
    assert rooms._owed_bytes == sum(len(owed.text.encode()) for owed in rooms._owed) > 2000


@pytest.fixture
def own_valkey(tmp_path: Path) -> Any:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def processes(
    url: str, count: int, *, name: str = "delivery"
) -> AsyncGenerator[Sequence[Rooms]]:
    """Several processes of one service."""
    async with AsyncExitStack() as stack:
        found: list[Rooms] = []
        for _ in range(count):
            link = RedisLink(url, name=name, wait_seconds=5, retry_seconds=0.05)
            stack.push_async_callback(link.close)
            log = RedisRooms(link)
            found.append(Rooms(log, log))
            await stack.enter_async_context(found[-1].running())
        yield found


async def hears(ear: Ear, rooms: Rooms) -> None:
    """Wait until what ``rooms`` says reaches ``ear``: it listens by then."""
    probe = uuid4().hex
    async with asyncio.timeout(20):
        while probe not in ear.texts:
            await say(rooms, probe)
            await asyncio.sleep(0.02)


class TestSeveralProcesses:
    async def test_all_hear_all_and_know_of_each_other(self, valkey: Valkey) -> None:
        async with processes(valkey.url, 2, name=str(uuid4())) as (one, two):
            ann, bob = await Ear("ann").join(one), await Ear("bob").join(two)
            await hears(ann, two)
            await hears(bob, one)
            start = len(ann.texts)
            await asyncio.gather(say(one, *"abc"), say(two, *"xyz"))
            await until(lambda: "c" in bob.texts and "z" in bob.texts)
            await until(lambda: "c" in ann.texts and "z" in ann.texts)
            assert ann.texts[start:] == bob.texts[-6:]
            assert sorted(await one.members(ROOM, tenant_id=None)) == ["ann", "bob"]
            await two.leave(bob, ROOM, tenant_id=None)
            assert await one.members(ROOM, tenant_id=None) == ["ann"]
            back = await Ear("bob").join(one, since=bob.position)
            assert back.joined[0]["recovered"] is True
            assert back.texts == []

    async def test_without_redis_those_here_hear_and_the_others_later(
        self, own_valkey: Valkey
    ) -> None:
        async with processes(own_valkey.url, 2) as (one, two):
            ann, bob = await Ear("ann").join(one), await Ear("bob").join(two)
            await hears(ann, two)
            await hears(bob, one)
            own_valkey.stop()
            assert await one.publish(ROOM, Said(text="meanwhile")) is None
            await say(one, "and more")
            assert ann.texts[-2:] == ["meanwhile", "and more"]
            cid = await Ear("cid").join(one)  # nothing can be said of a position
            assert (cid.joined[0]["epoch"], cid.joined[0]["recovered"]) == (None, False)
            own_valkey.start()
            await until(lambda: len(bob.joined) == 2, seconds=20)
            await until(lambda: len(cid.joined) == 2, seconds=20)
            # It came back without what it knew, which everybody is told; ann heard each once.
            assert [one["recovered"] for one in (*ann.joined[1:], *bob.joined[1:])] == [False] * 2
            assert [ann.texts.count(text) for text in ("meanwhile", "and more")] == [1, 1]
            await hears(bob, one)

    async def test_a_frozen_redis_loses_nothing(self, own_valkey: Valkey) -> None:
        async with processes(own_valkey.url, 2) as (one, two):
            ann, bob = await Ear("ann").join(one), await Ear("bob").join(two)
            await hears(ann, two)
            await hears(bob, one)
            own_valkey.freeze()
            task = asyncio.create_task(say(one, "a", "b"))
            await until(lambda: "b" in ann.texts, seconds=30)
            own_valkey.thaw()
            await task
            await until(lambda: {"a", "b"} <= set(bob.texts), seconds=20)

    async def test_more_than_can_be_owed_is_told(
        self, own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_delivery, "_MAX_OWED_BYTES", 500)
        async with processes(own_valkey.url, 2) as (one, two):
            bob = await Ear("bob").join(two)
            await hears(bob, one)
            own_valkey.stop()
            await say(one, *(str(number) for number in range(20)))
            assert one._owed_bytes <= 500
            own_valkey.start()
            await until(lambda: len(bob.joined) >= 2, seconds=20)
            await hears(bob, one)
            assert all(joined["recovered"] is False for joined in bob.joined[1:])
