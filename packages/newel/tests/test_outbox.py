"""What a unit of work records is written with its commit, and with nothing less."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID

import pytest
from sample_entities import Tag
from sample_rooms import Said
from sqlalchemy import Connection, insert, select

from newel.clock import utc_now
from newel.db import Database, Work
from newel.errors import Duplicate
from newel.ids import uuid7
from newel.outbox import Bell, record
from newel.repository import Repository
from newel.room_delivery import Spoken

pytestmark = pytest.mark.anyio


class Tags(Repository[Tag]):
    entity = Tag


class Writer:
    """Inserts tags, and counts how often it is called."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, connection: Connection, labels: Sequence[str]) -> None:
        self.calls.append(list(labels))
        now, ids = utc_now(), [uuid7() for _ in labels]
        connection.execute(
            insert(Tag),
            [
                {"id": id, "label": label, "created_at": now, "updated_at": now, "version": 1}
                for id, label in zip(ids, labels, strict=True)
            ],
        )


async def labels(database: Database) -> set[str]:
    async with database.read(None) as work:
        return set(await work.session.scalars(select(Tag.label)))


def keep(work: Work, writer: Writer, *labels: str) -> None:
    for label in labels:
        record(work.session.sync_session, writer, label)


async def test_all_of_a_kind_is_written_at_once_with_the_commit(database: Database) -> None:
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "red", "blue")
        assert writer.calls == []
    assert writer.calls == [["red", "blue"]]
    assert await labels(database) == {"red", "blue"}


async def test_a_failed_unit_writes_nothing(database: Database) -> None:
    writer = Writer()
    with pytest.raises(KeyError):  # noqa: PT012 - what was recorded before it is the point
        async with database.write(None) as work:
            keep(work, writer, "red")
            raise KeyError
    assert writer.calls == []


async def test_a_savepoint_does_not_take_what_was_recorded_before_it(database: Database) -> None:
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "before")
        with pytest.raises(KeyError):  # noqa: PT012 - the flush inside is the point
            async with work.session.begin_nested():
                keep(work, writer, "outer")
                async with work.session.begin_nested():
                    keep(work, writer, "inner")
                    await work.flush()
                await work.flush()
                raise KeyError
        assert writer.calls == []
    assert await labels(database) == {"before"}


async def test_a_flush_writes_inside_of_the_transaction(database: Database) -> None:
    writer = Writer()
    with pytest.raises(KeyError):  # noqa: PT012 - the flush before it is the point
        async with database.write(None) as work:
            keep(work, writer, "red")
            await work.flush()
            assert writer.calls == [["red"]]
            raise KeyError
    assert await labels(database) == set()


async def test_a_savepoint_takes_its_own_with_it(database: Database) -> None:
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "before")
        savepoint = await work.session.begin_nested()
        keep(work, writer, "inside")
        await savepoint.rollback()
        async with work.session.begin_nested():
            keep(work, writer, "kept")
        keep(work, writer, "after")
    assert await labels(database) == {"before", "kept", "after"}


async def test_a_rollback_in_the_middle_takes_everything(database: Database) -> None:
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "red")
        await work.session.execute(select(Tag))
        await work.session.rollback()
        keep(work, writer, "blue")
    assert await labels(database) == {"blue"}


async def test_a_bell_wakes_who_listens() -> None:
    bell, wake, gone = Bell(), asyncio.Event(), asyncio.Event()
    async with bell.listening(gone):
        pass
    async with bell.listening(wake):
        bell.ring()
    assert wake.is_set()
    assert not gone.is_set()


async def test_the_bell_rings_after_the_commit_only(database: Database) -> None:
    rung = asyncio.Event()

    class Anything:
        def record(self, session: object, caller: object, /) -> UUID:
            return uuid7()

    async with database.bell.listening(rung):
        with pytest.raises(KeyError):  # noqa: PT012 - the job before it is the point
            async with database.write(None) as work:
                work.enqueue(Anything())
                raise KeyError
        assert not rung.is_set()
        async with database.write(None) as work:
            work.enqueue(Anything())
            assert not rung.is_set()
        assert rung.is_set()


async def test_a_flush_that_fails_takes_its_savepoint_alone(database: Database) -> None:
    """What stands in the docs: how a unit goes on after a ``Duplicate``."""
    async with database.write(None) as work:
        await Tags(work).add(Tag(label="taken"))
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "before")
        for savepoint in ("first", "second"):
            with pytest.raises(Duplicate):  # noqa: PT012 - the savepoint around it is the point
                async with work.session.begin_nested():
                    keep(work, writer, savepoint)
                    await Tags(work).add(Tag(label="taken"))
        keep(work, writer, "after")
    assert writer.calls == [["before", "after"]]
    assert await labels(database) == {"taken", "before", "after"}


async def test_what_is_recorded_before_all_else_is_rolled_back_by_hand(database: Database) -> None:
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "red")
        await work.session.rollback()
    assert writer.calls == []


async def test_a_repository_leaves_it_to_the_commit(database: Database) -> None:
    """It locks what it is about, in one order for all: else two units would wait for each other."""
    writer = Writer()
    async with database.write(None) as work:
        keep(work, writer, "red")
        tag = await Tags(work).add(Tag(label="blue"))
        await Tags(work).update(tag, {"label": "green"})
        assert writer.calls == []
    assert await labels(database) == {"red", "green"}


async def test_what_is_said_in_a_savepoint_that_is_rolled_back_is_not_said(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    async def say(spoken: Spoken) -> None:
        said.append(json.loads(spoken.text)["data"]["text"])

    monkeypatch.setattr(database.rooms, "say", say)
    async with database.write(None) as work:
        work.broadcast("chat:1", Said(text="before"))
        savepoint = await work.session.begin_nested()
        work.broadcast("chat:1", Said(text="rolled back"))
        await savepoint.rollback()
        async with work.session.begin_nested():
            work.broadcast("chat:1", Said(text="kept"))
        work.broadcast("chat:1", Said(text="after"))
    assert said == ["before", "kept", "after"]
