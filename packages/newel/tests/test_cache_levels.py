"""The levels of the cache: one contract in one process and over many, never older than a commit."""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr, TypeAdapter, computed_field
from sample_valkey import Valkey, linked, until
from structlog.typing import EventDict

from newel import cache_levels
from newel.cache_levels import LevelCache
from newel.drivers import redis as redis_driver
from newel.drivers.redis import RedisLink
from newel.errors import NotFound, Unavailable
from newel.principal import Principal

pytestmark = pytest.mark.anyio

MINUTE = 60.0


class Report(BaseModel):
    id: UUID
    at: datetime
    total: Decimal
    lines: list[str] = []

    @computed_field
    @property
    def size(self) -> int:
        return len(self.lines)


class Asked(BaseModel):
    of: SecretStr = SecretStr("")
    page: int = Field(1, exclude=True)
    most: float = 0.0


class Listing(BaseModel):
    """As lists of one's own are: who goes through it gets what it has, not its fields."""

    tenant: str
    tags: list[str] = []

    def __iter__(self) -> Any:
        return iter(self.tags)


class Source:
    """Where values come from: counts how often it was asked, and may be held back."""

    def __init__(self, value: Any = "value") -> None:
        self.value = value
        self.loads = 0
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> Any:
        self.loads += 1
        value = self.value  # as it is when the load begins
        self.asked.set()
        await self.may_answer.wait()
        if isinstance(value, Exception):
            raise value
        return value


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def get(
    cache: LevelCache, source: Source, key: Any = "key", tags: Sequence[str] = (), **options: Any
) -> Any:
    options = {"kind": str, "expire": MINUTE, **options}
    return await cache.get_or_set(key, source, tags=tags, **options)


@pytest.fixture(params=["process", "valkey"])
async def cache(request: pytest.FixtureRequest) -> AsyncGenerator[LevelCache]:
    """Each driver: in the process alone, and over a real Valkey."""
    if request.param == "process":
        yield LevelCache()
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    async with linked(valkey.url, name=f"contract {uuid4()}") as (found, _):
        yield found


