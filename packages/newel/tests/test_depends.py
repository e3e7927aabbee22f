"""Dependencies run outside of a request as they do inside one."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

import httpx2
import pytest
from fastapi import Depends, FastAPI, Header
from sample_entities import Agent, Tag, User
from sqlalchemy import func, select

from newel.clock import SystemClock
from newel.db import CurrentWork, Database
from newel.depends import (
    AccessTokensDep,
    ClockDep,
    CursorSigner,
    DatabaseDep,
    PasswordsDep,
    resolve,
)
from newel.principal import Principal
from newel.repository import Repository
from newel.tokens import KeyRing

pytestmark = pytest.mark.anyio


class Tags(Repository[Tag]):
    entity = Tag


class TagService:
    def __init__(self, work: CurrentWork, tags: Annotated[Tags, Depends()]) -> None:
        self.work = work
        self.tags = tags

    async def create(self, label: str) -> Tag:
        return await self.tags.add(Tag(label=label))


class AgentService:
    def __init__(self, work: CurrentWork) -> None:
        self.work = work

    async def count(self) -> int:
        return await self.work.session.scalar(select(func.count(Agent.id))) or 0


@pytest.fixture
def app(database: Database) -> FastAPI:
    app = FastAPI()
    app.state.database = database
    return app


async def labels(database: Database) -> list[str]:
    async with database.read(None) as work:
        return list((await work.session.scalars(select(Tag.label))).all())


async def test_a_service_is_built_and_committed(app: FastAPI, database: Database) -> None:
    async with resolve(app, TagService, caller=Principal(id=uuid4())) as tags:
        await tags.create("red")
        assert tags.work is tags.tags.work
    assert await labels(database) == ["red"]


async def test_an_exception_rolls_back_and_passes_through(app: FastAPI, database: Database) -> None:
    with pytest.raises(KeyError, match="stop"):  # noqa: PT012 - the write is the point
        async with resolve(app, TagService, caller=Principal(id=uuid4())) as tags:
            await tags.create("red")
            raise KeyError("stop")
    assert await labels(database) == []


async def test_it_works_in_the_scope_of_the_caller(app: FastAPI, database: Database) -> None:
    ann = User(email="ann@example.com")
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add(ann)
        await work.flush()
        work.session.add(Agent(name="hers", owner_id=ann.id))
    async with resolve(app, AgentService, caller=Principal(id=ann.id)) as agents:
        assert await agents.count() == 1
    async with resolve(app, AgentService, caller=Principal(id=uuid4())) as agents:
        assert await agents.count() == 0


async def test_overrides_of_tests_are_respected(app: FastAPI) -> None:
    class Fake:
        name = "fake"

    app.dependency_overrides[TagService] = Fake
    async with resolve(app, TagService, caller=Principal(id=uuid4())) as tags:
        assert isinstance(tags, Fake)


async def test_what_reads_a_request_says_so(app: FastAPI) -> None:
    def needs_header(x_tenant: Annotated[str, Header()]) -> str:
        return x_tenant

    with pytest.raises(RuntimeError, match="needs a request: it reads x-tenant"):
        async with resolve(app, needs_header, caller=Principal(id=uuid4())):
            pass


async def test_the_aliases_give_what_the_application_has(app: FastAPI) -> None:
    state = app.state
    state.clock, state.passwords, state.access_tokens = SystemClock(), object(), object()
    state.keys = KeyRing("abcdefghijklmnopqrstuvwxyz0123456789")
    found: list[object] = []

    @app.get("/")
    async def read(
        clock: ClockDep,
        passwords: PasswordsDep,
        tokens: AccessTokensDep,
        database: DatabaseDep,
        signer: CursorSigner,
    ) -> str:
        found.extend((clock, passwords, tokens, database))
        return signer.read(signer.sign(b"cursor")).decode()

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/")).json() == "cursor"
    assert found == [state.clock, state.passwords, state.access_tokens, state.database]
