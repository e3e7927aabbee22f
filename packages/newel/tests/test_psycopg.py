"""The other driver for PostgreSQL: what a unit of work does, it does with psycopg as well."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
from sample_entities import Tag
from sqlalchemy import make_url, text

from newel.db import Database
from newel.pages import PageQuery
from newel.repository import Repository
from newel.schemas import EntityRead

pytestmark = pytest.mark.anyio


class TagRead(EntityRead):
    label: str


class Tags(Repository[Tag]):
    entity = Tag


@pytest.fixture
async def psycopg(database_url: str) -> AsyncGenerator[Database]:
    """A database of a server that is not in UTC."""
    if "+asyncpg" not in database_url:
        pytest.skip("psycopg is a driver for PostgreSQL")
    database = Database(database_url.replace("+asyncpg", "+psycopg"))
    async with database.engine.begin() as connection:
        name = f'"{make_url(database_url).database}"'
        await connection.execute(text(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'"))
    await database.close()
    database = Database(str(database.url))
    yield database
    await database.close()


async def test_what_is_added_is_read_changed_and_found(psycopg: Database) -> None:
    async with psycopg.write(None) as work:
        tag = await Tags(work).add(Tag(label="grey"))
        await Tags(work).update(tag, {"label": "red"})
    async with psycopg.write(None) as work:
        again = await Tags(work).get(tag.id)
        await Tags(work).update(again, {"label": "blue"})
    async with psycopg.read(None) as work:
        found = await Tags(work).reading(TagRead).get(tag.id)
        listed = await Tags(work).reading(TagRead).page(PageQuery())
    assert (found.label, found.version) == ("blue", 3)
    assert (listed.total, listed.items) == (1, [found])
    assert found.created_at.utcoffset() == timedelta(0)
