"""A unit that reads does not write, whichever way it tries."""

from __future__ import annotations

from typing import Any

import pytest
from sample_entities import Measure, Tag
from sqlalchemy import Executable, delete, func, insert, select, update

from newel.concurrency import check_version
from newel.db import Database
from newel.errors import PreconditionFailed
from newel.repository import Repository
from newel.unit_session import ReadOnlyUnit

pytestmark = pytest.mark.anyio


class Measures(Repository[Measure]):
    entity = Measure


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


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (update(Measure).values(count=7), None),
        (update(Measure).where(Measure.label == "a").values({Measure.count: 7}), None),
        (update(Measure).ordered_values((Measure.count, 7), (Measure.amount, 1)), None),
        (update(Measure), {"count": 7}),
        (update(Measure).values(count=7).returning(Measure.id), None),
        (update(Measure).values(count=7).execution_options(synchronize_session=False), None),
        (update(Measure).values(count=7).execution_options(synchronize_session="fetch"), None),
    ],
)
async def test_an_update_statement_counts_the_version(
    database: Database, statement: Executable, parameters: dict[str, Any] | None
) -> None:
    """Else a change that rests on what was read before it (``If-Match``) would undo it."""
    async with database.write(None) as work:
        measure = await Measures(work).add(Measure(label="a"))
    async with database.write(None) as work:
        await work.session.execute(statement, parameters)
    async with database.write(None) as work:
        found = await Measures(work).get(measure.id)
        assert (found.count, found.version) == (7, 2)
        with pytest.raises(PreconditionFailed):
            check_version(found.version, (1,))


async def test_what_the_unit_has_read_knows_the_new_version(database: Database) -> None:
    async with database.write(None) as work:
        measure = await Measures(work).add(Measure(label="a"))
        await work.session.execute(update(Measure).values(count=7))
        assert (measure.count, measure.version) == (7, 2)
        await Measures(work).update(measure, {"label": "b"})
        assert measure.version == 3
    async with database.write(None) as work:
        found = await Measures(work).get(measure.id)
        assert (found.label, found.count, found.version) == ("b", 7, 3)


async def test_a_statement_that_sets_the_version_is_left_alone(database: Database) -> None:
    async with database.write(None) as work:
        measure = await Measures(work).add(Measure(label="a"))
        await work.session.execute(update(Measure).values(count=7, version=9))
        await work.session.execute(update(Measure), {"count": 8, "version": 10})
        assert await work.session.scalar(select(Measure.version)) == 10
        change = {"id": measure.id, "count": 9, "version": 10}
        await work.session.execute(update(Measure), [change])
        assert await work.session.scalar(select(Measure.version)) == 11
        await work.session.execute(update(Measure.__table__).values(count=7))  # no entity
        assert await work.session.scalar(select(Measure.version)) == 11
