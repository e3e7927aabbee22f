"""Limits: exactly as many pass as the rate says, in bounded memory."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from sample_valkey import Valkey, until

from newel.drivers.redis import RedisLink
from newel.limits import Decision, Limiter, MemoryLimiter, Rate, SharedLimiter

FIVE_A_MINUTE = Rate(5, 60)


class MovedClock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.seconds += seconds


class ServersClock:
    """Moves what is counted back, since nobody moves the server's clock."""

    def __init__(self, valkey: Valkey, name: str) -> None:
        self._client = redis.Redis(unix_socket_path=valkey.url.removeprefix("unix://"))
        self._keys = f"{{{name}}}:limit:*"

    def move(self, seconds: float) -> None:
        for key in self._client.scan_iter(self._keys):
            for rate, recovered in self._client.hgetall(key).items():
                self._client.hset(key, rate, int(float(recovered) - seconds * 1_000_000))

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def limiter(clock: MovedClock) -> MemoryLimiter:
    return MemoryLimiter(monotonic=clock)


async def hits(limiter: Limiter, rate: Rate, times: int, key: str = "ip:192.0.2.1") -> list[bool]:
    return [(await limiter.hit(key, rate)).allowed for _ in range(times)]


class TestRate:
    @pytest.mark.parametrize(
        ("text", "limit", "period_seconds"),
        [
            ("5/minute", 5, 60),
            ("100/hour", 100, 3600),
            ("10/30s", 10, 30),
            ("1/second", 1, 1),
            ("1/s", 1, 1),
            ("3/2seconds", 3, 2),
            ("3/2 minutes", 3, 120),
            ("7/m", 7, 60),
            ("7/h", 7, 3600),
            ("1000/day", 1000, 86_400),
            ("2/7days", 2, 604_800),
            (" 5/minute ", 5, 60),
        ],
    )
    def test_is_read_as_the_settings_write_it(
        self, text: str, limit: int, period_seconds: float
    ) -> None:
        rate = Rate.parse(text)
        assert rate == Rate(limit, period_seconds)
        assert Rate.parse(str(rate)) == rate

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "5",
            "5/",
            "/minute",
            "0/minute",
            "-5/minute",
            "5/0s",
            "5/-1s",
            "5/fortnight",
            "5 per minute",
            "5/minute; 10/hour",
            "1.5/minute",
            "5/minute\n5",
            "9999999999/second",
            "\N{ARABIC-INDIC DIGIT FIVE}/minute",
        ],
    )
    def test_what_is_no_rate_is_refused_with_the_right_form(self, text: str) -> None:
        with pytest.raises(ValueError, match="5/minute"):
            Rate.parse(text)

    @pytest.mark.parametrize(
        ("limit", "period_seconds"),
        [(0, 1), (-1, 1), (1, 0), (1, -1), (1, float("inf")), (1, float("nan"))],
    )
    def test_a_rate_that_never_or_always_allows_is_refused(
        self, limit: int, period_seconds: float
    ) -> None:
        with pytest.raises(ValueError, match="not a rate"):
            Rate(limit, period_seconds)


