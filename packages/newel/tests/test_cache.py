"""``@cached``: one caller's value is never another's, and a commit forgets what it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict
from sample_entities import Agent, Post, User
from sample_valkey import Valkey, linked
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from newel.auth import public
from newel.cache import Cache, Unit, cached
from newel.cache_levels import LevelCache
from newel.clock import utc_now
from newel.db import CurrentWork, Database, Work
from newel.errors import NotFound
from newel.principal import ANYONE, Principal
from newel.repository import Repository
from newel.scope import UnscopedQuery

pytestmark = pytest.mark.anyio

ANN, BOB = Principal(id=uuid4()), Principal(id=uuid4())


class PostRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str


class Posts(Repository[Post]):
    entity = Post


class PostService:
    """What a service looks like; ``asked`` counts what the cache did not answer."""

    def __init__(self, work: CurrentWork) -> None:
        self.work = work
        self.posts = Posts(work)
        self.asked = 0

    @cached(expire=300, tags=["posts:{post_id}"])
    async def get(self, caller: Principal, post_id: UUID) -> PostRead:
        self.asked += 1
        return await self.posts.reading(PostRead).get(post_id)

    @cached(expire=300, tags=["posts"])
    async def count(self, caller: Principal) -> int:
        self.asked += 1
        return await self.work.session.scalar(select(func.count()).select_from(Post)) or 0

    @cached(expire=300, tags=["posts"], public=True)
    async def titles(self) -> list[str]:
        self.asked += 1
        return ["for everybody"]


class PlainUnit(Unit):
    """A unit of work without a database."""

    def __init__(self, cache: Cache, seen_by: Principal | None = None) -> None:
        self._cache = cache
        self._seen_by = seen_by

    @property
    def cache(self) -> Cache:
        return self._cache

    @property
    def seen_by(self) -> Principal | None:
        return self._seen_by


@pytest.fixture
async def database(database: Database) -> Database:
    """Posts' changes are told to the cache; two users are there."""
    database.watch(Post)
    async with database.write(None) as work, work.as_system("arrange"):
        for caller in (ANN, BOB):
            user = User(email=f"{caller.id}@example.com")
            user.id = caller.user_id
            work.session.add(user)
    return database


async def add_post(database: Database, title: str = "first", *, owner: Principal = ANN) -> UUID:
    async with database.write(owner) as work:
        post = await Posts(work).add(Post(owner_id=owner.user_id, title=title))
    return post.id


def row_of(post: UUID, title: str) -> dict[str, Any]:
    """Return what a statement inserts: the values that an entity is made with."""
    now = utc_now()
    times = {"created_at": now, "updated_at": now}
    return {"id": post, "owner_id": ANN.user_id, "title": title, "version": 1, **times}


async def count(database: Database, caller: Principal = ANN) -> int:
    async with database.read(caller) as work:
        return await PostService(work).count(caller)


async def title(database: Database, post_id: UUID, caller: Principal = ANN) -> str:
    async with database.read(caller) as work:
        return (await PostService(work).get(caller, post_id)).title


async def change_and_fail(database: Database, post_id: UUID) -> None:
    """Change a title, read it through the cache, and roll back."""

    async def change() -> None:
        async with database.write(ANN) as work:
            service = PostService(work)
            await service.posts.update(await service.posts.get(post_id), {"title": "never"})
            assert (await service.get(ANN, post_id)).title == "never"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change()


