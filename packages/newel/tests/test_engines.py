"""Connections are as the requirements say: durable, bounded, and none holds its locks for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sample_entities import Tag
from sqlalchemy import Connection, Table, bindparam, event, func, insert, select, text, update
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from newel import engines
from newel.clock import utc_now
from newel.db import Database
from newel.errors import AppError, ConfigurationError, Conflict, Unavailable
from newel.events import Event
from newel.principal import ANYONE
from newel.repository import Repository
from newel.schemas import ReadModel
from newel.telemetry import Traces

pytestmark = pytest.mark.anyio


TAGS: Final = cast("Table", Tag.__table__)


class TagRead(ReadModel):
    label: str


class Tags(Repository[Tag]):
    entity = Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged(Event):
    pass


@pytest.mark.parametrize("sabotage", [False, True])
async def test_a_transaction_in_which_nothing_happens_does_not_hold_its_locks_for_ever(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, sabotage: bool
) -> None:
    """Its process was stopped, with SIGSTOP for example: another one gets on with its rows."""
    if database.is_sqlite:
        pytest.skip("SQLite has no server that could end it")
    monkeypatch.setattr("newel.engines.IDLE_SECONDS", 0 if sabotage else 1)
    stopped = Database(database_url)
    async with database.write(None) as work:
        work.session.add(Tag(label="a"))
    change = update(Tag).values(label="b")
    with pytest.raises(AppError) if not sabotage else nullcontext():
        async with stopped.write(None) as idle:
            await idle.session.execute(change)
            with pytest.raises(AppError) if sabotage else nullcontext():
                async with database.write(None) as work:
                    connection = await work.session.connection()
                    await connection.execute(text("SET LOCAL lock_timeout = 3000"))
                    await work.session.execute(change)
    await stopped.close()


async def test_every_connection_has_that_limit(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no server that could end it")
    shown = text("SHOW idle_in_transaction_session_timeout")
    for engine in (database.engine, database.reading_engine):
        async with engine.connect() as connection:
            assert (await connection.execute(shown)).scalar_one() == "1min"


async def test_the_pool_is_as_the_requirements_say(database: Database) -> None:
    assert database.reading_engine.pool.size() == 20  # type: ignore[attr-defined] # a QueuePool
    assert database.reading_engine.pool._max_overflow == 10  # type: ignore[attr-defined] # as above
    assert database.reading_engine.pool._recycle == 3600
    assert database.reading_engine.pool.timeout() == 2.0  # type: ignore[attr-defined] # as above


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite+aiosqlite://", "in-memory"),
        ("sqlite+aiosqlite:///:memory:", "in-memory"),
        ("sqlite:///file.db", "driver sqlite"),
        ("mysql+aiomysql://root@localhost/x", "driver mysql"),
        ("postgresql://localhost/x", "driver postgresql"),
        ("not a url", "not a database address"),
    ],
)
def test_an_address_that_cannot_work_says_what_to_write(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Database(url)
    assert "sqlite+aiosqlite" in caught.value.fix


class TestSqlite:
    """What only SQLite needs."""

    @pytest.fixture
    async def sqlite(self, tmp_path: Any) -> AsyncGenerator[Database]:
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/one.db")
        async with database.engine.begin() as connection:
            await connection.run_sync(Tag.metadata.create_all)
        yield database
        await database.close()

    @pytest.mark.parametrize(
        ("pragma", "value"),
        [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
    )
    async def test_every_connection_is_durable(
        self, sqlite: Database, pragma: str, value: object
    ) -> None:
        for engine in (sqlite.engine, sqlite.reading_engine):
            async with engine.connect() as connection:
                found = await connection.execute(text(f"PRAGMA {pragma}"))
                assert found.scalar() == value

    async def test_readers_cannot_write_whatever_they_send(self, sqlite: Database) -> None:
        async with sqlite.read(None) as work, work.as_system("raw SQL"):
            with pytest.raises(Exception, match="readonly"):
                await work.session.execute(text("DELETE FROM tags"))

    @pytest.mark.parametrize("sabotage", [False, True])
    async def test_a_commit_that_fails_does_not_block_all_that_follow(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, sabotage: bool
    ) -> None:
        if sabotage:
            monkeypatch.setattr(engines, "_end_transaction", lambda *_: None)
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/one.db")
        async with database.engine.begin() as connection:
            await connection.run_sync(Tag.metadata.create_all)

        def fail(_connection: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        async def write(label: str) -> None:
            async with database.write(None) as work:
                work.session.add(Tag(label=label))

        with monkeypatch.context() as patch:
            patch.setattr(AsyncAdapt_aiosqlite_connection, "commit", fail)
            with pytest.raises(OperationalError):
                await write("lost")
        with pytest.raises(OperationalError) if sabotage else nullcontext():
            await write("kept")
        async with database.read(None) as work:
            labels = (await work.session.scalars(select(Tag.label))).all()
        assert labels == ([] if sabotage else ["kept"])
        await database.close()

    async def test_a_unit_that_writes_too_long_is_503_for_the_next(
        self, sqlite: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engines, "SQLITE_BUSY_SECONDS", 0.05)
        impatient = Database(sqlite.url)
        count = select(func.count()).select_from(Tag)
        async with impatient.write(None) as first:
            await first.session.scalar(count)
            with pytest.raises(Unavailable, match="busy") as caught:
                async with impatient.write(None) as second:
                    await second.session.scalar(count)
        assert caught.value.headers["Retry-After"] == "1"
        assert caught.value.__cause__ is None, "it is a state, not a fault to trace"
        await impatient.close()

    async def test_another_process_that_writes_too_long_is_503(
        self, sqlite: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engines, "SQLITE_BUSY_SECONDS", 0.05)
        other = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        impatient = Database(sqlite.url)
        with pytest.raises(Unavailable) as caught:
            async with impatient.write(None) as work:
                await work.session.scalar(select(func.count()).select_from(Tag))
        assert caught.value.headers["Retry-After"] == "1"
        other.close()
        async with impatient.write(None) as work:
            work.session.add(Tag(label="after"))
        await impatient.close()


async def test_who_listens_to_statements_or_has_them_logged_sees_those_that_only_read(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    engine = database.reading_engine.sync_engine
    assert not engines.is_watched(engine)
    async with database.read(ANYONE) as work:
        reader = Tags(work).reading(TagRead)
        for name in ("before_cursor_execute", "do_execute"):
            heard: list[object] = []

            def hear(*told: object, heard: list[object] = heard) -> None:
                heard.append(told)

            event.listen(engine, name, hear)
            assert engines.is_watched(engine)
            assert await reader.find(uuid4()) is None
            assert len(heard) == 1
            event.remove(engine, name, hear)
            assert not engines.is_watched(engine)
    with caplog.at_level("INFO", "sqlalchemy.engine"):
        assert engines.is_watched(engine)


def ignore(*_: object) -> None:
    """Listen, and do nothing."""


def a_tag(**others: Any) -> dict[str, Any]:
    now = utc_now()
    row = {"id": uuid4(), "label": "a", "created_at": now, "updated_at": now, "version": 1}
    return row | others


@pytest.fixture(params=["driver", "SQLAlchemy"])
async def connection(
    request: pytest.FixtureRequest, database: Database
) -> AsyncGenerator[AsyncConnection]:
    """A connection whose statements go to the driver, or through SQLAlchemy: all tests hold."""
    if request.param == "SQLAlchemy":
        event.listen(database.engine.sync_engine, "before_cursor_execute", ignore)
    async with database.engine.connect() as connection:
        yield connection


async def test_a_row_is_written_changed_and_read_in_a_transaction(
    connection: AsyncConnection,
) -> None:
    tag = a_tag()
    change = update(TAGS).where(TAGS.c.id == bindparam("wanted"))
    shown = select(*TAGS.c).where(TAGS.c.id == bindparam("wanted"))

    def write(sync: Connection) -> None:
        assert engines.execute(sync, insert(TAGS), tag)[1] == 1
        assert engines.execute(sync, change, {"label": "b", "wanted": tag["id"]}) == ((), 1)
        assert engines.execute(sync, change, {"label": "c", "wanted": uuid4()}) == ((), 0)

    def read(sync: Connection) -> list[dict[str, Any]]:
        rows, _ = engines.execute(sync, shown, {"wanted": tag["id"]})
        return [dict(zip(TAGS.c.keys(), row, strict=True)) for row in rows]

    await connection.run_sync(write)
    [row] = await connection.run_sync(read)
    assert row.pop("updated_at") > tag.pop("updated_at"), "the statement's own default"
    assert row == tag | {"label": "b"}
    assert connection.in_transaction()
    await connection.rollback()
    assert await connection.run_sync(read) == []


async def test_what_goes_wrong_is_told_as_sqlalchemy_tells_it(connection: AsyncConnection) -> None:
    """Prepared statements use a name of SQLAlchemy's that is not public."""
    tag = a_tag()

    def write(sync: Connection, row: dict[str, Any]) -> None:
        engines.execute(sync, insert(TAGS), row)

    with pytest.raises(
        StatementError, match=r"a time without a zone[^$]*INSERT INTO tags"
    ) as caught:
        await connection.run_sync(write, a_tag(created_at=datetime(2026, 1, 2)))  # noqa: DTZ001 - to be refused
    assert isinstance(caught.value.orig, ValueError)
    await connection.run_sync(write, tag)
    with pytest.raises(IntegrityError, match="INSERT INTO tags") as caught:
        await connection.run_sync(write, a_tag(label=None))
    assert str(tag["id"]) not in str(caught.value), "values may be secret"
    await connection.rollback()
    await connection.run_sync(write, tag)
    with pytest.raises(Conflict):
        await connection.run_sync(write, a_tag(id=tag["id"]))