class TestContract:
    async def test_a_value_is_loaded_once(self, cache: LevelCache) -> None:
        source = Source()
        assert [await get(cache, source) for _ in range(3)] == ["value"] * 3
        assert source.loads == 1

    async def test_keys_are_apart(self, cache: LevelCache) -> None:
        for key in ("a", "b", ("a", "b"), ("a", ("b",)), ("a", None), Principal(id=uuid4())):
            assert await get(cache, Source(repr(key)), key) == repr(key)

    async def test_one_principals_value_is_never_anothers(self, cache: LevelCache) -> None:
        ann, bob = Principal(id=uuid4()), Principal(id=uuid4())
        also_ann = Principal(id=ann.id, permissions=frozenset({"agents:all"}))
        for caller in (ann, bob, also_ann):
            assert await get(cache, Source(repr(caller)), ("mine", caller)) == repr(caller)

    async def test_it_expires(self, cache: LevelCache) -> None:
        source = Source()
        async with asyncio.timeout(5):
            while source.loads < 3:
                await get(cache, source, expire=0.03)

    @pytest.mark.parametrize("forgotten", ["agents", "agents:7", "agents:*", "*"])
    async def test_it_is_forgotten_by_each_of_its_tags(
        self, cache: LevelCache, forgotten: str
    ) -> None:
        source = Source()
        await get(cache, source, tags=["agents", "agents:7"])
        source.value = "newer"
        await cache.forget(forgotten)
        assert await get(cache, source, tags=["agents", "agents:7"]) == "newer"

    @pytest.mark.parametrize("forgotten", ["runs", "agents", "agents:8", "runs:*", "agents:7:x"])
    async def test_other_tags_leave_it(self, cache: LevelCache, forgotten: str) -> None:
        source = Source()
        await get(cache, source, tags=["agents:7"])
        await cache.forget(forgotten)
        await get(cache, source, tags=["agents:7"])
        assert source.loads == 1

    async def test_more_tags_than_can_be_told_are_told_by_their_groups(
        self, cache: LevelCache
    ) -> None:
        seven, other = Source(), Source()
        await get(cache, seven, "seven", tags=["agents:7"])
        await get(cache, other, "other", tags=["runs:7"])
        await cache.forget(*(f"agents:{number}" for number in range(100_000)))
        await get(cache, seven, "seven", tags=["agents:7"])
        await get(cache, other, "other", tags=["runs:7"])
        assert (seven.loads, other.loads) == (2, 1)
        await cache.forget(*(f"table{number}:1" for number in range(1000)))
        await get(cache, other, "other", tags=["runs:7"])
        assert other.loads == 2

    async def test_what_is_forgotten_while_it_is_loaded_is_not_kept(
        self, cache: LevelCache
    ) -> None:
        source = Source("old")
        source.may_answer.clear()
        first = asyncio.create_task(get(cache, source, tags=["agents"]))
        await source.asked.wait()
        await cache.forget("agents")
        source.value = "new"
        source.may_answer.set()
        assert await first == "old"
        assert await get(cache, source, tags=["agents"]) == "new"

    async def test_negative_control_without_its_moment_it_would_be_kept(
        self, cache: LevelCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "_is_untouched", lambda *_: True)
        source = Source("old")
        source.may_answer.clear()
        first = asyncio.create_task(get(cache, source, tags=["agents"]))
        await source.asked.wait()
        await cache.forget("agents")
        source.value = "new"
        source.may_answer.set()
        assert await first == "old"
        assert await get(cache, source, tags=["agents"]) == "old"

    async def test_who_asks_after_a_change_does_not_get_what_was_read_before_it(
        self, cache: LevelCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_levels, "_TURN_SECONDS", 0.2)
        old, new = Source("old"), Source("new")
        old.may_answer.clear()
        first = asyncio.create_task(get(cache, old, tags=["agents"]))
        await old.asked.wait()
        await cache.forget("agents")
        assert await get(cache, new, tags=["agents"]) == "new"
        old.may_answer.set()
        assert await first == "old"
        assert await get(cache, new, tags=["agents"]) == "new"
        assert new.loads == 1

    async def test_a_hundred_misses_are_one_load(self, cache: LevelCache) -> None:
        source = Source()
        assert await asyncio.gather(*(get(cache, source) for _ in range(100))) == ["value"] * 100
        assert source.loads == 1

    async def test_an_error_is_everybodys_and_is_not_kept(self, cache: LevelCache) -> None:
        source = Source(Unavailable("no"))
        source.may_answer.clear()
        tasks = [asyncio.create_task(get(cache, source)) for _ in range(10)]
        await source.asked.wait()
        source.may_answer.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [Unavailable] * 10
        assert source.loads == 1
        source.value = "better"
        assert await get(cache, source) == "better"

    async def test_when_who_loads_is_cancelled_another_loads(self, cache: LevelCache) -> None:
        source = Source()
        source.may_answer.clear()
        tasks = [asyncio.create_task(get(cache, source)) for _ in range(3)]
        await source.asked.wait()
        tasks[0].cancel()
        source.may_answer.set()
        assert await asyncio.gather(*tasks[1:]) == ["value"] * 2
        assert source.loads == 2

    async def test_who_waits_may_be_cancelled(self, cache: LevelCache) -> None:
        source = Source()
        source.may_answer.clear()
        tasks = [asyncio.create_task(get(cache, source)) for _ in range(3)]
        await source.asked.wait()
        tasks[1].cancel()
        source.may_answer.set()
        assert [await tasks[0], await tasks[2]] == ["value"] * 2
        assert source.loads == 1

    async def test_that_there_is_nothing_is_remembered_too(self, cache: LevelCache) -> None:
        nothing, missing = Source(None), Source(NotFound("agent", uuid4()))
        kind = TypeAdapter[str | None](str | None)
        for _ in range(2):
            assert await get(cache, nothing, "nothing", kind=kind) is None
            with pytest.raises(NotFound, match=r"There is no such agent\."):
                await get(cache, missing, "missing", tags=["agents"])
        assert (nothing.loads, missing.loads) == (1, 1)
        await cache.forget("agents")
        missing.value = "made meanwhile"
        assert await get(cache, missing, "missing", tags=["agents"]) == "made meanwhile"

    async def test_that_there_is_nothing_need_not_be_remembered(self, cache: LevelCache) -> None:
        source = Source(NotFound())
        for _ in range(2):
            with pytest.raises(NotFound):
                await get(cache, source, expire_missing=0)
        assert source.loads == 2

    async def test_a_not_found_of_ones_own_kind_stays_one(self, cache: LevelCache) -> None:
        class Gone(NotFound):
            pass

        source = Source(Gone())
        for _ in range(2):
            with pytest.raises(Gone):
                await get(cache, source)
        assert source.loads == 2

    async def test_values_are_what_pydantic_reads(self, cache: LevelCache) -> None:
        report = Report(
            id=uuid4(), at=datetime(2026, 1, 1, tzinfo=UTC), total=Decimal("0.10"), lines=["a"]
        )
        reports = {"by name": [report]}
        kind = dict[str, list[Report]]
        for _ in range(2):
            assert await get(cache, Source(reports), kind=kind) == reports
        report.lines.append("changed by who loaded it")
        kept = await get(cache, Source(reports), kind=kind)
        assert kept["by name"][0].lines == ["a"]

    async def test_a_value_of_another_type_is_refused(self, cache: LevelCache) -> None:
        with pytest.raises(TypeError, match="declared type"):
            await get(cache, Source(object()))

    async def test_a_key_that_is_no_value_is_refused(self, cache: LevelCache) -> None:
        with pytest.raises(TypeError, match="what is no value"):
            await get(cache, Source(), ("key", object()))

    async def test_models_and_lists_may_be_keys(self, cache: LevelCache) -> None:
        for key in ([1, 2], {"a": 1}, Report(id=uuid4(), at=datetime.now(UTC), total=Decimal(1))):
            source = Source()
            await get(cache, source, ("key", key))
            await get(cache, source, ("key", key))
            assert source.loads == 1

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (SecretStr("a"), SecretStr("b")),
            ({"key": SecretBytes(b"a")}, {"key": SecretBytes(b"b")}),
            (Asked(of=SecretStr("a")), Asked(of=SecretStr("b"))),
            (Asked(page=1), Asked(page=2)),
            ([Asked(most=math.inf)], [Asked(most=math.nan)]),
            ([Listing(tenant="a")], [Listing(tenant="b")]),
            ([deque([SecretStr("a")])], [deque([SecretStr("b")])]),
        ],
    )
    async def test_what_json_leaves_out_tells_keys_apart(
        self, cache: LevelCache, one: Any, other: Any
    ) -> None:
        """JSON writes of each pair the same: ``**********``, nothing, ``null``."""
        assert await get(cache, Source("of one"), ("key", one)) == "of one"
        cache.clear()  # another process asks, for which Python's memory does not tell them apart
        assert await get(cache, Source("of the other"), ("key", other)) == "of the other"

    async def test_what_is_too_large_is_not_kept(
        self, cache: LevelCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_levels, "_MAX_VALUE_BYTES", 100)
        source = Source("x" * 200)
        for _ in range(2):
            assert await get(cache, source) == "x" * 200
        assert source.loads == 2


