"""Who waits for a connection waits in line, not for ever, and gets one that is alive."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from sample_entities import Tag
from sample_valkey import until
from sqlalchemy import event, func, make_url, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import greenlet_spawn
from stress.proxy import Proxy
from structlog.testing import capture_logs

from newel import context, engines
from newel.db import Database
from newel.errors import Unavailable
from newel.pool import FairPool, watch
from newel.repository import Repository

pytestmark = pytest.mark.anyio


class Tags(Repository[Tag]):
    entity = Tag


async def order_of_service(database: Database) -> list[str]:
    """Let two queue for the only connection, and a third ask in the moment it comes back."""
    served: list[str] = []
    queued = anyio.Event()

    async def ask(name: str) -> None:
        connection = await greenlet_spawn(database.reading_engine.sync_engine.connect)
        served.append(name)
        if name == "old 0":
            group.start_soon(ask, "new")  # it runs before who is woken by our leaving
        await greenlet_spawn(connection.close)

    async with anyio.create_task_group() as group, database.reading_engine.connect():
        group.start_soon(ask, "old 0")
        group.start_soon(ask, "old 1")
        group.start_soon(_soon, queued)
        await queued.wait()
    return served


async def _soon(queued: anyio.Event) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    queued.set()


async def test_first_come_first_served(database_url: str) -> None:
    database = Database(database_url, pool_size=1, max_overflow=0)
    served = await order_of_service(database)
    await database.close()
    assert served == ["old 0", "old 1", "new"]


async def test_who_stops_is_told_nothing_of_the_pools_end(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(database_url)
    await database.ping()
    with caplog.at_level(logging.INFO):  # as `configure_logs` has it
        await database.close()

    assert caplog.messages == []


async def test_everybody_is_served_and_every_place_comes_back(database_url: str) -> None:
    database = Database(database_url, pool_size=2, max_overflow=1, pool_wait_seconds=10)

    async def ask() -> None:
        async with database.reading_engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
    pool = database.reading_engine.pool
    assert isinstance(pool, FairPool)
    assert pool.free == 3
    assert pool.checkedout() == 0
    await database.close()


async def test_who_gives_up_gives_the_place_to_the_next(database_url: str) -> None:
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=5)
    engine = database.reading_engine
    async with engine.connect():
        with anyio.move_on_after(0.01) as gave_up:
            async with engine.connect():
                raise AssertionError
        assert gave_up.cancelled_caught
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_a_place_comes_back_when_the_giving_back_is_cancelled(database_url: str) -> None:
    """What the pool does not keep it closes, and that waits: a deadline may end it there."""
    database = Database(database_url, pool_size=1, max_overflow=1, pool_wait_seconds=20)
    engine = database.reading_engine.sync_engine
    kept, more = [await greenlet_spawn(engine.connect) for _ in range(2)]
    await greenlet_spawn(kept.close)
    giving_back = asyncio.create_task(greenlet_spawn(more.close))
    event.listen(engine, "close", lambda *_: giving_back.cancel())
    with pytest.raises(asyncio.CancelledError):
        await giving_back
    assert database.connections() == {"in_use": 0, "waiting": 0}
    await database.close()


async def test_who_is_cancelled_as_the_turn_comes_passes_it_on(database_url: str) -> None:
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=20)
    engine = database.reading_engine.sync_engine
    only = await greenlet_spawn(engine.connect)
    waiting = asyncio.create_task(greenlet_spawn(engine.connect))
    await until_waiting(database, 1)
    await greenlet_spawn(only.close)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert database.connections() == {"in_use": 0, "waiting": 0}
    await database.ping()
    await database.close()


async def test_who_gives_up_leaves_the_line(database_url: str) -> None:
    """While nothing moves nobody looks at the line, so each has to leave it by themselves."""
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=0.02)
    async with database.reading_engine.connect():
        for _ in range(3):
            told = await asyncio.gather(
                *(database.ping() for _ in range(5)), return_exceptions=True
            )
            assert [type(error) for error in told] == [Unavailable] * 5
        assert database.connections() == {"in_use": 1, "waiting": 0}
    await database.close()


async def test_who_is_called_away_leaves_the_line(database_url: str) -> None:
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=20)
    async with database.reading_engine.connect():
        first, second = [asyncio.create_task(database.ping()) for _ in range(2)]
        await until_waiting(database, 2)
        first.cancel()
        await asyncio.wait([first])
        assert database.connections() == {"in_use": 1, "waiting": 1}
    await second
    await database.close()


async def until_waiting(database: Database, number: int) -> None:
    with anyio.fail_after(20):
        while database.connections()["waiting"] < number:  # noqa: ASYNC110 - a count of theirs
            await asyncio.sleep(0)


async def test_a_connection_that_cannot_be_made_takes_no_place() -> None:
    database = Database("postgresql+asyncpg://nobody@127.0.0.1:9/none", pool_size=1, max_overflow=0)
    for _ in range(3):
        with pytest.raises(Unavailable, match="does not answer"):
            await database.ping()
    await database.close()


async def test_waiting_has_an_end_and_says_when_to_come_back(database_url: str) -> None:
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=0.02)
    async with database.reading_engine.connect():
        with pytest.raises(Unavailable, match="busy") as caught:
            await database.ping()
    assert caught.value.headers == {"Retry-After": "1"}
    await database.ping()
    await database.close()


@pytest.mark.parametrize("who", ["request", "worker"])
async def test_a_request_does_not_join_a_line_in_which_it_would_wait_in_vain(
    database_url: str, who: str
) -> None:
    """A worker does: whoever hears nothing of it for long gives its jobs to others."""
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=60)
    line = cast("FairPool", database.reading_engine.sync_engine.pool)._line
    if who == "request":
        context.deadline.set(time.monotonic() + 60)
    async with database.reading_engine.connect():
        first = asyncio.create_task(database.ping())
        with anyio.fail_after(20):
            while not len(line):
                await anyio.lowlevel.checkpoint()
        [turn] = line._since
        line._since[turn] -= 31  # as if it had waited for so long
        second = asyncio.create_task(database.ping())
        with anyio.fail_after(20):
            while len(line) == 1 and not second.done():
                await anyio.lowlevel.checkpoint()
        assert second.done() is (who == "request")
    await first
    with pytest.raises(Unavailable, match="busy") if who == "request" else nullcontext():
        await second
    await database.close()


@pytest.mark.parametrize(("waiting", "joins"), [(7, True), (8, False)])
async def test_a_request_does_not_join_a_long_line_that_hardly_moves(
    database_url: str, waiting: int, *, joins: bool
) -> None:
    """Each would hold a place that others, who only read, make better use of."""
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=60)
    line = cast("FairPool", database.reading_engine.sync_engine.pool)._line
    context.deadline.set(time.monotonic() + 60)
    async with database.reading_engine.connect():
        queued = [asyncio.create_task(database.ping()) for _ in range(waiting)]
        await until_waiting(database, waiting)
        first = next(iter(line._since))
        line._since[first] -= 0.6  # as if it had waited for so long
        last = asyncio.create_task(database.ping())
        with anyio.fail_after(20):
            while len(line) == waiting and not last.done():
                await anyio.lowlevel.checkpoint()
        assert last.done() is not joins
    await asyncio.gather(*queued)
    with nullcontext() if joins else pytest.raises(Unavailable, match="busy"):
        await last
    await database.close()


class TestPostgresql:
    """What only a server can do: end a connection that lies in the pool."""

    @pytest.fixture(autouse=True)
    def _only_postgresql(self, database: Database) -> None:
        if database.is_sqlite:
            pytest.skip("a file has no server that could end a connection")

    async def test_a_connection_that_the_server_ended_is_replaced(self, database: Database) -> None:
        await end_the_connection_in_the_pool(database)
        async with database.engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1

    async def test_without_the_look_at_it_the_dead_one_is_used(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engines, "refuse_closed", lambda *_: None)
        database = Database(database_url)
        await end_the_connection_in_the_pool(database)
        with pytest.raises(Unavailable):
            async with database.engine.connect() as connection:
                await connection.scalar(text("SELECT 1"))
        await database.close()


async def end_the_connection_in_the_pool(database: Database) -> None:
    """End the one connection that this database's pool keeps, and wait until the driver knows."""
    closed = anyio.Event()
    async with database.engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        driver: Any = (await connection.get_raw_connection()).driver_connection
    driver.add_termination_listener(lambda _: closed.set())
    other = Database(database.url)
    async with other.engine.connect() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    await other.close()
    with anyio.fail_after(5):
        await closed.wait()