@pytest.mark.anyio
class TestContract:
    """What every limiter does: in the process, and over a real Valkey."""

    @pytest.fixture(params=["process", "valkey"])
    async def counted(
        self, request: pytest.FixtureRequest
    ) -> AsyncGenerator[tuple[Limiter, MovedClock | ServersClock]]:
        if request.param == "process":
            moved = MovedClock()
            yield MemoryLimiter(monotonic=moved), moved
            return
        valkey: Valkey = request.getfixturevalue("valkey")
        name = f"limits {uuid4()}"
        # What is tested is how it counts: 5,000 at once take longer than a request may.
        link = RedisLink(valkey.url, name=name, wait_seconds=20)
        servers = ServersClock(valkey, name)
        yield SharedLimiter(link, alone=Unused()), servers
        servers.close()
        await link.close()

    @pytest.fixture
    def limiter(self, counted: tuple[Limiter, MovedClock | ServersClock]) -> Limiter:
        return counted[0]

    @pytest.fixture
    def clock(
        self, counted: tuple[Limiter, MovedClock | ServersClock]
    ) -> MovedClock | ServersClock:
        return counted[1]

    async def test_the_whole_limit_at_once_and_not_one_more(self, limiter: Limiter) -> None:
        assert await hits(limiter, FIVE_A_MINUTE, 6) == [True] * 5 + [False]

    async def test_comes_back_evenly(
        self, limiter: Limiter, clock: MovedClock | ServersClock
    ) -> None:
        await hits(limiter, FIVE_A_MINUTE, 5)
        clock.move(11.5)
        assert await hits(limiter, FIVE_A_MINUTE, 1) == [False]
        clock.move(0.6)
        assert await hits(limiter, FIVE_A_MINUTE, 2) == [True, False]
        clock.move(60)
        assert await hits(limiter, FIVE_A_MINUTE, 6) == [True] * 5 + [False]

    async def test_trying_does_not_make_the_wait_longer(
        self, limiter: Limiter, clock: MovedClock | ServersClock
    ) -> None:
        await hits(limiter, FIVE_A_MINUTE, 1000)
        clock.move(12.01)
        assert await hits(limiter, FIVE_A_MINUTE, 1) == [True]

    @pytest.mark.parametrize("limit", [1, 3, 7, 100, 1000])
    async def test_n_of_5n_at_the_same_time_pass(self, limiter: Limiter, limit: int) -> None:
        rate = Rate(limit, 86_400)  # so slow that none comes back meanwhile
        tasks = [limiter.hit("k", rate) for _ in range(5 * limit)]
        decisions = await asyncio.gather(*tasks)
        assert sum(decision.allowed for decision in decisions) == limit

    async def test_keys_and_rates_count_apart(self, limiter: Limiter) -> None:
        await hits(limiter, FIVE_A_MINUTE, 5, key="a")
        assert await hits(limiter, FIVE_A_MINUTE, 1, key="b") == [True]
        assert await hits(limiter, Rate(1, 3600), 2, key="a") == [True, False]

    async def test_reset_gives_back_every_rate_of_the_key_only(self, limiter: Limiter) -> None:
        hourly = Rate(1, 3600)
        for key in ("a", "b"):
            await hits(limiter, FIVE_A_MINUTE, 5, key=key)
            await hits(limiter, hourly, 1, key=key)
        await limiter.reset("a")
        assert await hits(limiter, FIVE_A_MINUTE, 1, key="a") == [True]
        assert await hits(limiter, hourly, 1, key="a") == [True]
        assert await hits(limiter, FIVE_A_MINUTE, 1, key="b") == [False]
        assert await hits(limiter, hourly, 1, key="b") == [False]

    async def test_a_reset_of_nobody_is_no_error(self, limiter: Limiter) -> None:
        await hits(limiter, FIVE_A_MINUTE, 1, key="a")
        await limiter.reset("b")
        assert await hits(limiter, FIVE_A_MINUTE, 5, key="a") == [True] * 4 + [False]

    async def test_a_cost_is_taken_whole_or_not_at_all(self, limiter: Limiter) -> None:
        assert (await limiter.hit("k", FIVE_A_MINUTE, cost=3)).remaining == 2
        refused = await limiter.hit("k", FIVE_A_MINUTE, cost=3)
        assert (refused.allowed, refused.remaining) == (False, 2)
        assert (await limiter.hit("k", FIVE_A_MINUTE, cost=2)).allowed

    @pytest.mark.parametrize("cost", [0, -1, 6])
    async def test_a_cost_that_cannot_be_is_the_callers_mistake(
        self, limiter: Limiter, cost: int
    ) -> None:
        with pytest.raises(ValueError, match="can never be allowed by 5/60s"):
            await limiter.hit("k", FIVE_A_MINUTE, cost=cost)
        assert (await limiter.hit("k", FIVE_A_MINUTE)).remaining == 4

    async def test_says_what_remains_and_when_to_come_back(
        self, limiter: Limiter, clock: MovedClock | ServersClock
    ) -> None:
        first = await limiter.hit("k", FIVE_A_MINUTE)
        assert (first.limit, first.remaining) == (5, 4)
        assert first.retry_after_seconds == 0
        assert first.reset_after_seconds == pytest.approx(12, abs=0.5)
        await hits(limiter, FIVE_A_MINUTE, 4, key="k")
        clock.move(2)
        refused = await limiter.hit("k", FIVE_A_MINUTE)
        assert (refused.allowed, refused.remaining) == (False, 0)
        assert refused.retry_after_seconds == pytest.approx(10, abs=0.5)
        assert refused.reset_after_seconds == pytest.approx(58, abs=0.5)
        # And that is true.
        clock.move(refused.retry_after_seconds + 0.001)
        assert await hits(limiter, FIVE_A_MINUTE, 1, key="k") == [True]

    async def test_long_keys_count_apart_too(self, limiter: Limiter) -> None:
        for end in "ab":
            assert await hits(limiter, Rate(1, 60), 2, key="x" * 1000 + end) == [True, False]


