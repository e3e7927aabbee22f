"""A unit that reads does not write, whichever way it tries."""

from __future__ import annotations

from typing import Any

import pytest
from sample_entities import Tag
from sqlalchemy import func, select

from newel.db import Database
from newel.unit_session import ReadOnlyUnit

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "statement", [Tag.__table__.insert().values(label="x"), Tag.__table__.delete()]
)
async def test_a_read_unit_refuses_statements_that_write(
    database: Database, statement: Any
) -> None:
    async with database.read(None) as work:
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
