"""A statement is built once for a shape, and never with another caller's values.

Prepared for the driver it returns what it does through SQLAlchemy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import anyio
import pytest
import sqlalchemy as sa
from sample_entities import Agent, Tag
from sqlalchemy import ColumnElement, Select, event, select
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.util import greenlet_spawn

from newel.db import Database
from newel.engines import read
from newel.principal import ANYONE, Principal
from newel.scope import SystemScope, UnscopedQuery
from newel.statements import Prepared, Statements

ANN, BOB = Principal(id=uuid4()), Principal(id=uuid4())


class Builds:
    """Counts how often a statement is built."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, predicates: Sequence[ColumnElement[bool]]) -> Select[Any]:
        self.count += 1
        return select(Agent.name).where(*predicates)


def test_two_callers_share_a_statement_and_not_their_values() -> None:
    statements, build = Statements(), Builds()
    first, of_ann = statements.scoped(Agent, ANN, "list", build)
    second, of_bob = statements.scoped(Agent, BOB, "list", build)
    assert first is second
    assert build.count == 1
    assert (list(of_ann.values()), list(of_bob.values())) == ([ANN.id], [BOB.id])
    assert of_ann.keys() == of_bob.keys()


@pytest.mark.parametrize(
    "scope",
    [
        ANYONE,
        SystemScope(reason="look"),
        Principal(id=uuid4(), permissions=frozenset({"agents:all"})),
    ],
    ids=["anyone", "system", "administrator"],
)
def test_who_sees_something_else_gets_another_statement(scope: Principal | SystemScope) -> None:
    statements, build = Statements(), Builds()
    own, _ = statements.scoped(Agent, ANN, "list", build)
    other, _ = statements.scoped(Agent, scope, "list", build)
    assert str(own) != str(other)
    assert build.count == 2


def test_a_statement_that_has_a_callers_values_in_it_is_nobody_elses() -> None:
    """As some mappings make it: a copy of the predicate's parameter is in its place."""

    def build(predicates: Sequence[ColumnElement[bool]]) -> Select[Any]:
        values = {bind.effective_value for bind in predicates[-1].compile().binds.values()}
        [owner] = values & {ANN.id, BOB.id}
        return select(Agent.name).where(Agent.owner_id == owner)

    statements = Statements(asyncpg.dialect())
    for caller in (ANN, BOB, ANN):
        statement, values = statements.scoped(Agent, caller, "copied", build)
        assert statements.prepared(statement) is None
        assert [*statement.compile().params.values(), *values.values()] == [caller.id]


def test_every_shape_has_its_own() -> None:
    statements, build = Statements(), Builds()
    first, _ = statements.scoped(Agent, ANN, "list", build)
    second, _ = statements.scoped(Agent, ANN, "find", build)
    assert first is not second


def test_without_a_caller_only_what_is_not_guarded_has_a_statement() -> None:
    statements = Statements()
    statements.scoped(Tag, None, "list", Builds())
    with pytest.raises(UnscopedQuery):
        statements.scoped(Agent, None, "list", Builds())


def test_what_is_remembered_is_bounded() -> None:
    statements, build = Statements(), Builds()
    for number in range(10_500):
        statements.scoped(Agent, ANN, number, build)
    assert statements.count <= 10_000


VALUES: Sequence[tuple[sa.types.TypeEngine[Any], Any]] = (
    (sa.Uuid(), uuid4()),
    (sa.Numeric(12, 2), Decimal("1.50")),
    (sa.Integer(), 7),
    (sa.Float(), 0.25),
    (sa.Boolean(), True),
    (sa.String(), "a"),
    (sa.DateTime(timezone=True), datetime(2026, 1, 2, tzinfo=UTC)),
    (sa.Date(), date(2026, 1, 2)),
    (sa.LargeBinary(), b"\x00\xff"),
    (sa.JSON(), {"a": [1, 2.5, None, "\u00fc"]}),
    (sa.Enum("open", "closed", name="states", native_enum=False), "open"),
    (sa.String(), None),
)


@pytest.mark.anyio
async def test_a_value_that_cannot_be_read_costs_no_connection_either(database: Database) -> None:
    states = sa.Enum("open", name="states", native_enum=False)
    unknown = sa.type_coerce(sa.literal("burnt"), states)
    prepared = Prepared.of(select(unknown), database.reading_engine.dialect)
    assert prepared is not None
    made: list[object] = []
    event.listen(database.reading_engine.sync_engine, "connect", lambda *told: made.append(told))
    for _ in range(3):
        with pytest.raises(LookupError):
            await run(database, prepared, {})
    assert len(made) == 1


async def run(database: Database, prepared: Prepared, values: Any) -> Sequence[Sequence[Any]]:
    parameters = prepared.parameters(values)
    return await greenlet_spawn(read, database.reading_engine.sync_engine, prepared, parameters)