class Unused(MemoryLimiter):
    """What counts when Redis is away, and must not while it is there."""

    async def hit(self, key: str, rate: Rate, *, cost: int = 1) -> Decision:
        raise AssertionError("Redis was there")


@asynccontextmanager
async def shared(url: str, *, name: str) -> AsyncGenerator[SharedLimiter]:
    link = RedisLink(url, name=name, wait_seconds=5, retry_seconds=0.02)
    try:
        yield SharedLimiter(link)
    finally:
        await link.close()


@pytest.mark.anyio
class TestSharedLimiter:
    async def test_the_count_is_everybodys(self, valkey: Valkey) -> None:
        key = str(uuid4())
        async with (
            shared(valkey.url, name="one") as here,
            shared(valkey.url, name="one") as there,
            shared(valkey.url, name="another") as elsewhere,
        ):
            assert await hits(here, FIVE_A_MINUTE, 3, key) == [True] * 3
            assert await hits(there, FIVE_A_MINUTE, 3, key) == [True, True, False]
            assert await hits(elsewhere, FIVE_A_MINUTE, 1, key) == [True]

    async def test_counters_go_when_they_have_recovered(self, valkey: Valkey) -> None:
        name = f"recover {uuid4()}"
        server = ServersClock(valkey, name)
        async with shared(valkey.url, name=name) as limiter:
            await hits(limiter, Rate(5, 2), 5)
            await hits(limiter, Rate(1, 0.01), 1)
            assert list(server._client.scan_iter(server._keys))
            await until(lambda: not list(server._client.scan_iter(server._keys)))
        server.close()

    async def test_a_clock_that_was_put_back_owes_one_period_at_most(self, valkey: Valkey) -> None:
        name = f"clock {uuid4()}"
        server = ServersClock(valkey, name)
        async with shared(valkey.url, name=name) as limiter:
            await hits(limiter, FIVE_A_MINUTE, 1)
            server.move(-86_400)  # what was counted is a day ahead
            refused = await limiter.hit("ip:192.0.2.1", FIVE_A_MINUTE)
            assert not refused.allowed
            assert refused.retry_after_seconds <= 12
        server.close()

    async def test_while_redis_is_away_each_counts_by_itself(self, tmp_path: Path) -> None:
        server = Valkey(tmp_path)
        server.start()
        async with shared(server.url, name="away") as limiter:
            assert await hits(limiter, FIVE_A_MINUTE, 6) == [True] * 5 + [False]
            server.stop()
            assert await hits(limiter, FIVE_A_MINUTE, 6) == [True] * 5 + [False]
            await limiter.reset("ip:192.0.2.1")
            assert await hits(limiter, FIVE_A_MINUTE, 6) == [True] * 5 + [False]
            server.start()
            async with asyncio.timeout(10):  # it counts anew, and for all again
                while not (await hits(limiter, FIVE_A_MINUTE, 1))[0]:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.005)
        server.stop()