class TestWhatIsKept:
    async def test_a_call_is_answered_once(self, database: Database) -> None:
        post = await add_post(database)
        async with database.read(ANN) as work:
            service = PostService(work)
            for _ in range(3):
                assert (await service.get(ANN, post)).title == "first"
            assert service.asked == 1

    async def test_each_caller_has_their_own(self, database: Database) -> None:
        post = await add_post(database)
        assert await title(database, post) == "first"
        with pytest.raises(NotFound):
            await title(database, post, BOB)
        assert (await count(database), await count(database, BOB)) == (1, 0)

    async def test_without_the_caller_in_the_key_bob_would_see_anns(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        monkeypatch.setattr(Work, "seen_by", property(lambda _: None))
        monkeypatch.setattr(Principal, "__hash__", lambda _: 1)
        monkeypatch.setattr(Principal, "__eq__", lambda *_: True)
        post = await add_post(database)
        assert await title(database, post) == "first"
        assert await title(database, post, BOB) == "first"

    async def test_what_the_unit_sees_counts_and_not_who_it_is_said_to_be_for(
        self, database: Database
    ) -> None:
        await add_post(database)
        assert await count(database, ANN) == 1
        async with database.read(BOB) as work:
            assert await PostService(work).count(ANN) == 0
        async with database.read(ANN) as work, work.as_system("count all"):
            await add_post(database, owner=BOB)
            assert await PostService(work).count(ANN) == 2
        assert await count(database, ANN) == 1

    async def test_what_is_public_is_one_for_all(self) -> None:
        cache = LevelCache()
        services = [PostService(PlainUnit(cache, who)) for who in (ANN, BOB, None)]
        for service in services:
            assert await service.titles() == ["for everybody"]
        assert [service.asked for service in services] == [1, 0, 0]

    async def test_what_is_public_is_one_for_all_whoever_is_named(self) -> None:
        cache, calls = LevelCache(), []

        @cached(expire=1, public=True)
        async def rates(work: Unit, caller: Principal) -> int:
            calls.append(caller)
            return 1

        @cached(expire=1)
        async def own(work: Unit, caller: Principal) -> int:
            calls.append(caller)
            return 1

        for caller in (ANN, BOB):
            await rates(PlainUnit(cache, caller), caller)
        assert calls == [ANN]
        for caller in (ANN, BOB, Principal(id=ANN.id)):
            await own(PlainUnit(cache, ANN), caller)
        assert calls == [ANN, ANN, BOB, ANN]  # whose rows the unit sees, and who is named

    async def test_a_unit_without_a_caller_gets_nobodys(self, database: Database) -> None:
        await count(database)
        async with database.read(None) as work:
            with pytest.raises(UnscopedQuery):
                await PostService(work).count(ANN)

    async def test_arguments_count_however_they_are_given(self) -> None:
        unit, calls = PlainUnit(LevelCache()), []

        @cached(expire=1)
        async def double(work: Unit, number: int, times: int = 2) -> int:
            calls.append(number)
            return number * times

        assert await double(unit, 3) == await double(unit, number=3) == 6
        assert await double(work=unit, number=3) == 6
        assert calls == [3]
        assert await double(unit, 3, times=3) == 9
        assert await double(unit, 4) == 8
        assert calls == [3, 3, 4]

    async def test_models_and_lists_are_arguments_too(self) -> None:
        unit, calls = PlainUnit(LevelCache()), []

        class Query(BaseModel):
            words: list[str]
            work: str = "a field that is called so is no unit of work"

        @cached(expire=1)
        async def find(work: Unit, query: Query, ids: list[int]) -> int:
            calls.append(query)
            return len(query.words)

        for words in (["a"], ["a"], ["a", "b"]):
            assert await find(unit, Query(words=words), [1]) == len(words)
        await find(unit, Query(words=["a"], work="other"), [1])
        assert len(calls) == 3

    async def test_functions_of_one_name_are_apart(self) -> None:
        unit = PlainUnit(LevelCache())

        class Value(BaseModel):
            """A method of a value depends on that value."""

        class One(Value):
            @cached(expire=1)
            async def same(self, work: Unit) -> str:
                return "one"

        class Other(Value):
            @cached(expire=1)
            async def same(self, work: Unit) -> str:
                return "other"

        assert (await One().same(unit), await Other().same(unit)) == ("one", "other")


class TestCommits:
    async def test_what_is_added_changed_and_deleted_is_forgotten(self, database: Database) -> None:
        assert await count(database) == 0
        post = await add_post(database)
        assert (await count(database), await title(database, post)) == (1, "first")

        async with database.write(ANN) as work:
            posts = Posts(work)
            await posts.update(await posts.get(post), {"title": "second"})
        assert await title(database, post) == "second"

        async with database.write(ANN) as work:
            posts = Posts(work)
            await posts.delete(await posts.get(post))
        assert await count(database) == 0
        with pytest.raises(NotFound):
            await title(database, post)

    async def test_a_missing_row_is_found_once_it_is_there(self, database: Database) -> None:
        wanted = uuid4()
        for _ in range(2):
            with pytest.raises(NotFound):
                await title(database, wanted)
        async with database.write(ANN) as work:
            post = Post(owner_id=ANN.user_id, title="there")
            post.id = wanted
            await Posts(work).add(post)
        assert await title(database, wanted) == "there"

    @pytest.mark.parametrize("change", ["update", "delete"])
    async def test_a_statement_forgets_every_row_of_its_table(
        self, database: Database, change: str
    ) -> None:
        post = await add_post(database)
        assert (await count(database), await title(database, post)) == (1, "first")
        async with database.write(ANN) as work:
            statement = update(Post).values(title="all") if change == "update" else delete(Post)
            await work.session.execute(statement)
        if change == "update":
            assert await title(database, post) == "all"
        else:
            assert await count(database) == 0

    async def test_an_insert_forgets_its_table_and_that_there_was_nothing(
        self, database: Database
    ) -> None:
        wanted = uuid4()
        await add_post(database)
        assert await count(database) == 1
        with pytest.raises(NotFound):
            await title(database, wanted)
        async with database.write(None) as work, work.as_system("import"):
            await work.session.execute(insert(Post), [row_of(wanted, "there")])
        assert (await count(database), await title(database, wanted)) == (2, "there")

    async def test_an_insert_that_updates_instead_forgets_the_row(self, database: Database) -> None:
        post = await add_post(database)
        assert await title(database, post) == "first"
        dialect = sqlite if database.is_sqlite else postgresql
        row = dialect.insert(Post).values(row_of(post, "second"))
        upsert = row.on_conflict_do_update(
            index_elements=[Post.id], set_={"title": row.excluded.title}
        )
        async with database.write(None) as work, work.as_system("import"):
            await work.session.execute(upsert)
        assert await title(database, post) == "second"

    async def test_other_rows_stay(self, database: Database) -> None:
        first, second = await add_post(database), await add_post(database, "second")
        async with database.read(ANN) as work:
            service = PostService(work)
            await service.get(ANN, first)
            async with database.write(ANN) as changing:
                posts = Posts(changing)
                await posts.update(await posts.get(second), {"title": "changed"})
            await service.get(ANN, first)
            assert service.asked == 1

    async def test_what_is_not_committed_is_neither_read_nor_kept(self, database: Database) -> None:
        post = await add_post(database)
        assert await title(database, post) == "first"
        await change_and_fail(database, post)
        async with database.read(ANN) as work:
            service = PostService(work)
            assert (await service.get(ANN, post)).title == "first"
            assert service.asked == 0  # and nothing was forgotten for nothing

    async def test_a_cache_that_is_not_passed_by_would_keep_it(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        monkeypatch.setattr(Work, "cache", property(lambda work: work.database.cache))
        post = await add_post(database)
        await change_and_fail(database, post)
        assert await title(database, post) == "never"

    async def test_a_unit_forgets_what_it_says_with_its_commit(self, database: Database) -> None:
        post = await add_post(database)
        async with database.read(ANN) as reading:
            service = PostService(reading)
            await service.get(ANN, post)
            async with database.write(ANN) as work:
                await work.cache.forget("posts:*")
                await service.get(ANN, post)
                assert service.asked == 1
            await service.get(ANN, post)
            assert service.asked == 2

    async def test_entities_that_are_not_cached_are_not_told(self, database: Database) -> None:
        heard: list[str] = []
        database.cache.watch(heard.extend)
        async with database.write(ANN) as work:
            work.session.add(Agent(owner_id=ANN.user_id, name="quiet"))
        assert heard == []

    async def test_a_commit_is_seen_through_the_cache_of_another_process(
        self, database_url: str, valkey: Valkey
    ) -> None:
        """Two processes on one database: a commit in one is seen through the other's cache."""
        name = f"commits {uuid4()}"
        async with (
            linked(valkey.url, name=name) as (cache, _),
            linked(valkey.url, name=name) as (other_cache, _),
        ):
            here, there = (
                Database(database_url, cache=cache),
                Database(database_url, cache=other_cache),
            )
            for database in (here, there):
                database.watch(Post)
            async with here.write(None) as work, work.as_system("arrange"):
                user = User(email="ann@example.com")
                user.id = ANN.user_id
                work.session.add(user)
            post = await add_post(here)
            assert [await title(database, post) for database in (here, there)] == ["first"] * 2
            async with here.write(ANN) as work:
                posts = Posts(work)
                await posts.update(await posts.get(post), {"title": "second"})
            assert await title(here, post) == "second"
            async with asyncio.timeout(1):
                while await title(there, post) != "second":  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(0)
            for database in (here, there):
                await database.close()


class TestMistakes:
    def test_arguments_without_names_are_refused(self) -> None:
        async def total(work: Work, *numbers: int) -> int:
            return sum(numbers)

        with pytest.raises(TypeError, match="which no key can name"):
            cached(expire=300)(total)

    def test_a_function_that_is_not_async(self) -> None:
        with pytest.raises(TypeError, match="is not async"):
            cached(expire=1)(lambda: 1)

    @pytest.mark.parametrize("expire", [0, -1, float("nan")])
    def test_a_value_that_expires_at_once(self, expire: float) -> None:
        with pytest.raises(ValueError, match="expire is in seconds"):
            cached(expire=expire)

    def test_a_tag_that_names_no_parameter(self) -> None:
        with pytest.raises(TypeError, match="no parameter agent, which a tag names"):

            @cached(expire=1, tags=["agents:{agent}"])
            async def get(work: Unit, agent_id: int) -> int:
                return agent_id

    async def test_a_function_without_a_unit_of_work(self) -> None:
        @cached(expire=1)
        async def lonely() -> int:
            return 1

        with pytest.raises(TypeError, match="has no unit of work"):
            await lonely()

    async def test_a_result_without_a_type(self) -> None:
        @cached(expire=1)
        async def untyped(work: Unit):
            return 1

        with pytest.raises(TypeError, match="as its annotation says"):
            await untyped(PlainUnit(LevelCache()))

    async def test_an_entity(self) -> None:
        @cached(expire=1)
        async def newest(work: Unit) -> list[Post] | None:
            return None

        with pytest.raises(TypeError, match="not an entity"):
            await newest(PlainUnit(LevelCache()))

    async def test_a_result_that_pydantic_cannot_write(self) -> None:
        @cached(expire=1)
        async def unit(work: Unit) -> Unit:
            return work

        with pytest.raises(TypeError, match="pydantic cannot write"):
            await unit(PlainUnit(LevelCache()))

    async def test_a_request_as_an_argument(self) -> None:
        @cached(expire=1)
        async def who(work: Unit, request: Request) -> str:
            return "?"

        request = Request({"type": "http", "headers": []})
        with pytest.raises(TypeError, match="what is no value"):
            await who(PlainUnit(LevelCache()), request)


class TestEndpoint:
    @pytest.fixture
    async def client(self, database: Database) -> AsyncGenerator[httpx2.AsyncClient]:
        router = APIRouter()

        @router.get("/posts/count")
        @cached(expire=300, tags=["posts"])
        async def count_posts(
            posts: Annotated[PostService, Depends()], caller: Annotated[Principal, public()]
        ) -> dict[str, int]:
            posts.asked += 1
            return {"total": await posts.count(caller)}

        app = FastAPI()
        app.include_router(router)
        app.state.database = database
        app.state.api_rate, app.state.limiter = None, _Free()
        app.state.trusted_proxies, app.state.auth_cookies = (), False
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client

    async def test_an_endpoint_is_decorated_below_its_route(
        self, client: httpx2.AsyncClient, database: Database
    ) -> None:
        assert (await client.get("/posts/count")).json() == {"total": 0}
        async with database.write(ANN) as work:
            await Posts(work).add(Post(owner_id=ANN.user_id, title="news", is_published=True))
        assert (await client.get("/posts/count")).json() == {"total": 1}
        statement = update(Post).values(is_published=False)
        async with database.engine.begin() as connection:  # behind the kernel's back
            await connection.execute(statement)
        assert (await client.get("/posts/count")).json() == {"total": 1}
        assert await count(database, ANYONE) == 1


class _Free:
    """A limiter that lets everything pass."""

    async def hit(self, key: str, rate: Any, *, cost: int = 1) -> Any:
        class Allowed:
            allowed = True

            def headers(self, *, policy: str) -> dict[str, str]:
                return {}

        return Allowed()


class Shelf:
    """What several services inherit."""

    holds = ""

    def __init__(self, work: Unit) -> None:
        self.work = work

    @cached(expire=300)
    async def count(self) -> str:
        return f"all {self.holds}"


class Books(Shelf):
    holds = "books"


class Cups(Shelf):
    holds = "cups"


async def test_a_method_that_two_services_inherit_has_a_value_for_each() -> None:
    work = PlainUnit(LevelCache())
    for _ in range(2):
        assert [await Books(work).count(), await Cups(work).count()] == ["all books", "all cups"]
