"""A 2xx means committed; a failed commit is no 2xx; reads do not write; waits have an end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Annotated
from uuid import uuid4

import anyio
import httpx2
import pytest
from fastapi import Depends, FastAPI, Request
from sample_entities import Tag
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from newel.db import CurrentWork, Database, Work
from newel.errors import AppError, Duplicate, Unavailable
from newel.events import Event, OutboxEvent
from newel.schemas import ReadModel

pytestmark = pytest.mark.anyio


async def usual_work(request: Request) -> AsyncGenerator[Work]:
    """What most write: the sabotage that ``get_work`` prevents."""
    database: Database = request.app.state.database
    async with database.write(None) as work:
        yield work


EarlyWork = Annotated[Work, Depends(usual_work)]


class Tagged(Event):
    pass


class TagRead(ReadModel):
    label: str


class Impossible(ReadModel):
    missing: int


def build(  # noqa: C901 - eight tiny routes
    database: Database,
    scope: anyio.CancelScope | None = None,
    after: Callable[[str], None] = print,
) -> FastAPI:
    app = FastAPI()
    app.state.database = database

    async def tag(work: Work, label: str) -> Tag:
        tag = Tag(label=label)
        work.session.add(tag)
        work.publish(Tagged(id=tag.id))
        await work.flush()
        return tag

    async def break_the_commit(work: Work) -> None:
        """Leave a foreign key behind that is checked at the commit, not before."""
        if database.is_sqlite:
            await work.session.execute(text("PRAGMA defer_foreign_keys = ON"))
        await work.session.execute(
            text("INSERT INTO later (id, tag_id) VALUES (1, :id)"), {"id": str(uuid4())}
        )

    @app.post("/tags/{label}", status_code=201)
    async def create(label: str, work: CurrentWork) -> TagRead:
        return TagRead.model_validate(await tag(work, label))

    @app.post("/broken/{label}", status_code=201)
    async def broken(label: str, work: CurrentWork) -> TagRead:
        async with work.as_system("break the commit"):
            await break_the_commit(work)
        return TagRead.model_validate(await tag(work, label))

    @app.post("/early/{label}", status_code=201)
    async def early(label: str, work: EarlyWork) -> TagRead:
        async with work.as_system("break the commit"):
            await break_the_commit(work)
        return TagRead.model_validate(await tag(work, label))

    @app.post("/called-off/{label}", status_code=201)
    async def called_off(label: str, work: CurrentWork) -> TagRead:
        work.after_commit(lambda: after(label))
        made = TagRead.model_validate(await tag(work, label))
        if scope is not None:
            scope.cancel()
        return made

    @app.post("/raises/{label}")
    async def raises(label: str, work: CurrentWork) -> None:
        await tag(work, label)
        raise RuntimeError(label)

    @app.post("/unserialisable/{label}", response_model=Impossible)
    async def unserialisable(label: str, work: CurrentWork) -> Tag:
        return await tag(work, label)

    @app.get("/tags")
    async def count(work: CurrentWork) -> int:
        return await work.session.scalar(select(func.count()).select_from(Tag)) or 0

    @app.get("/writes")
    async def writes(work: CurrentWork) -> None:
        await tag(work, "by a GET")

    @app.get("/untouched")
    async def untouched(work: CurrentWork) -> bool:
        return work.session.in_transaction()

    return app


@pytest.fixture
async def later(database: Database) -> None:
    """A table whose foreign key is checked when the transaction commits."""
    key = "CHAR(32)" if database.is_sqlite else "UUID"
    async with database.engine.begin() as connection:
        await connection.execute(
            text(
                f"CREATE TABLE later (id INTEGER PRIMARY KEY, tag_id {key} "
                "REFERENCES tags (id) DEFERRABLE INITIALLY DEFERRED)"
            )
        )


@pytest.fixture
async def client(database: Database) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(build(database), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def stored(database: Database) -> tuple[list[str], int]:
    """Return the labels and the number of events that are really there."""
    async with database.read(None) as work:
        labels = (await work.session.scalars(select(Tag.label).order_by(Tag.label))).all()
        events = await work.session.scalar(select(func.count()).select_from(OutboxEvent))
    return list(labels), events or 0


async def test_a_2xx_is_committed_together_with_its_event(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.post("/tags/red")
    assert answer.status_code == 201
    assert await stored(database) == (["red"], 1)


@pytest.mark.usefixtures("later")
async def test_a_failing_commit_is_not_a_2xx_and_leaves_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.post("/broken/red")
    assert answer.status_code >= 400
    assert await stored(database) == ([], 0)


@pytest.mark.usefixtures("later")
async def test_with_the_default_scope_the_same_route_lies(
    client: httpx2.AsyncClient, database: Database
) -> None:
    """The negative control: this is what ``get_work`` is for."""
    answer = await client.post("/early/red")
    assert answer.status_code == 201
    assert await stored(database) == ([], 0)


async def test_who_is_called_off_on_the_way_out_has_committed(database: Database) -> None:
    """As by a middleware whose client has gone: half a commit would leave caches as they were."""
    forgotten: list[str] = []
    with anyio.CancelScope() as scope:
        transport = httpx2.ASGITransport(build(database, scope, forgotten.append))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as called_off:
            await called_off.post("/called-off/red")
    assert await stored(database) == (["red"], 1)
    assert forgotten == ["red"]


@pytest.mark.parametrize("path", ["/raises/red", "/unserialisable/red"])
async def test_a_failing_endpoint_rolls_back(
    client: httpx2.AsyncClient, database: Database, path: str
) -> None:
    assert (await client.post(path)).status_code == 500
    assert await stored(database) == ([], 0)


async def test_a_get_cannot_write(client: httpx2.AsyncClient, database: Database) -> None:
    assert (await client.get("/writes")).status_code == 500
    assert await stored(database) == ([], 0)


async def test_a_read_is_one_statement_without_a_transaction(
    client: httpx2.AsyncClient, database: Database
) -> None:
    seen: list[str] = []
    engine = database.reading_engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *sent: seen.append(sent[2]))
    await client.get("/tags")
    assert len(seen) == 1
    async with database.reading_engine.connect() as connection:
        driver = (await connection.get_raw_connection()).dbapi_connection
        assert engine.dialect.detect_autocommit_setting(driver)


async def test_a_unit_that_asks_nothing_takes_no_connection(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/untouched")).json() is False


async def test_a_unit_commits_at_its_end_and_rolls_back_on_an_exception(
    database: Database,
) -> None:
    async with database.write(None) as work:
        work.session.add(Tag(label="kept"))
    with pytest.raises(KeyError):  # noqa: PT012 - the flush is what makes it a real rollback
        async with database.write(None) as work:
            work.session.add(Tag(label="lost"))
            await work.flush()
            raise KeyError
    assert await stored(database) == (["kept"], 0)


async def test_a_full_pool_answers_after_the_pool_wait(database_url: str) -> None:
    database = Database(database_url, pool_size=1, max_overflow=0, pool_wait_seconds=0.05)
    async with database.read(None) as first:
        await first.session.scalar(select(func.count()).select_from(Tag))
        with pytest.raises((PoolTimeout, AppError)):
            async with database.read(None) as second:
                await second.session.scalar(select(func.count()).select_from(Tag))
    await database.close()


async def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    async def write(label: str) -> None:
        async with database.write(None) as work:
            await work.session.scalar(select(func.count()).select_from(Tag))
            work.session.add(Tag(label=label))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(write, f"tag {number}")
    labels, _ = await stored(database)
    assert len(labels) == 20


async def test_the_taken_field_is_named_and_no_value_is_in_the_error(database: Database) -> None:
    async with database.write(None) as work:
        work.session.add(Tag(label="hunter2"))
    with pytest.raises(Duplicate) as caught:
        async with database.write(None) as work:
            work.session.add(Tag(label="hunter2"))
    assert caught.value.extra == {"resource": "tag", "field": "label"}
    assert "hunter2" not in f"{caught.value} {caught.value.errors}"


class TestPostgresql:
    """What only a server can do: go away."""

    @pytest.fixture(autouse=True)
    def _only_postgresql(self, database: Database) -> None:
        if database.is_sqlite:
            pytest.skip("a file has no server that could go away")

    async def test_dead_connections_never_reach_the_user(self, database: Database) -> None:
        async with database.read(None) as work:
            await work.session.scalar(select(func.count()).select_from(Tag))
            pooled = await (await work.session.connection()).get_raw_connection()
            ended = anyio.Event()
            pooled.driver_connection.add_termination_listener(lambda _: ended.set())
        killer = Database(database.url)
        async with killer.engine.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await killer.close()
        await ended.wait()  # the server says that it ends a moment before it ends
        async with database.read(None) as work:
            assert await work.session.scalar(select(func.count()).select_from(Tag)) == 0
        async with database.write(None) as work:
            work.session.add(Tag(label="after"))

    async def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        database = Database("postgresql+asyncpg://nobody@127.0.0.1:9/none")
        with pytest.raises(Unavailable):
            await database.ping()
        await database.close()