@pytest.mark.anyio
class TestMemory:
    async def test_takes_the_monotonic_clock_by_default(self) -> None:
        assert await hits(MemoryLimiter(), Rate(1, 3600), 2) == [True, False]

    async def test_keys_that_have_recovered_go(
        self, limiter: MemoryLimiter, clock: MovedClock
    ) -> None:
        for number in range(1000):
            await limiter.hit(f"ip:{number}", FIVE_A_MINUTE)
        assert len(limiter) == 1000
        clock.move(61)
        for _ in range(500):
            await limiter.hit("ip:again", FIVE_A_MINUTE)
        assert len(limiter) == 1

    async def test_the_number_of_keys_is_bounded(self, clock: MovedClock) -> None:
        limiter = MemoryLimiter(max_keys=100, monotonic=clock)
        for number in range(1000):
            await limiter.hit(f"ip:{number}", FIVE_A_MINUTE)
            await limiter.hit(f"ip:{number}", Rate(1, 3600))
        assert len(limiter) == 100

    async def test_a_flood_of_keys_does_not_free_who_keeps_trying(self, clock: MovedClock) -> None:
        limiter = MemoryLimiter(max_keys=100, monotonic=clock)
        await hits(limiter, FIVE_A_MINUTE, 5, key="attacker")
        for number in range(1000):
            await limiter.hit(f"ip:{number}", FIVE_A_MINUTE)
            if number % 50 == 0:
                assert await hits(limiter, FIVE_A_MINUTE, 1, key="attacker") == [False]
        # The control: who does not, is forgotten first.
        for number in range(100):
            await limiter.hit(f"ip:{number}", FIVE_A_MINUTE)
        assert await hits(limiter, FIVE_A_MINUTE, 1, key="attacker") == [True]

    async def test_a_flood_under_one_rate_does_not_free_another(self, clock: MovedClock) -> None:
        limiter = MemoryLimiter(max_keys=100, monotonic=clock)
        login = Rate(5, 60)
        await hits(limiter, login, 5, key="attacker")
        for number in range(1000):
            await limiter.hit(f"ip:{number}", Rate(100, 60))
        assert await hits(limiter, login, 1, key="attacker") == [False]

    async def test_a_rate_counts_although_another_has_filled_the_memory(
        self, clock: MovedClock
    ) -> None:
        limiter = MemoryLimiter(max_keys=100, monotonic=clock)
        for number in range(100):
            await limiter.hit(f"ip:{number}", Rate(100, 60))
        assert await hits(limiter, FIVE_A_MINUTE, 6) == [True] * 5 + [False]

    async def test_reset_makes_room(self, clock: MovedClock) -> None:
        limiter = MemoryLimiter(max_keys=2, monotonic=clock)
        for key in ("a", "b"):
            await limiter.hit(key, FIVE_A_MINUTE)
        await limiter.reset("b")
        await limiter.hit("c", FIVE_A_MINUTE)
        assert (await limiter.hit("a", FIVE_A_MINUTE)).remaining == 3

    async def test_long_keys_are_held_short_and_still_differ(self, limiter: MemoryLimiter) -> None:
        long = "key:" + "x" * 1_000_000
        await hits(limiter, FIVE_A_MINUTE, 5, key=long + "1")
        assert await hits(limiter, FIVE_A_MINUTE, 1, key=long + "1") == [False]
        assert await hits(limiter, FIVE_A_MINUTE, 1, key=long + "2\ud800") == [True]
        assert all(len(key) <= 128 for key in limiter._counts[FIVE_A_MINUTE].recovered_at)
        await limiter.reset(long + "1")
        assert await hits(limiter, FIVE_A_MINUTE, 1, key=long + "1") == [True]

    def test_no_room_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="room"):
            MemoryLimiter(max_keys=0)


steps = st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 7)), min_size=1, max_size=60)


