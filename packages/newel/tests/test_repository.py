"""Repositories find own rows only, page through them, and say what went wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import uuid4

import pytest
from sample_entities import Agent, Board, Measure, Note, Post, Shelf, Tag, User
from sqlalchemy import update
from sqlalchemy.orm import selectinload

from newel.clock import utc_now
from newel.db import Database, Work
from newel.errors import BadRequest, Duplicate, Forbidden, NotFound, StaleVersion
from newel.pages import CursorQuery, PageQuery
from newel.principal import Principal
from newel.repository import Repository
from newel.tokens import KeyRing, Signer

pytestmark = pytest.mark.anyio

SIGNER = Signer(KeyRing("k" * 16 + "abcdefghijklmnop"), "cursor")


class Agents(Repository[Agent]):
    entity = Agent


class Posts(Repository[Post]):
    entity = Post


class Tags(Repository[Tag]):
    entity = Tag


class Measures(Repository[Measure]):
    entity = Measure


class Boards(Repository[Board]):
    entity = Board


class Shelves(Repository[Shelf]):
    entity = Shelf


class AgentQuery(PageQuery):
    sort: Literal["name", "-name", "created_at", "-created_at"] = "-created_at"
    name: str | None = None


class MeasureQuery(CursorQuery):
    sort: str = "-created_at"


@pytest.fixture
async def ann(database: Database) -> Principal:
    user = User(email="ann@example.com")
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add(user)
    return Principal(id=user.id)


@pytest.fixture
async def work(database: Database, ann: Principal) -> AsyncGenerator[Work]:
    async with database.write(ann) as work:
        yield work


async def add(work: Work, *names: str) -> list[Agent]:
    caller = work.caller
    assert caller is not None
    agents = Agents(work)
    return [await agents.add(Agent(name=name, owner_id=caller.user_id)) for name in names]


async def test_a_row_that_was_added_can_be_read_with_its_version(work: Work) -> None:
    [agent] = await add(work, "one")
    found = await Agents(work).get(agent.id, selectinload(Agent.runs))
    assert (found.name, found.version, found.runs) == ("one", 1, [])
    assert found.created_at.tzinfo is not None


async def test_an_unknown_id_is_not_found(work: Work) -> None:
    assert await Agents(work).find(uuid4()) is None
    with pytest.raises(NotFound, match="no such agent"):
        await Agents(work).get(uuid4())


async def test_somebody_elses_row_is_not_found(database: Database, ann: Principal) -> None:
    async with database.write(ann) as work:
        [agent] = await add(work, "one")
    async with database.read(Principal(id=uuid4())) as work:
        with pytest.raises(NotFound):
            await Agents(work).get(agent.id)
        assert (await Agents(work).page(PageQuery())).total == 0


async def test_what_is_loaded_with_a_row_is_ones_own_too(
    database: Database, ann: Principal, work: Work
) -> None:
    """A deleted note of hers and a note of somebody else hang on what everybody may read."""
    await work.session.commit()
    board, shelf, bob = Board(), Shelf(), User(email="bob@example.com")
    async with database.write(None) as everybody, everybody.as_system("arrange"):
        everybody.session.add_all([board, shelf, bob])
        await everybody.flush()
        mine, deleted, foreign = (
            Note(owner_id=owner, board_id=board.id, shelf_id=shelf.id)
            for owner in (ann.user_id, ann.user_id, bob.id)
        )
        everybody.session.add_all([mine, deleted, foreign])
        deleted.deleted_at = utc_now()
    for _ in range(2):  # the statement is remembered the first time
        async with database.read(ann) as hers:
            found = await Boards(hers).get(board.id)
            assert [note.id for note in found.selected] == [mine.id]
            assert [note.id for note in found.joined] == [mine.id]
        async with database.read(ann) as hers:
            assert [note.id for note in (await Shelves(hers).get(shelf.id)).notes] == [mine.id]
    async with database.read(None) as everybody, everybody.as_system("control"):
        assert len((await Shelves(everybody).get(shelf.id)).notes) == 2
        assert len((await Boards(everybody).get(board.id)).joined) == 2


async def test_what_is_joined_when_a_row_is_read_anew_is_ones_own_too(
    database: Database, ann: Principal, work: Work
) -> None:
    await work.session.commit()
    board, bob = Board(), User(email="bob@example.com")
    async with database.write(None) as everybody, everybody.as_system("arrange"):
        everybody.session.add_all([board, bob])
        await everybody.flush()
        everybody.session.add(Note(owner_id=bob.id, board_id=board.id, shelf_id=None))
    async with database.read(ann) as hers:
        found = await hers.session.get_one(Board, board.id)
        await hers.session.refresh(found)
        assert [note.id for note in found.joined] == []


async def test_a_taken_value_is_a_duplicate_that_can_be_caught(work: Work) -> None:
    await add(work, "one")
    with pytest.raises(Duplicate) as caught:
        async with work.session.begin_nested():
            await add(work, "one")
    assert caught.value.extra == {"resource": "agent", "field": "name"}
    await add(work, "two")
    assert (await Agents(work).page(PageQuery())).total == 2


async def test_a_deleted_row_is_hidden_and_frees_its_name(work: Work) -> None:
    [agent] = await add(work, "one")
    await Agents(work).delete(agent)
    assert await Agents(work).find(agent.id) is None
    assert agent.deleted_at is not None
    await add(work, "one")


async def test_what_is_not_soft_deleted_is_gone(work: Work) -> None:
    tag = await Tags(work).add(Tag(label="red"))
    await Tags(work).delete(tag)
    assert await Tags(work).find(tag.id) is None


async def test_an_update_counts_the_version(work: Work) -> None:
    [agent] = await add(work, "one")
    before = agent.updated_at
    await Agents(work).update(agent, {"name": "two"})
    assert (agent.name, agent.version) == ("two", 2)
    assert agent.updated_at > before


async def test_the_loser_of_a_race_is_stale(database: Database, ann: Principal) -> None:
    async with database.write(ann) as work:
        [agent] = await add(work, "one")
    async with database.read(ann) as reader:
        seen = await Agents(reader).get(agent.id)
    async with database.write(ann) as work:
        mine = await work.session.merge(seen, load=False)
        async with work.as_system("the winner"):
            await work.session.execute(
                update(Agent).values(version=7).execution_options(synchronize_session=False)
            )
        with pytest.raises(StaleVersion):
            await Agents(work).update(mine, {"name": "two"})
        await work.session.rollback()


async def test_a_visible_row_of_somebody_else_cannot_be_changed(
    database: Database, ann: Principal, work: Work
) -> None:
    await work.session.commit()
    async with database.write(ann) as hers:
        post = await Posts(hers).add(Post(title="news", owner_id=ann.user_id, is_published=True))
    async with database.write(Principal(id=uuid4())) as others:
        seen = await Posts(others).get(post.id)
        with pytest.raises(Forbidden, match="post belongs to somebody else"):
            await Posts(others).update(seen, {"title": "taken"})
        with pytest.raises(Forbidden):
            await Posts(others).delete(seen)
        assert seen.title == "news"


async def test_a_row_to_be_changed_is_refused_before_the_change_is_looked_at(
    database: Database, ann: Principal, work: Work
) -> None:
    await work.session.commit()
    async with database.write(ann) as hers:
        post = await Posts(hers).add(Post(title="news", owner_id=ann.user_id, is_published=True))
        draft = await Posts(hers).add(Post(title="draft", owner_id=ann.user_id))
        assert await Posts(hers).get_changeable(post.id) is post
    async with database.write(Principal(id=uuid4())) as others:
        with pytest.raises(Forbidden, match="post belongs to somebody else"):
            await Posts(others).get_changeable(post.id)
        for hidden in (draft.id, uuid4()):
            with pytest.raises(NotFound):
                await Posts(others).get_changeable(hidden)
    async with database.write(None) as anyone, anyone.as_system("move it"):
        assert (await Posts(anyone).get_changeable(post.id)).title == "news"


class TestPages:
    async def test_pages_cover_every_row_once(self, work: Work) -> None:
        await add(work, *(f"agent {number}" for number in range(7)))
        seen: list[str] = []
        for page in (1, 2, 3):
            found = await Agents(work).page(AgentQuery(page=page, page_size=3, sort="name"))
            assert (found.total, found.pages, found.page, found.page_size) == (7, 3, page, 3)
            seen += [agent.name for agent in found.items]
        assert seen == sorted(seen)
        assert len(set(seen)) == 7

    async def test_a_page_behind_the_last_is_empty(self, work: Work) -> None:
        await add(work, "one")
        found = await Agents(work).page(AgentQuery(page=9))
        assert (list(found.items), found.total, found.pages) == ([], 1, 1)

    async def test_no_rows_are_no_pages(self, work: Work) -> None:
        found = await Agents(work).page(AgentQuery())
        assert (found.total, found.pages) == (0, 0)

    async def test_newest_first_unless_asked_otherwise(self, work: Work) -> None:
        await add(work, "old", "new")
        assert [a.name for a in (await Agents(work).page(PageQuery())).items] == ["new", "old"]
        oldest = await Agents(work).page(AgentQuery(sort="created_at"))
        assert [a.name for a in oldest.items] == ["old", "new"]

    async def test_filters_and_the_callers_statement_narrow_the_total(self, work: Work) -> None:
        await add(work, "one", "two", "three")
        assert (await Agents(work).page(AgentQuery(name="two"))).total == 1
        statement = Agents(work).select().where(Agent.name.startswith("t"))
        assert (await Agents(work).page(AgentQuery(), statement)).total == 2

    async def test_ties_are_broken_by_the_id(self, work: Work) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        for agent in await add(work, "c", "a", "b"):
            agent.created_at = now
        await work.flush()
        pages = [
            (await Agents(work).page(AgentQuery(page=n, page_size=1))).items[0].name
            for n in (1, 2, 3)
        ]
        assert pages == ["b", "a", "c"]


class TestKeyset:
    @pytest.mark.parametrize(
        "sort", ["created_at", "-created_at", "amount", "-amount", "label", "-label", "count"]
    )
    async def test_every_row_comes_once_in_order(self, work: Work, sort: str) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        for number in range(5):
            measure = Measure(
                label=f"l{number % 2}", count=number % 3, amount=Decimal(number % 2) / 4
            )
            measure.created_at = now + timedelta(microseconds=number % 2)
            await Measures(work).add(measure)
        seen: list[Measure] = []
        cursor = None
        while True:
            query = MeasureQuery(cursor=cursor, page_size=2, sort=sort)
            found = await Measures(work).keyset(query, SIGNER)
            seen += found.items
            cursor = found.next_cursor
            if cursor is None:
                break
        assert len({measure.id for measure in seen}) == len(seen) == 5
        values = [getattr(measure, sort.removeprefix("-")) for measure in seen]
        assert values == sorted(values, reverse=sort.startswith("-"))

    @pytest.mark.parametrize("sort", ["is_published", "-is_published"])
    async def test_a_page_may_be_sorted_by_yes_and_no(
        self, work: Work, ann: Principal, sort: str
    ) -> None:
        for number in range(6):
            post = Post(title=str(number), owner_id=ann.user_id, is_published=number % 2 == 1)
            await Posts(work).add(post)
        seen: list[Post] = []
        cursor = None
        while cursor is not None or not seen:
            query = MeasureQuery(cursor=cursor, page_size=2, sort=sort)
            found = await Posts(work).keyset(query, SIGNER)
            seen += found.items
            cursor = found.next_cursor
        values = [post.is_published for post in seen]
        assert len({post.title for post in seen}) == 6
        assert values == sorted(values, reverse=sort.startswith("-"))

    async def test_a_page_is_not_sorted_by_what_may_be_null(self, work: Work) -> None:
        """Where null sorts, nothing is smaller or greater: rows would be left out."""
        with pytest.raises(TypeError, match=r"Agent\.deleted_at may be null.*by number"):
            await Agents(work).keyset(MeasureQuery(sort="-deleted_at"), SIGNER)

    async def test_rows_that_are_added_meanwhile_move_nothing(self, work: Work) -> None:
        await add(work, "one", "two", "three")
        first = await Agents(work).keyset(CursorQuery(page_size=2), SIGNER)
        await add(work, "newest")
        second = await Agents(work).keyset(CursorQuery(cursor=first.next_cursor), SIGNER)
        assert [a.name for a in (*first.items, *second.items)] == ["three", "two", "one"]

    async def test_a_cursor_that_was_tampered_with_is_refused(self, work: Work) -> None:
        await add(work, "one", "two", "three")
        first = await Agents(work).keyset(CursorQuery(page_size=1), SIGNER)
        assert first.next_cursor is not None
        for cursor in ("x", "", first.next_cursor[:-2] + "AA", "a.b.c", "\x00"):
            with pytest.raises(BadRequest, match="start without it"):
                await Agents(work).keyset(CursorQuery(cursor=cursor), SIGNER)

    async def test_a_cursor_of_another_order_is_refused(self, work: Work) -> None:
        await Measures(work).add(Measure(label="a"))
        await Measures(work).add(Measure(label="b"))
        query = MeasureQuery(page_size=1, sort="label")
        first = await Measures(work).keyset(query, SIGNER)
        with pytest.raises(BadRequest, match="another order"):
            await Measures(work).keyset(
                MeasureQuery(cursor=first.next_cursor, sort="-label"), SIGNER
            )
