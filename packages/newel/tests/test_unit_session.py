"""A unit that reads does not write, whichever way it tries."""

from __future__ import annotations

import pytest
from sample_entities import Tag
from sqlalchemy import Executable, delete, func, insert, select

from newel.db import Database
from newel.unit_session import ReadOnlyUnit

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "statement",
    [
        insert(Tag).values(label="x"),
        delete(Tag),
        select(Tag.label).add_cte(delete(Tag).cte()),
        select(Tag.label).where(Tag.id.in_(select(delete(Tag).returning(Tag.id).cte()))),
    ],
)
async def test_a_read_unit_refuses_statements_that_write(
    database: Database, statement: Executable
) -> None:
    async with database.read(None) as work:
        with pytest.raises(ReadOnlyUnit, match="POST"):
            await work.session.execute(statement)
        async with work.as_system("it writes no more than others"):
            with pytest.raises(ReadOnlyUnit, match="POST"):
                await work.session.execute(statement)


async def test_a_read_unit_refuses_to_flush(database: Database) -> None:
    async def add() -> None:
        async with database.read(None) as work:
            work.session.add(Tag(label="x"))

    with pytest.raises(ReadOnlyUnit, match="POST"):
        await add()
    async with database.read(None) as work:
        assert await work.session.scalar(select(func.count()).select_from(Tag)) == 0