class TestProperties:
    @given(limit=st.sampled_from([1, 2, 5, 10]), steps=steps)
    def test_is_the_same_as_a_bucket_counted_in_fractions(self, limit: int, steps: list) -> None:
        """The model: a bucket that fills by ``limit`` a period, in exact arithmetic."""
        clock = MovedClock()
        limiter, rate = MemoryLimiter(monotonic=clock), Rate(limit, 60)

        async def compare() -> None:
            bucket = Fraction(limit)
            for milliseconds, wanted in steps:
                cost = min(wanted, limit)
                clock.move(milliseconds * 2**-10)  # a sum that floats hold exactly
                bucket = min(limit, bucket + Fraction(milliseconds, 2**10) * limit / 60)
                decision = await limiter.hit("k", rate, cost=cost)
                assert decision.allowed == (bucket >= cost)
                missing = max(Fraction(0), (cost - bucket) * 60 / limit)
                assert decision.retry_after_seconds == pytest.approx(float(missing), abs=1e-6)
                bucket -= cost if decision.allowed else 0
                assert decision.remaining == bucket // 1
                back = float((limit - bucket) * 60 / limit)
                assert decision.reset_after_seconds == pytest.approx(back, abs=1e-6)

        asyncio.run(compare())

    @given(
        limit=st.integers(1, 50),
        period_seconds=st.floats(0.001, 100_000),
        gaps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
    )
    def test_no_stretch_of_time_lets_more_pass_than_the_rate(
        self, limit: int, period_seconds: float, gaps: list
    ) -> None:
        clock = MovedClock()
        limiter, rate = MemoryLimiter(monotonic=clock), Rate(limit, period_seconds)
        passed: list[float] = []

        async def use() -> None:
            for gap in gaps:
                clock.move(gap * period_seconds / limit)
                if (await limiter.hit("k", rate)).allowed:
                    passed.append(clock())

        asyncio.run(use())
        for i, start in enumerate(passed):
            for j, end in enumerate(passed[i:], 1):
                assert j <= limit + (end - start) * limit / period_seconds + 1e-3

    @given(keys=st.lists(st.integers(0, 40), max_size=300), gaps=st.floats(0, 30))
    def test_the_count_of_keys_is_right(self, keys: list, gaps: float) -> None:
        clock = MovedClock()
        limiter = MemoryLimiter(max_keys=20, monotonic=clock)

        async def use() -> None:
            for key in keys:
                clock.move(gaps)
                await limiter.hit(str(key), Rate(1 + key % 3, 60))
                if key == 7:
                    await limiter.reset("7")
                held = sum(len(each.recovered_at) for each in limiter._counts.values())
                assert len(limiter) == held <= 20

        asyncio.run(use())


def decision(**changes) -> Decision:
    values = {
        "allowed": True,
        "limit": 5,
        "period_seconds": 60,
        "remaining": 4,
        "retry_after_seconds": 0.0,
        "reset_after_seconds": 12.0,
    }
    return Decision(**{**values, **changes})


class TestHeaders:
    def test_are_structured_fields(self) -> None:
        assert decision().headers() == {
            "RateLimit-Policy": '"default";q=5;w=60',
            "RateLimit": '"default";r=4;t=12',
        }

    def test_a_refusal_says_when_to_come_back_in_whole_seconds_rounded_up(self) -> None:
        refused = decision(
            allowed=False, remaining=0, retry_after_seconds=9.1, reset_after_seconds=57.2
        )
        assert refused.headers(policy="login") == {
            "RateLimit-Policy": '"login";q=5;w=60',
            "RateLimit": '"login";r=0;t=58',
            "Retry-After": "10",
        }

    def test_never_says_come_back_at_once(self) -> None:
        refused = decision(allowed=False, remaining=0, retry_after_seconds=0.0)
        assert refused.headers()["Retry-After"] == "1"

    def test_a_fraction_of_a_second_is_a_whole_one(self) -> None:
        assert decision(period_seconds=0.5).headers()["RateLimit-Policy"] == '"default";q=5;w=1'

    @pytest.mark.parametrize("policy", ["", 'a"b', "a\\b", "a\r\nX: 1", "naïve"])
    def test_a_name_that_breaks_the_header_is_refused(self, policy: str) -> None:
        with pytest.raises(ValueError, match="name of a policy"):
            decision().headers(policy=policy)