async def test_sqlalchemys_own_pool_lets_newcomers_pass(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: what the line is for."""
    monkeypatch.setattr(engines, "FairPool", AsyncAdaptedQueuePool)
    database = Database(database_url, pool_size=1, max_overflow=0)
    served = await order_of_service(database)
    await database.close()
    assert served == ["old 0", "new", "old 1"]


# ----------------------------------------------------------------------------------------- silence


@asynccontextmanager
async def behind_a_proxy(url: str, **options: Any) -> AsyncGenerator[tuple[Database, Proxy]]:
    """The same database, with something in between that can fall silent."""
    address = make_url(url)
    socket = Path(str(address.query["host"]), ".s.PGSQL.5432")
    async with Proxy(socket) as proxy:
        through = address.set(host="127.0.0.1", port=proxy.port, query={})
        database = Database(through.render_as_string(hide_password=False), **options)
        try:
            yield database, proxy
        finally:
            await proxy.switch("refuse")
            await database.close()


async def ask(database: Database, seconds: float = 0.0) -> None:
    async with database.reading_engine.connect() as connection:
        await connection.execute(text(f"SELECT pg_sleep({seconds})"))


async def often(call: Callable[[], Awaitable[None]]) -> None:
    for _ in range(200):
        await call()


async def until_it_answers(database: Database) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                return await ask(database)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_process_that_stands_still_does_not_blame_the_database(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'data.db'}"
    engine = create_async_engine(url, poolclass=FairPool, pool_size=1, max_overflow=0)
    alone = create_async_engine(url)
    asked: list[float] = []

    def stand_still(*_: object) -> None:
        """Block while the database is asked, as long computing does, or a quota of CPU."""
        asked.append(time.monotonic())
        time.sleep(0.9)

    event.listen(alone.sync_engine, "before_cursor_execute", stand_still)
    with capture_logs() as logs:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            watching = asyncio.create_task(watch(engine, alone))
            with anyio.fail_after(30):
                while len(asked) < 4:  # noqa: ASYNC110 - it happens in the watch
                    await asyncio.sleep(0.01)
            watching.cancel()
            await asyncio.wait([watching])
    assert [line["event"] for line in logs] == []
    await engine.dispose()
    await alone.dispose()


async def test_a_connection_that_is_slow_to_end_is_told_once(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'data.db'}"
    engine = create_async_engine(url, poolclass=FairPool, pool_size=1, max_overflow=0)
    pool = cast("FairPool", engine.sync_engine.pool)
    called_off, ended = anyio.Event(), anyio.Event()

    async def connect() -> None:
        limit = asyncio.timeout(None)
        pool._making.add(limit)
        async with limit:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                called_off.set()
                await ended.wait()  # as a driver that takes leave
                raise

    connecting = asyncio.create_task(connect())
    await asyncio.sleep(0)
    pool.give_up()
    await called_off.wait()
    pool.give_up()  # the watch goes on, which is the only one that sees the database return
    ended.set()
    with pytest.raises(TimeoutError):
        await connecting
    await engine.dispose()


class TestSilence:
    """A database that takes every byte and says nothing, as one does behind a dead firewall."""

    @pytest.fixture(autouse=True)
    def _only_postgresql(self, database: Database) -> None:
        if database.is_sqlite:
            pytest.skip("a file is never silent")

    async def test_who_waits_for_an_answer_is_told_that_there_is_none(
        self, database_url: str
    ) -> None:
        async with behind_a_proxy(database_url) as (database, proxy), database.watching():
            await ask(database)
            await proxy.switch("black hole")
            with anyio.fail_after(20), pytest.raises(Unavailable, match="does not answer"):
                await ask(database)
            began = time.monotonic()  # the next one need not find it out again
            with pytest.raises(Unavailable, match="does not answer"):
                await ask(database)
            assert time.monotonic() - began < 0.5
            await proxy.switch("pass")
            await until_it_answers(database)

    async def test_who_waits_for_a_connection_is_told_so_too(self, database_url: str) -> None:
        options = {"pool_size": 1, "max_overflow": 0, "pool_wait_seconds": 60.0}
        async with behind_a_proxy(database_url, **options) as (database, proxy):
            async with database.watching():
                await ask(database)
                await proxy.switch("black hole")
                asking = [asyncio.create_task(ask(database)) for _ in range(3)]
                with anyio.fail_after(20):
                    told = await asyncio.gather(*asking, return_exceptions=True)
            assert [str(error) for error in told] == ["The database does not answer."] * 3
            pool = database.reading_engine.pool
            assert isinstance(pool, FairPool)
            assert (pool.in_use, pool.waiting, pool.taken_seconds) == (0, 0, 0.0)

    async def test_who_connects_is_told_with_the_others(self, database_url: str) -> None:
        """Not when the attempt ends by itself, which may have begun much later."""
        async with behind_a_proxy(database_url) as (database, proxy), database.watching():
            await ask(database)
            await proxy.switch("black hole")
            asking = [asyncio.create_task(ask(database)) for _ in range(2)]  # on one connection
            with anyio.fail_after(engines.CONNECT_SECONDS / 2):
                told = await asyncio.gather(*asking, return_exceptions=True)
            assert [str(error) for error in told] == ["The database does not answer."] * 2
            await proxy.switch("pass")
            await until_it_answers(database)

    async def test_nobody_takes_leave_of_a_silent_database(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def close(connection: Any, **_: object) -> None:
            if not connection.is_closed():  # asyncpg's waits for two seconds
                await asyncio.Event().wait()

        monkeypatch.setattr("asyncpg.Connection.close", close)
        async with behind_a_proxy(database_url) as (database, proxy), database.watching():
            await ask(database, seconds=1.5)  # there has been a sign of life
            await proxy.switch("black hole")
            with anyio.fail_after(20), pytest.raises(Unavailable, match="does not answer"):
                await ask(database)

    async def test_one_connection_that_ends_in_an_answer_is_no_database_away(
        self, database_url: str
    ) -> None:
        async with behind_a_proxy(database_url) as (database, proxy):
            await database.ping()
            await proxy.switch("cut")
            await often(database.ping)
            with pytest.raises(Unavailable):  # what is not sent again
                await often(partial(ask, database))

    async def test_a_statement_may_take_its_time(self, database_url: str) -> None:
        async with behind_a_proxy(database_url) as (database, _), database.watching():
            await ask(database, seconds=2.5)

    async def test_without_a_watch_nobody_is_told(self, database_url: str) -> None:
        async with behind_a_proxy(database_url) as (database, proxy):
            await ask(database)
            await proxy.switch("black hole")
            asking = asyncio.create_task(ask(database))
            _, waiting = await asyncio.wait([asking], timeout=2.5)
            assert waiting
            await proxy.switch("pass")
            await asking

    async def test_a_connection_on_which_a_call_is_under_way_is_nobody_elses(
        self, database: Database
    ) -> None:
        """A unit that reads ends, but not the task that it has started."""
        async with database.read(None) as work:
            pooled = await (await work.session.connection()).get_raw_connection()
            connection: Any = pooled.dbapi_connection
            slow = select(func.pg_sleep(20))
            beside = asyncio.create_task(work.session.execute(slow))
            await until(connection._execute_mutex.locked)
        with anyio.fail_after(10):
            for label in ("red", "blue"):
                async with database.write(None) as work:
                    await Tags(work).add(Tag(label=label))
            with pytest.raises(Unavailable):
                await beside