class TestInOneProcess:
    async def test_a_value_is_good_for_as_long_as_said(self) -> None:
        clock, source = Clock(), Source()
        cache = LevelCache(monotonic=clock)
        await get(cache, source, expire=300)
        clock.seconds += 299.9
        await get(cache, source, expire=300)
        assert source.loads == 1
        clock.seconds += 0.1
        await get(cache, source, expire=300)
        assert source.loads == 2

    async def test_nothing_is_remembered_for_thirty_seconds_at_most(self) -> None:
        clock, source = Clock(), Source(None)
        cache = LevelCache(monotonic=clock)
        kind = TypeAdapter[str | None](str | None)
        for seconds, loads in ((29.9, 1), (0.2, 2)):
            await get(cache, source, kind=kind, expire=300)
            clock.seconds += seconds
            assert source.loads == loads or await get(cache, source, kind=kind) is None

    async def test_memory_is_bounded_and_the_unused_goes_first(self) -> None:
        cache = LevelCache(max_bytes=100 * 1300)
        used = Source("x" * 1000)
        await get(cache, used, "used")
        for number in range(500):
            await get(cache, Source("x" * 1000), number)
            await get(cache, used, "used")
        assert used.loads == 1
        again = Source("x" * 1000)
        await get(cache, again, 0)
        assert again.loads == 1

    async def test_what_was_forgotten_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache_levels, "_MAX_FORGOTTEN", 100)
        cache, source = LevelCache(), Source()
        await get(cache, source, tags=["agents:1"])
        for number in range(2, 1000):
            await cache.forget(f"agents:{number}")
            assert len(cache._forgotten) <= 100
        await get(cache, source, tags=["agents:1"])
        assert source.loads == 2  # more than could be remembered: everything is forgotten

    async def test_a_listener_hears_every_tag(self) -> None:
        cache = LevelCache()
        heard: list[str] = []
        cache.watch(heard.extend)
        await cache.forget("agents", "agents:7")
        cache.clear()
        assert heard == ["agents", "agents:7", "*"]