@pytest.mark.anyio
async def test_for_the_driver_a_statement_gives_what_it_gives_through_sqlalchemy(
    database: Database,
) -> None:
    own = [sa.bindparam(f"own_{n}", value, kind) for n, (kind, value) in enumerate(VALUES)]
    given = [sa.bindparam(f"given_{n}", type_=kind) for n, (kind, _) in enumerate(VALUES)]
    values = {f"given_{n}": value for n, (_, value) in enumerate(VALUES)}
    statement = select(*own, *given)
    prepared = Prepared.of(statement, database.reading_engine.dialect)
    assert prepared is not None
    async with database.reading_engine.connect() as connection:
        expected = (await connection.execute(statement, values)).all()
    for _ in range(2):  # the second time it knows how
        assert [tuple(row) for row in await run(database, prepared, values)] == expected


def test_a_prepared_statement_has_no_value_of_who_was_first() -> None:
    statements = Statements(asyncpg.dialect())
    first, of_ann = statements.scoped(Agent, ANN, "list", Builds())
    prepared = statements.prepared(first)
    assert prepared is not None
    assert prepared.parameters(of_ann) == [ANN.id]
    _, of_bob = statements.scoped(Agent, BOB, "list", Builds())
    assert prepared.parameters(of_bob) == [BOB.id]
    with pytest.raises(KeyError):
        prepared.parameters({})


def test_drivers_that_take_parameters_by_name_get_them_so() -> None:
    statement = select(Agent.name).where(Agent.name == sa.bindparam("wanted"), Agent.version == 3)
    prepared = Prepared.of(statement, psycopg.dialect())
    assert prepared is not None
    assert sorted(map(str, prepared.parameters({"wanted": "a"}).values())) == ["3", "a"]


def test_what_depends_on_its_values_is_not_prepared() -> None:
    some = select(Agent.name).where(Agent.name.in_(["a", "b"]))
    assert Prepared.of(some, asyncpg.dialect()) is None
    assert Statements(asyncpg.dialect()).prepared(some) is None


def test_an_insert_that_leaves_a_default_to_sqlalchemy_is_not_prepared() -> None:
    """It would write NULL: the value is made for each statement that is sent."""
    b = sa.Column("b", sa.Integer, default=lambda: 7)
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), b)
    assert Prepared.of(sa.insert(table), asyncpg.dialect(), ["a"]) is None
    prepared = Prepared.of(sa.insert(table), asyncpg.dialect(), ["a", "b"])
    assert prepared is not None
    assert prepared.parameters({"a": 1, "b": 2}) == [1, 2]


whether_its_values_are_known = pytest.mark.parametrize("is_known", [False, True])
"""The first time SQLAlchemy's cursor sends a statement, and says what its values are."""


@pytest.mark.anyio
@whether_its_values_are_known
async def test_a_value_that_does_not_fit_costs_no_connection(
    database: Database, is_known: bool
) -> None:
    if database.is_sqlite:
        pytest.skip("to SQLite any number is one")
    prepared = Prepared.of(
        select(sa.bindparam("number", type_=sa.Integer())), database.reading_engine.dialect
    )
    assert prepared is not None
    made: list[object] = []
    event.listen(database.reading_engine.sync_engine, "connect", lambda *told: made.append(told))
    if is_known:
        assert [*(await run(database, prepared, {"number": 7}))[0]] == [7]
    for _ in range(3):
        with pytest.raises(database.reading_engine.dialect.loaded_dbapi.Error):
            await run(database, prepared, {"number": 2**40})
    assert len(made) == 1


@pytest.mark.anyio
@whether_its_values_are_known
async def test_nobody_gets_the_answer_of_who_was_called_off(
    database: Database, is_known: bool
) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has nothing that takes time")
    dialect = database.reading_engine.dialect
    seconds = sa.bindparam("seconds", type_=sa.Float())
    slow = Prepared.of(select(sa.literal("slow"), sa.func.pg_sleep(seconds)), dialect)
    quick = Prepared.of(select(sa.literal("quick")), dialect)
    assert slow is not None
    assert quick is not None
    if is_known:
        await run(database, slow, {"seconds": 0.0})
        await run(database, quick, {})
    reading = asyncio.create_task(run(database, slow, {"seconds": 20.0}))
    async with database.reading_engine.connect() as beside:  # a transaction sees who was there
        asleep = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        with anyio.fail_after(20):
            while not (await beside.execute(asleep)).scalar_one():
                await anyio.lowlevel.checkpoint()
    reading.cancel()
    await asyncio.wait([reading])
    assert database.connections() == {"in_use": 0, "waiting": 0}
    for _ in range(3):
        assert [row[0] for row in await run(database, quick, {})] == ["quick"]


class Shouted(sa.TypeDecorator[str]):
    """One's own type that does not say whether statements with it may be kept."""

    impl = sa.String(20)

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else value.upper()


@pytest.mark.filterwarnings("ignore:TypeDecorator")
def test_what_sqlalchemy_cannot_keep_is_built_for_each_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def visible_to(caller: Principal) -> ColumnElement[bool]:
        return sa.cast(Agent.name, Shouted()) == min(caller.roles)

    monkeypatch.setattr(Agent, "visible_to", visible_to)
    statements = Statements(asyncpg.dialect())
    for role in ("a", "b"):
        caller = Principal(id=uuid4(), roles=frozenset({role}))
        statement, values = statements.scoped(Agent, caller, "find", Builds())
        assert (list(statement.compile().params.values()), values) == ([role], {})
        assert statements.prepared(statement) is None
