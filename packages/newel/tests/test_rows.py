"""A unit of work behaves the same whether it has a session or not; what is not plain gets one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import pytest
from sample_entities import Agent, Measure, Post, Tag, User
from sqlalchemy import JSON, String, event, func, inspect, null, select, text
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm.attributes import set_committed_value

from newel.db import Database, Work
from newel.entity import Entity, Owned
from newel.errors import Duplicate, Forbidden, NotFound, StaleVersion
from newel.events import Event, OutboxEvent
from newel.principal import Principal
from newel.repository import Repository
from newel.scope import UnscopedQuery
from newel.shapes import is_plain
from newel.unit_session import UnitSession

pytestmark = pytest.mark.anyio


class Seal(Owned):
    """Plain: nothing but columns, with every kind of default."""

    __tablename__ = "rows_seals"

    label: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(8), default="wax")
    note: Mapped[str | None] = mapped_column(String(64), default=None)
    serial: Mapped[int] = mapped_column(insert_default=lambda: 7, init=False)
    extra: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict[str, Any])


class Bag(Entity):
    """Plain, but for a value that is left out: JSON has a null of its own."""

    __tablename__ = "rows_bags"

    extra: Mapped[dict[str, Any] | None] = mapped_column(JSON, default=None)


class Stamp(Entity):
    """Not plain: the database makes a value."""

    __tablename__ = "rows_stamps"

    label: Mapped[str] = mapped_column(String(32))
    ink: Mapped[str] = mapped_column(String(8), server_default=text("'blue'"), init=False)


class Heard(Entity):
    """Plain until somebody listens."""

    __tablename__ = "rows_heard"

    label: Mapped[str] = mapped_column(String(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class SealBroken(Event):
    pass


class Seals(Repository[Seal]):
    entity = Seal


class Bags(Repository[Bag]):
    entity = Bag


class Measures(Repository[Measure]):
    entity = Measure


class Tags(Repository[Tag]):
    entity = Tag


class Posts(Repository[Post]):
    entity = Post


class Agents(Repository[Agent]):
    entity = Agent


class Stamps(Repository[Stamp]):
    entity = Stamp


class HeardOnes(Repository[Heard]):
    entity = Heard


Unit = Callable[..., AbstractAsyncContextManager[Work]]


def ignore(*_: object) -> None:
    """Listen, and do nothing."""


@pytest.fixture
async def ann(database: Database) -> Principal:
    user = User(email="ann@example.com")
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add(user)
    return Principal(id=user.id)


@pytest.fixture(params=["rows", "rows through SQLAlchemy", "session"])
def unit(request: pytest.FixtureRequest, database: Database, ann: Principal) -> Unit:
    """Opens a unit that begins without a session, or with one: every test holds for both.

    What rows send goes to the driver, but while somebody listens to statements.
    """
    if request.param == "rows through SQLAlchemy":
        event.listen(database.engine.sync_engine, "before_cursor_execute", ignore)

    @asynccontextmanager
    async def unit(caller: Principal | None = ann) -> AsyncGenerator[Work]:
        async with database.write(caller) as work:
            if request.param == "session":
                assert work.session is not None
            assert (work.plain(Seal) is None) == (request.param == "session")
            yield work

    return unit


async def test_a_plain_entity_needs_no_session(database: Database, ann: Principal) -> None:
    """Else the tests below would try the same thing twice."""
    async with database.write(ann) as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        await Seals(work).update(seal, {"label": "b"})
        assert await Seals(work).get_changeable(seal.id) is seal
        work.publish(SealBroken(id=seal.id))
        assert work.plain(Seal) is not None


async def labels(database: Database) -> list[str]:
    """What is in the database, seen from outside of the unit."""
    async with database.read(None) as work, work.as_system("look"):
        return list(await work.session.scalars(select(Seal.label).order_by(Seal.label)))


async def test_a_new_row_has_its_defaults_its_version_and_its_times(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        assert (seal.version, seal.kind, seal.note, seal.serial) == (1, "wax", None, 7)
        other = await Seals(work).add(
            Seal(label="b", owner_id=ann.user_id, kind="lead", note="n", extra={"a": [1]})
        )
    async with database.read(ann) as work:
        found = await Seals(work).get(seal.id)
        assert vars(found).keys() == vars(await Seals(work).get(other.id)).keys()
        assert (found.kind, found.serial, found.extra) == ("wax", 7, {})
        assert (found.created_at, found.updated_at) == (seal.created_at, seal.updated_at)
        found = await Seals(work).get(other.id)
        assert (found.kind, found.note, found.serial) == ("lead", "n", 7)
        assert found.extra == {"a": [1]}


async def test_a_json_that_was_left_out_is_stored_as_a_flush_stores_it(unit: Unit) -> None:
    """NULL and the null of JSON are different."""
    async with unit(None) as work:
        bags = [Bag(), Bag(), Bag(extra={"a": 1})]
        bags[1].extra = None
        ids = [(await Bags(work).add(bag)).id for bag in bags]
        is_null = select(Bag.id, Bag.extra.is_(null()))
        found = dict((await work.session.execute(is_null)).all())
        assert [bool(found[id]) for id in ids] == [True, False, False]


async def test_a_change_sends_what_differs_and_counts_the_version(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
    before = seal.updated_at
    async with unit() as work:
        found = await Seals(work).get_changeable(seal.id)
        with sent(database) as statements:
            await Seals(work).update(found, {"label": "a", "note": None})
        assert statements == []
        assert found.version == 1
        with sent(database) as statements:
            await Seals(work).update(found, {"label": "b", "note": None})
        [statement] = statements
        assert "label" in statement
        assert "note" not in statement
        assert (found.label, found.version) == ("b", 2)
        assert found.updated_at > before
        await Seals(work).update(found, {"note": "again"})
    async with database.read(ann) as work:
        stored = await Seals(work).get(seal.id)
        assert (stored.label, stored.note, stored.version) == ("b", "again", 3)
        assert stored.updated_at == found.updated_at


@contextmanager
def sent(database: Database) -> Generator[list[str]]:
    """Collect the statements inside the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def test_what_was_changed_by_hand_is_written_with_the_commit(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        seal.label = "by hand"
    assert await labels(database) == ["by hand"]
    async with unit() as work:
        found = await Seals(work).get(seal.id)
        found.label = "again"
        await Seals(work).add(Seal(label="by hand", owner_id=ann.user_id))  # free only if sent
    assert await labels(database) == ["again", "by hand"]


async def test_a_session_knows_what_was_done_before_it_was_asked_for(
    unit: Unit, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        assert await Seals(work).get(seal.id) is seal
        [found] = await work.session.scalars(select(Seal).where(Seal.label == "a"))
        assert found is seal
        assert seal in work.session
        assert not work.session.dirty
        seal.label = "b"
        assert await work.session.scalar(select(Seal).where(Seal.label == "b")) is seal
        await work.session.refresh(seal)
        await Seals(work).delete(seal)
        assert await Seals(work).find(seal.id) is None


async def test_a_failed_write_cannot_be_committed(
    unit: Unit, database: Database, ann: Principal
) -> None:
    """Whoever swallows the error answers 500, not 2xx with half of the work."""
    async with unit() as work:
        await Seals(work).add(Seal(label="taken", owner_id=ann.user_id))

    async def swallow() -> None:
        async with unit() as work:
            first = await Seals(work).add(Seal(label="first", owner_id=ann.user_id))
            work.publish(SealBroken(id=first.id))
            with pytest.raises(Duplicate) as caught:
                await Seals(work).add(Seal(label="taken", owner_id=ann.user_id))
            assert caught.value.extra == {"resource": "seal", "field": "label"}

    with pytest.raises(PendingRollbackError):
        await swallow()
    assert await labels(database) == ["taken"]
    async with database.read(None) as work, work.as_system("look"):
        assert await work.session.scalar(select(func.count()).select_from(OutboxEvent)) == 0


@pytest.mark.filterwarnings("ignore:Session's state has been changed on a non-active")
@pytest.mark.parametrize("through", ["commit", "flush", "add"])
async def test_what_follows_a_failed_write_is_not_committed_by_hand(
    unit: Unit, database: Database, ann: Principal, through: str
) -> None:
    """It would be the second half of the work."""
    async with unit() as work:
        await Seals(work).add(Seal(label="taken", owner_id=ann.user_id))

    async def go_on(work: Work) -> None:
        if through == "add":
            await Seals(work).add(Seal(label="second", owner_id=ann.user_id))
        work.session.add(Seal(label="second", owner_id=ann.user_id))
        await (work.flush() if through == "flush" else work.session.commit())

    async def swallow() -> None:
        async with unit() as work:
            await Seals(work).add(Seal(label="first", owner_id=ann.user_id))
            with pytest.raises(Duplicate):
                await Seals(work).add(Seal(label="taken", owner_id=ann.user_id))
            with pytest.raises(PendingRollbackError):
                await go_on(work)
            await work.session.rollback()
            await Seals(work).add(Seal(label="anew", owner_id=ann.user_id))
            await work.session.commit()

    await swallow()
    assert await labels(database) == ["anew", "taken"]


async def test_after_a_rollback_a_unit_goes_on(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        first = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        with pytest.raises(Duplicate):
            await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        await work.session.rollback()
        assert await Seals(work).find(first.id) is None
        await Seals(work).add(Seal(label="b", owner_id=ann.user_id))
    assert await labels(database) == ["b"]


async def test_what_was_rolled_back_can_be_added_again(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id, note="n"))
        await work.session.rollback()
        assert (seal.label, seal.note) == ("a", "n")
        await Seals(work).add(seal)
    async with unit() as work:
        seal = await Seals(work).get(seal.id)
        assert (seal.label, seal.note, seal.version) == ("a", "n", 1)
        await work.session.rollback()
        await Seals(work).add(Seal(label="b", owner_id=ann.user_id))
    assert await labels(database) == ["a", "b"]


async def test_a_savepoint_keeps_what_was_written_before_it(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        with pytest.raises(Duplicate):
            async with work.session.begin_nested():
                await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        await Seals(work).add(Seal(label="b", owner_id=ann.user_id))
    assert await labels(database) == ["a", "b"]


async def test_who_commits_by_hand_commits_all(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        await work.session.commit()
        assert await labels(database) == ["a"]
        async with database.write(ann) as another:  # SQLite has one connection that writes
            await Seals(another).add(Seal(label="b", owner_id=ann.user_id))
        await Seals(work).add(Seal(label="c", owner_id=ann.user_id))
    assert await labels(database) == ["a", "b", "c"]


async def test_a_row_that_was_changed_meanwhile_is_stale(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))

    async def change() -> None:
        async with unit() as work:
            found = await Seals(work).get(seal.id)
            set_committed_value(found, "version", 7)
            await Seals(work).update(found, {"label": "b"})

    with pytest.raises(StaleVersion):
        await change()
    assert await labels(database) == ["a"]


async def test_what_another_unit_has_read_is_not_changed_without_a_word(
    unit: Unit, database: Database, ann: Principal
) -> None:
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        agent = await Agents(work).add(Agent(name="n", owner_id=ann.user_id))
    async with unit() as work:
        with pytest.raises(InvalidRequestError, match="this agent is not of this unit of work"):
            await Agents(work).delete(agent)
        with pytest.raises(InvalidRequestError, match="this seal is not of this unit of work"):
            await Seals(work).update(seal, {"label": "b"})
        assert seal.label == "a"
        with pytest.raises(InvalidRequestError, match="read it in this unit"):
            await Seals(work).update(Seal(label="new", owner_id=ann.user_id), {"label": "b"})
        found = await Seals(work).get(seal.id)
        await Seals(work).update(found, {"label": "c"})
    assert await labels(database) == ["c"]


async def test_a_system_block_leaves_nothing_of_others_behind(
    unit: Unit, database: Database, ann: Principal
) -> None:
    bob = Principal(id=uuid4())
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
    async with unit(bob) as work:
        async with work.as_system("look"):
            found = await Seals(work).get(seal.id)
            await Seals(work).update(found, {"label": "b"})
            bag = await Bags(work).add(Bag())
        with pytest.raises(Forbidden):
            await Seals(work).update(found, {"label": "c"})
        await Bags(work).update(bag, {"extra": {"a": 1}})
        assert await Seals(work).find(seal.id) is None
        assert await work.session.get(Seal, seal.id) is None
        assert await work.session.get(Bag, bag.id) is bag
    async with unit() as work:
        mine = await Seals(work).get(seal.id)
        async with work.as_system("look"):
            assert await Seals(work).get(seal.id) is mine
            more = await Seals(work).add(Seal(label="more", owner_id=ann.user_id))
        await Seals(work).update(mine, {"label": "d"})
        await Seals(work).update(more, {"label": "e"})
    assert await labels(database) == ["d", "e"]


async def test_rows_of_others_are_not_found_and_not_written(
    unit: Unit, database: Database, ann: Principal
) -> None:
    bob = Principal(id=uuid4())
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
        post = await Posts(work).add(Post(title="news", owner_id=ann.user_id, is_published=True))
    async with unit(bob) as work:
        with pytest.raises(NotFound):
            await Seals(work).get(seal.id)
    async with unit(bob) as work:
        seen = await Posts(work).get(post.id)
        with pytest.raises(Forbidden):
            await Posts(work).update(seen, {"title": "taken"})
    for wrong in (bob, None):
        with pytest.raises(Forbidden if wrong else UnscopedQuery):
            async with unit(wrong) as work:
                await Seals(work).add(Seal(label="b", owner_id=ann.user_id))

    async def give_away() -> None:
        async with unit() as work:
            mine = await Seals(work).get(seal.id)
            await Seals(work).update(mine, {"owner_id": bob.user_id})

    with pytest.raises(Forbidden):
        await give_away()
    assert await labels(database) == ["a"]
    async with unit(None) as work, work.as_system("control"):
        theirs = await Seals(work).get(seal.id)
        await Seals(work).update(theirs, {"label": "by the system"})
    assert await labels(database) == ["by the system"]


async def test_an_expression_is_computed_by_the_database(unit: Unit, database: Database) -> None:
    async with unit(None) as work:
        measure = await Measures(work).add(Measure(label="a", count=2))
        await Measures(work).update(measure, {"count": Measure.count + 3})
    async with database.read(None) as work:
        assert (await Measures(work).get(measure.id)).count == 5


async def test_what_is_deleted_is_gone(unit: Unit, database: Database) -> None:
    async with unit(None) as work:
        tag = await Tags(work).add(Tag(label="red"))
    async with unit(None) as work:
        await Tags(work).delete(await Tags(work).get(tag.id))
        assert await Tags(work).find(tag.id) is None
        await Tags(work).add(Tag(label="red"))
    async with database.read(None) as work:
        assert await Tags(work).find(tag.id) is None


async def test_facts_are_written_with_the_commit_or_never(unit: Unit, database: Database) -> None:
    broken = SealBroken(id=uuid4())
    async with unit(None) as work:
        work.publish(broken)

    async def fail() -> None:
        async with unit(None) as work:
            work.publish(broken)
            await work.flush()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()
    async with unit(None) as work:
        work.publish(broken)
        assert work.session is not None  # takes over what was recorded
    async with database.read(None) as work, work.as_system("look"):
        found = await work.session.scalars(select(OutboxEvent.aggregate_id))
        assert list(found) == [broken.id, broken.id]


async def test_a_unit_that_is_cut_off_leaves_nothing_and_gives_its_connection_back(
    unit: Unit, database: Database, ann: Principal
) -> None:
    written = asyncio.Event()

    async def never_ends() -> None:
        async with unit() as work:
            await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(never_ends())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await labels(database) == []
    assert database.connections() == {"in_use": 0, "waiting": 0}


@pytest.mark.parametrize("through_session", [False, True])
async def test_a_unit_does_one_thing_at_a_time(
    database: Database, ann: Principal, *, through_session: bool
) -> None:
    """Two at once could take two connections, of which one would be forgotten with its rows."""

    async def both() -> None:
        async with database.write(ann) as work:

            async def second() -> None:
                if through_session:
                    await work.session.execute(select(func.count()).select_from(Tag))
                else:
                    await Seals(work).add(Seal(label="b", owner_id=ann.user_id))

            first = Seals(work).add(Seal(label="a", owner_id=ann.user_id))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(first)
                tasks.create_task(second())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert caught.group_contains(InvalidRequestError)
    assert await labels(database) == []


@pytest.mark.parametrize("is_warm", [True, False])
@pytest.mark.parametrize("has_read", [True, False])
@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_unit_that_fails_while_a_call_is_under_way_leaves_nothing(
    unit: Unit, database: Database, ann: Principal, *, is_warm: bool, has_read: bool, turns: int
) -> None:
    """The call beside may have come as far as to wait for a connection, for BEGIN, for its row."""

    async def fail() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise RuntimeError("beside")

    async def gather() -> None:
        async with unit() as work:
            if has_read:
                await Seals(work).find(uuid4())
            orphan = Seals(work).add(Seal(label="orphan", owner_id=ann.user_id))
            await asyncio.gather(orphan, fail())

    if not is_warm:
        await database.close()
    with pytest.raises(RuntimeError, match="beside"):
        await gather()
    for number in range(3):
        async with asyncio.timeout(20), unit() as work:
            await Seals(work).add(Seal(label=f"{number}", owner_id=ann.user_id))
    assert await labels(database) == ["0", "1", "2"]
    assert database.connections() == {"in_use": 0, "waiting": 0}


async def test_a_unit_is_of_no_use_after_its_end(
    unit: Unit, database: Database, ann: Principal
) -> None:
    """Nobody would end the transaction that it began."""
    async with unit() as work:
        seal = await Seals(work).add(Seal(label="a", owner_id=ann.user_id))
    for late in (Seals(work).add(Seal(label="b", owner_id=ann.user_id)), Seals(work).find(seal.id)):
        with pytest.raises(InvalidRequestError, match="is over"):
            await late
    with pytest.raises(InvalidRequestError, match="is over"):
        work.publish(SealBroken(id=seal.id))
    async with database.read(ann) as reading:
        pass
    with pytest.raises(InvalidRequestError, match="is over"):
        assert reading.session
    assert await labels(database) == ["a"]


async def test_a_flush_that_was_refused_loses_no_fact(database: Database, ann: Principal) -> None:
    async with database.write(ann) as work:
        work.publish(SealBroken(id=uuid4()))
        adding = asyncio.create_task(Seals(work).add(Seal(label="a", owner_id=ann.user_id)))
        await asyncio.sleep(0)
        with pytest.raises(InvalidRequestError):
            await work.flush()
        await adding
    async with database.read(None) as work, work.as_system("look"):
        assert await work.session.scalar(select(func.count()).select_from(OutboxEvent)) == 1


async def test_many_entities_are_the_sessions(database: Database, ann: Principal) -> None:
    """It knows by itself which were changed; asking each of them would grow with the square."""
    async with database.write(ann) as work:
        for number in range(60):
            await Seals(work).add(Seal(label=f"{number:02}", owner_id=ann.user_id))
        assert work.plain(Seal) is None
    assert len(await labels(database)) == 60


async def test_what_the_database_makes_is_there_after_the_insert(database: Database) -> None:
    async with database.write(None) as work:
        stamp = await Stamps(work).add(Stamp(label="a"))
        await work.session.refresh(stamp)
        assert stamp.ink == "blue"


@pytest.mark.parametrize("name", ["before_insert", "after_insert", "before_update", "load"])
async def test_who_listens_to_an_entity_hears_of_it(database: Database, name: str) -> None:
    heard: list[object] = []

    def listener(*arguments: object) -> None:
        heard.append(arguments)

    event.listen(Heard, name, listener)
    try:
        assert not is_plain(Heard)
        async with database.write(None) as work:
            found = await HeardOnes(work).add(Heard(label="a"))
            await HeardOnes(work).update(found, {"label": "b"})
        async with database.write(None) as work:
            await HeardOnes(work).get(found.id)
    finally:
        event.remove(Heard, name, listener)
    assert heard
    assert is_plain(Heard)


@pytest.mark.parametrize("name", ["before_flush", "after_flush", "before_commit", "after_commit"])
async def test_who_listens_to_sessions_hears_of_every_write(database: Database, name: str) -> None:
    heard: list[object] = []

    def listener(session: object, *_: object) -> None:
        heard.append(session)

    event.listen(UnitSession, name, listener)
    try:
        async with database.write(None) as work:
            assert work.plain(Heard) is None
            await HeardOnes(work).add(Heard(label="a"))
    finally:
        event.remove(UnitSession, name, listener)
    assert heard


async def test_a_unit_that_only_reads_has_no_rows_of_its_own(database: Database) -> None:
    async with database.read(None) as work:
        assert work.plain(Tag) is None


def test_the_names_of_sqlalchemy_that_are_not_public_are_still_there() -> None:
    """``rows`` takes an entity's values for its row's."""
    state: Any = inspect(Seal(label="a", owner_id=uuid4()))
    assert callable(state._commit_all)
    assert cast("Any", UnitSession())._flushing is False


async def test_a_savepoint_mends_no_unit_that_has_failed(
    unit: Unit, database: Database, ann: Principal
) -> None:
    """Its first half is rolled back: a flush that fails in a savepoint must not commit the rest."""
    async with unit() as work:
        await Seals(work).add(Seal(label="taken", owner_id=ann.user_id))

    async def swallow() -> None:
        async with unit() as work:
            with suppress(Duplicate):
                await Seals(work).add(Seal(label="taken", owner_id=ann.user_id))
            with suppress(Duplicate):
                async with work.session.begin_nested():
                    work.session.add(Seal(label="taken", owner_id=ann.user_id))
                    await work.session.flush()
            work.session.add(Seal(label="second", owner_id=ann.user_id))

    with pytest.raises(PendingRollbackError):
        await swallow()
    assert await labels(database) == ["taken"]
