"""Rows read as a model: what a repository would find, nothing more, in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from sample_entities import Agent, Post, Run, Tag, User
from sqlalchemy import event, text

from newel.db import Database, Work
from newel.errors import NotFound, Unavailable
from newel.pages import PageQuery
from newel.principal import ANYONE, Principal
from newel.repository import Repository
from newel.schemas import EntityRead
from newel.scope import UnscopedQuery

pytestmark = pytest.mark.anyio


class Agents(Repository[Agent]):
    entity = Agent


class Posts(Repository[Post]):
    entity = Post


class Tags(Repository[Tag]):
    entity = Tag


class AgentRead(EntityRead):
    owner_id: UUID
    name: str


class PostRead(EntityRead):
    title: str


class TagRead(EntityRead):
    label: str


class AgentQuery(PageQuery):
    sort: Literal["name", "-name", "created_at", "-created_at"] = "-created_at"
    name: str | None = None


class PostQuery(PageQuery):
    is_published: bool | None = None


@pytest.fixture
async def ann(database: Database) -> Principal:
    return await user(database, "ann@example.com")


@pytest.fixture
async def bob(database: Database) -> Principal:
    return await user(database, "bob@example.com")


async def user(database: Database, email: str) -> Principal:
    found = User(email=email)
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add(found)
    return Principal(id=found.id)


@pytest.fixture
async def agents(database: Database, ann: Principal, bob: Principal) -> list[Agent]:
    """Three of Ann's, the third deleted, and one of Bob's."""
    names = [("a", ann), ("b", ann), ("c", ann), ("d", bob)]
    made = [Agent(name=name, owner_id=caller.user_id) for name, caller in names]
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all(made)
        await work.flush()
        await Agents(work).delete(made[2])
    return made


@pytest.fixture
async def work(database: Database, ann: Principal) -> AsyncGenerator[Work]:
    async with database.read(ann) as work:
        yield work


async def test_a_row_is_what_the_repository_would_find(work: Work, agents: list[Agent]) -> None:
    row = await Agents(work).reading(AgentRead).get(agents[0].id)
    assert type(row) is AgentRead
    assert row == AgentRead.model_validate(await Agents(work).get(agents[0].id))
    assert row.created_at.tzinfo is not None


@pytest.mark.parametrize("number", [2, 3], ids=["deleted", "somebody else's"])
async def test_what_the_caller_may_not_see_is_not_found(
    work: Work, agents: list[Agent], number: int
) -> None:
    with pytest.raises(NotFound, match="no such agent"):
        await Agents(work).reading(AgentRead).get(agents[number].id)
    assert await Agents(work).reading(AgentRead).find(uuid4()) is None


async def test_a_statement_of_one_caller_is_not_answered_to_the_next(
    database: Database, agents: list[Agent], ann: Principal, bob: Principal
) -> None:
    everybody = Principal(id=uuid4(), permissions=frozenset({"agents:all"}))
    found: dict[str, list[str]] = {}
    for _ in range(2):  # the second time each statement is one that was built before
        for who, caller in {"ann": ann, "bob": bob, "all": everybody, "none": ANYONE}.items():
            async with database.read(caller) as work:
                page = await Agents(work).reading(AgentRead).page(AgentQuery(sort="name"))
            assert page.total == len(page.items)
            found[who] = [row.name for row in page.items]
    assert found == {"ann": ["a", "b"], "bob": ["d"], "all": ["a", "b", "d"], "none": []}
    assert agents


async def test_a_policy_decides_at_every_call(
    database: Database, ann: Principal, bob: Principal
) -> None:
    posts = [
        Post(title="draft", owner_id=ann.user_id),
        Post(title="news", owner_id=ann.user_id, is_published=True),
    ]
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all(posts)
    for caller, titles in [(ann, {"draft", "news"}), (bob, {"news"}), (ann, {"draft", "news"})]:
        async with database.read(caller) as work:
            page = await Posts(work).reading(PostRead).page(PostQuery())
            assert {row.title for row in page.items} == titles


async def test_without_a_caller_nothing_that_is_guarded_is_read(
    database: Database, agents: list[Agent]
) -> None:
    async with database.read(None) as work:
        with pytest.raises(UnscopedQuery, match="agents"):
            await Agents(work).reading(AgentRead).get(agents[0].id)
        assert (await Tags(work).reading(TagRead).page(PageQuery())).total == 0
    async with database.read(None) as work, work.as_system("look"):
        assert (await Agents(work).reading(AgentRead).page(AgentQuery())).total == 3


@pytest.mark.usefixtures("agents")
@pytest.mark.parametrize(
    ("query", "names", "total"),
    [
        ({"sort": "name"}, ["a", "b"], 2),
        ({"sort": "-name", "page_size": 1}, ["b"], 2),
        ({"sort": "name", "page_size": 1, "page": 2}, ["b"], 2),
        ({"sort": "name", "page_size": 1, "page": 9}, [], 2),
        ({"name": "b"}, ["b"], 1),
        ({"name": "d"}, [], 0),
        ({}, ["b", "a"], 2),
    ],
)
async def test_a_page_is_filtered_sorted_cut_and_counted(
    work: Work, query: dict[str, Any], names: list[str], total: int
) -> None:
    asked = AgentQuery(**query)
    page = await Agents(work).reading(AgentRead).page(asked)
    assert ([row.name for row in page.items], page.total) == (names, total)
    entities = await Agents(work).page(asked)
    assert ([row.name for row in entities.items], entities.total) == (names, total)


@pytest.mark.usefixtures("agents")
async def test_a_page_with_its_total_is_one_statement_without_a_transaction(
    database: Database, work: Work
) -> None:
    seen: list[str] = []
    engine = database.reading_engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *sent: seen.append(sent[2]))
    await Agents(work).reading(AgentRead).page(AgentQuery())
    assert len(seen) == 1
    assert database.reading_engine.pool.checkedout() == 0  # type: ignore[attr-defined] # a QueuePool


async def test_independent_reads_go_side_by_side(
    database: Database, work: Work, agents: list[Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits here until the other one is under way too."""
    read, both = database.rows, asyncio.Barrier(2)

    async def read_together(*arguments: Any) -> Any:
        await both.wait()
        return await read(*arguments)

    monkeypatch.setattr(database, "rows", read_together)
    reader = Agents(work).reading(AgentRead)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        found = [group.create_task(reader.get(agent.id)) for agent in agents[:2]]
    assert [each.result().name for each in found] == ["a", "b"]