@pytest.mark.parametrize("name", ["before_cursor_execute", "do_execute"])
async def test_who_listens_to_statements_hears_of_every_write_from_then_on(
    database: Database, name: str
) -> None:
    heard: list[str] = []

    def hear(*told: Any) -> None:
        heard.extend(each for each in told if isinstance(each, str))

    async with database.write(None) as work:
        found = await Tags(work).add(Tag(label="a"))
        await Tags(work).update(found, {"label": "b"})
        work.publish(Tagged(id=found.id))
        await work.flush()
        assert heard == []
        event.listen(database.engine.sync_engine, name, hear)
        await Tags(work).add(Tag(label="c"))
        await Tags(work).update(found, {"label": "d"})
        work.publish(Tagged(id=found.id))
    sent = zip(heard, ("INSERT INTO tags", "UPDATE tags", "INSERT INTO outbox"), strict=True)
    assert all(wanted in statement for statement, wanted in sent)


async def test_only_what_is_traced_is_sent_through_sqlalchemy(database: Database) -> None:
    engine, exporter = database.engine.sync_engine, InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces, rarely = Traces(provider), Traces(provider, ratio=0.0)
    traces.watch(engine)
    for each, watched in ((rarely, False), (traces, True)):
        with each.follow("job", parent=None):
            assert engines.is_watched(engine) == watched
            async with database.write(None) as work:
                await Tags(work).add(Tag(label=str(watched)))
    names = [span.name for span in exporter.get_finished_spans()]
    assert names.count("INSERT tags") == names.count("job") == 1
    event.listen(engine, "do_execute", ignore)
    assert engines.is_watched(engine), "somebody else listens, too"


async def test_what_is_remembered_of_statements_is_bounded() -> None:
    """Clients choose which columns a PATCH writes."""
    bound = engines._prepared.cache_info().maxsize  # pyright: ignore[reportPrivateUsage] - what it bounds is not seen from outside
    assert bound is not None
    assert bound <= 500