@pytest.fixture
async def two(valkey: Valkey) -> AsyncGenerator[tuple[LevelCache, LevelCache]]:
    """The caches of two processes, on a machine that may be busy."""
    name = f"two {uuid4()}"
    async with (
        linked(valkey.url, name=name, wait_seconds=10) as (here, _),
        linked(valkey.url, name=name, wait_seconds=10) as (there, _),
    ):
        yield here, there


class TestOverProcesses:
    async def test_one_loads_for_all(self, two: tuple[LevelCache, LevelCache]) -> None:
        here, there = two
        source = Source()
        await get(here, source)
        assert await get(there, source) == "value"
        assert source.loads == 1

    async def test_of_two_hundred_misses_one_loads(
        self, two: tuple[LevelCache, LevelCache]
    ) -> None:
        source = Source()
        found = await asyncio.gather(*(get(cache, source) for cache in two for _ in range(100)))
        assert (found, source.loads) == (["value"] * 200, 1)

    async def test_what_one_forgets_is_gone_from_the_others_memory(
        self, two: tuple[LevelCache, LevelCache]
    ) -> None:
        here, there = two
        source = Source()
        for cache in two:
            await get(cache, source, tags=["agents"])
        source.value = "newer"
        await here.forget("agents")
        assert await get(here, source, tags=["agents"]) == "newer"
        async with asyncio.timeout(1):
            while await get(there, source, tags=["agents"]) != "newer":  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        assert source.loads == 2

    async def test_who_hears_nothing_keeps_the_old_value(
        self, two: tuple[LevelCache, LevelCache], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        here, there = two
        source = Source()
        await get(there, source, tags=["agents"])
        monkeypatch.setattr(there, "_forget_here", lambda _: None)
        source.value = "newer"
        await here.forget("agents")
        assert await get(here, source, tags=["agents"]) == "newer"
        assert await get(there, source, tags=["agents"]) == "value"

    async def test_what_is_forgotten_there_while_it_is_loaded_here_is_kept_nowhere(
        self, two: tuple[LevelCache, LevelCache]
    ) -> None:
        here, there = two
        source = Source("old")
        source.may_answer.clear()
        first = asyncio.create_task(get(here, source, tags=["agents"]))
        await source.asked.wait()
        await there.forget("agents")
        source.value = "new"
        source.may_answer.set()
        assert await first == "old"
        for cache in (there, here):
            assert await get(cache, source, tags=["agents"]) == "new"

    async def test_a_process_that_dies_while_it_loads_holds_nobody_up_for_long(
        self, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_levels, "_TURN_SECONDS", 0.2)
        name, source = f"dies {uuid4()}", Source()
        dead = RedisLink(valkey.url, name=name)
        async with linked(valkey.url, name=name) as (cache, _):
            monkeypatch.setattr(LevelCache, "_fly", _spied(LevelCache._fly, dead))
            assert await get(cache, source) == "value"
            assert source.loads == 1
        await dead.close()

    async def test_another_release_reads_only_what_it_would_write(
        self, two: tuple[LevelCache, LevelCache]
    ) -> None:
        class Before(BaseModel):
            name: str

        class After(BaseModel):
            name: str
            is_new: bool = False

        await get(two[0], Source(Before(name="a")), kind=Before)
        after = await get(two[1], Source(After(name="a", is_new=True)), kind=After)
        assert after.is_new

    async def test_what_cannot_be_read_is_loaded_again(
        self, two: tuple[LevelCache, LevelCache], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_levels, "_shape", lambda _: "the same")
        await get(two[0], Source("words"), kind=str)
        source = Source(7)
        assert [await get(two[1], source, kind=int) for _ in range(2)] == [7, 7]
        assert source.loads == 1


def _spied(fly: Callable[..., Awaitable[Any]], dead: RedisLink) -> Callable[..., Awaitable[Any]]:
    """Let another process take the turn of each load, and die."""

    async def after_the_dead(cache: LevelCache, key: Any, how: Any, flight: Any) -> Any:
        name = f"{cache_levels._text(key)}:{cache_levels._shape(how.adapter)}"
        state, *_ = await dead.look(name, flight.tags, turn="dead", turn_seconds=60)
        assert state == "load"
        return await fly(cache, key, how, flight)

    return after_the_dead


@pytest.fixture
def own_valkey(tmp_path: Path) -> Generator[Valkey]:
    """A server of this test's own, to be broken."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


class TestWithoutRedis:
    async def test_while_it_is_away_everything_is_loaded(self, own_valkey: Valkey) -> None:
        async with linked(own_valkey.url) as (cache, _):
            source = Source()
            await get(cache, source)
            own_valkey.stop()
            await until(lambda: not cache.is_current)
            for loads in (2, 3):
                assert await get(cache, source) == "value"
                assert source.loads == loads
            source.asked.clear()
            source.may_answer.clear()
            tasks = [asyncio.create_task(get(cache, source)) for _ in range(50)]
            await source.asked.wait()
            source.may_answer.set()
            assert await asyncio.gather(*tasks) == ["value"] * 50
            assert source.loads == 4

            own_valkey.start()
            await until(lambda: cache.is_current)
            for _ in range(2):
                await get(cache, source)
            assert source.loads == 5

    async def test_a_server_that_does_not_answer_holds_nobody_up(self, own_valkey: Valkey) -> None:
        async with linked(own_valkey.url) as (cache, _):
            own_valkey.freeze()
            async with asyncio.timeout(1):  # one waits 0.3 s, the others not at all
                for number in range(20):
                    await get(cache, Source(), number)
            own_valkey.thaw()

    async def test_a_server_that_is_silent_is_not_listened_to_any_more(
        self, own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
    ) -> None:
        """It keeps its connections and says nothing: what is in memory may be old."""
        monkeypatch.setattr(redis_driver, "_SILENCE_SECONDS", 0.05)
        async with linked(own_valkey.url) as (cache, _):
            source = Source()
            for _ in range(2):
                await get(cache, source)
            own_valkey.freeze()
            await until(lambda: not cache.is_current, seconds=2)
            await get(cache, source)
            assert source.loads == 2
            own_valkey.thaw()
            await until(lambda: cache.is_current, seconds=2)
            said = [line["event"] for line in log_lines if line["event"].startswith("redis_")]
            assert said == ["redis_connected", "redis_away", "redis_connected"]

    async def test_what_was_forgotten_meanwhile_is_forgotten_when_it_is_back(
        self, own_valkey: Valkey
    ) -> None:
        async with AsyncExitStack() as stack:
            here, _ = await stack.enter_async_context(linked(own_valkey.url))
            there, _ = await stack.enter_async_context(linked(own_valkey.url))
            source = Source()
            for cache in (here, there):
                await get(cache, source, tags=["agents"])
            own_valkey.freeze()
            source.value = "newer"
            await here.forget("agents")
            own_valkey.thaw()
            assert await get(here, source, tags=["agents"]) == "newer"
            async with asyncio.timeout(5):
                while await get(there, source, tags=["agents"]) != "newer":  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.005)

    async def test_what_is_owed_is_paid_though_nobody_asks(
        self, own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_levels, "_PAY_SECONDS", 0.02)
        async with linked(own_valkey.url) as (cache, _):
            own_valkey.freeze()
            await cache.forget("agents")
            assert cache._owed
            own_valkey.thaw()
            await until(lambda: not cache._owed)

    async def test_what_is_owed_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache_levels, "_MAX_FORGOTTEN", 10)
        cache = LevelCache(RedisLink("unix:///nowhere", name="owes", retry_seconds=60))
        for number in range(20):
            await cache.forget(f"agents:{number}")
        assert len(cache._owed) <= 10
        assert "*" in cache._owed

    async def test_a_tag_that_is_forgotten_again_while_it_is_told_is_told_again(self) -> None:
        told: list[Sequence[str]] = []

        class Slow(_Deaf):
            async def forget(self, tags: Sequence[str]) -> None:
                told.append(tags)
                if len(told) == 1:
                    await cache.forget("agents")  # fails below, after the first has been told
                    return
                raise Unavailable

        cache = LevelCache(Slow())
        await cache.forget("agents")
        assert list(cache._owed) == ["agents"]
        assert len(told) == 2


class _Deaf:
    """A store that is never there."""

    is_listening = False

    async def look(self, *_: Any, **__: Any) -> NoReturn:
        raise Unavailable

    async def keep(self, *_: Any, **__: Any) -> NoReturn:
        raise Unavailable

    async def forget(self, tags: Sequence[str]) -> None:
        raise Unavailable

    async def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        await asyncio.Event().wait()


class Process:
    """A process of its own with a cache and a limiter: ``sample_process.py``."""

    def __init__(self, url: str, name: str) -> None:
        script = Path(__file__).with_name("sample_process.py")
        self._running = subprocess.Popen(
            [sys.executable, str(script), url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: str, *arguments: Any) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._running.stdin.flush()

    def read(self) -> Any:
        assert self._running.stdout is not None
        return json.loads(self._running.stdout.readline())

    def ask(self, command: str, *arguments: Any) -> Any:
        self.tell(command, *arguments)
        return self.read()

    def stop(self) -> None:
        self._running.kill()
        self._running.communicate()


@contextmanager
def started(url: str, *names: str) -> Generator[list[Process]]:
    """Start processes, all at once: each imports for a second or two."""
    found = [Process(url, name) for name in names]
    try:
        assert [process.read() for process in found] == ["ready"] * len(names)
        yield found
    finally:
        for process in found:
            process.stop()


@pytest.fixture(scope="module")
def processes(valkey: Valkey) -> Generator[list[Process]]:
    with started(valkey.url, *["of one service"] * 2) as found:
        yield found


def ask_both(processes: list[Process], command: str, *arguments: Any) -> list[Any]:
    for process in processes:
        process.tell(command, *arguments)
    return [process.read() for process in processes]


class TestTwoRealProcesses:
    def test_of_two_hundred_misses_one_loads(self, processes: list[Process]) -> None:
        assert sum(ask_both(processes, "miss", "key", 100)) == 1

    def test_a_value_is_gone_from_the_other_within_50_ms(self, processes: list[Process]) -> None:
        here, there = processes
        seconds = []
        for number in range(9):
            ask_both(processes, "miss", f"key {number}", 1)
            assert there.ask("watch", f"key {number}") == "watching"
            forgotten_at = here.ask("forget", "agents")
            seconds.append(there.read() - forgotten_at)
        assert statistics.median(seconds) <= 0.05, seconds

    def test_exactly_as_many_uses_pass_as_the_limit_says(self, processes: list[Process]) -> None:
        assert sum(ask_both(processes, "hit", "ip:192.0.2.1", "100/day", 250)) == 100
        assert sum(ask_both(processes, "hit", "ip:192.0.2.1", "100/day", 10)) == 0

    def test_each_by_itself_lets_twice_as_many_pass(self, valkey: Valkey) -> None:
        """The negative control: processes that share nothing."""
        with started(valkey.url, "a", "b") as apart:
            assert sum(ask_both(apart, "hit", "ip:192.0.2.1", "100/day", 250)) == 200
            assert sum(ask_both(apart, "miss", "key", 100)) == 2


async def test_what_a_key_holds_counts_too() -> None:
    cache, source = LevelCache(max_bytes=100_000), Source()
    for number in range(100):
        await cache.get_or_set(("search", f"{number:010000}"), source, kind=str, expire=MINUTE)
    await cache.get_or_set(("search", f"{0:010000}"), source, kind=str, expire=MINUTE)
    assert source.loads == 101, "the first one had to go"


async def test_who_is_cancelled_when_the_turn_comes_gives_it_back() -> None:
    """Redis may have given it, though nobody hears of it: all others would wait for its end."""
    asked, kept = asyncio.Event(), list[str]()

    class GivesATurn(_Deaf):
        is_listening = True

        async def look(self, *_: Any, **__: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

        async def keep(self, _name: str, data: bytes, **given: Any) -> Any:
            assert (data, given["expire_seconds"]) == (b"", 0.0)
            kept.append(given["turn"])

    cache = LevelCache(GivesATurn())
    loading = asyncio.create_task(cache.get_or_set("key", Source(), kind=str, expire=MINUTE))
    await asked.wait()
    loading.cancel()
    await asyncio.wait([loading])
    assert len(kept) == 1