async def test_a_unit_that_writes_reads_what_it_has_written(
    database: Database, ann: Principal
) -> None:
    async with database.write(ann) as work:
        agent = Agent(name="new", owner_id=ann.user_id)
        work.session.add(agent)
        assert (await Agents(work).reading(AgentRead).get(agent.id)).name == "new"
        agent.name = "changed"
        assert (await Agents(work).reading(AgentRead).page(AgentQuery())).items[0].name == "changed"


async def test_a_field_that_is_no_column_is_named(work: Work) -> None:
    class RunsRead(EntityRead):
        runs: list[int]

    class Mistyped(EntityRead):
        nmae: str

    for model, field in ((RunsRead, "runs"), (Mistyped, "nmae")):
        with pytest.raises(TypeError, match=f"Agent has no column {field}"):
            await Agents(work).reading(model).page(AgentQuery())


async def test_what_hangs_on_a_row_is_scoped_too(
    database: Database, agents: list[Agent], ann: Principal, bob: Principal
) -> None:
    """A relationship that is loaded later, of an entity that was found by a ready statement."""
    runs = [Run(agent_id=agents[0].id, owner_id=who.user_id) for who in (ann, bob)]
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all(runs)
    async with database.read(ann) as work:
        agent = await Agents(work).get(agents[0].id)
        await work.session.refresh(agent, ["runs"])
        assert [run.id for run in agent.runs] == [runs[0].id]


class TestPostgresql:
    """What only a server can do: end the connection between two reads."""

    async def test_a_read_on_a_dead_connection_is_sent_again(
        self, database: Database, agents: list[Agent], ann: Principal
    ) -> None:
        if database.is_sqlite:
            pytest.skip("a file has no server that could end a connection")
        async with database.read(ann) as work:
            reader = Agents(work).reading(AgentRead)
            for _ in range(5):
                await reader.get(agents[0].id)
                await end_every_other_connection(database)
                # Not waited for: the driver may not have seen the end of its stream.
                assert (await reader.get(agents[0].id)).name == "a"

    async def test_reads_go_on_while_a_migration_changes_the_type_of_a_column(
        self, database: Database, agents: list[Agent], ann: Principal
    ) -> None:
        """The server refuses what was prepared before: a read is sent again, a write told to be."""
        if database.is_sqlite:
            pytest.skip("SQLite prepares anew by itself")

        async with database.write(ann) as work:
            tag = await Tags(work).add(Tag(label="t"))  # plain: its statements go to the driver

        async def change(kind: str) -> None:
            async with database.engine.begin() as connection:
                for table, column in (("agents", "name"), ("tags", "label")):
                    changed = f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {kind}"
                    await connection.execute(text(changed))

        async def rename() -> None:
            async with database.write(ann) as work:
                found = await Agents(work).get(agents[0].id)
                await Agents(work).update(found, {"name": "z"})

        async def rename_tag() -> None:
            async with database.write(ann) as work:
                await Tags(work).update(await Tags(work).get(tag.id), {"label": "z"})

        async with database.read(ann) as work:
            reader = Agents(work).reading(AgentRead)
            for kind in ("VARCHAR(99)", "TEXT", "VARCHAR(98)"):
                await change(kind)
                assert (await reader.get(agents[0].id)).name == "a"
        for write in (rename, rename_tag):
            await write()
            await change("VARCHAR(97)")
            with pytest.raises(Unavailable, match="just been changed"):
                await write()
            await write()
            await change("TEXT")


async def end_every_other_connection(database: Database) -> None:
    other = Database(database.url)
    async with other.engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await other.close()
