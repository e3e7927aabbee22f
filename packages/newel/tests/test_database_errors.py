"""What a driver raises is said in the words of the service, without statements and values."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import anyio
import pytest
from sample_entities import Agent, Invoice, Measure, Run, Tag, User
from sqlalchemy import JSON, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from newel.database_errors import as_app_error
from newel.db import Database, Work
from newel.entity import Entity, unique
from newel.errors import Conflict, Duplicate, InsufficientStorage, Invalid, Unavailable
from newel.principal import Principal

pytestmark = pytest.mark.anyio


class PortOfCall(Entity):
    """Names that are longer than PostgreSQL's 63 bytes and begin alike."""

    __tablename__ = "international_container_ship_ports_of_call"
    __table_args__ = (
        unique(__tablename__, "scheduled_arrival_number", "berth"),
        unique(__tablename__, "scheduled_arrival_number", "pilot"),
    )

    scheduled_arrival_number: Mapped[int]
    berth: Mapped[str]
    pilot: Mapped[str]
    registration_at_the_port_authority: Mapped[str] = mapped_column(unique=True)


class Finding(Entity):
    """Has whatever JSON was sent."""

    __tablename__ = "findings_as_sent"

    found: Mapped[dict[str, Any]] = mapped_column(JSON)


async def insert(database: Database, *entities: Entity) -> None:
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all(entities)


@pytest.mark.parametrize(
    ("make", "resource", "field"),
    [
        (lambda user: [Tag(label="a"), Tag(label="a")], "tag", "label"),
        (lambda user: [User(email="ann@example.com")], "user", "email"),
        (
            lambda user: [Agent(name="a", owner_id=user.id), Agent(name="a", owner_id=user.id)],
            "agent",
            "name",
        ),
        (lambda _: [Invoice(number=1, tenant_id=uuid4()) for _ in "ab"], "invoice", "number"),
    ],
    ids=["unique column", "unique among stored rows", "partial index of two columns", "tenant"],
)
async def test_a_taken_value_names_its_resource_and_field(
    database: Database, make: Callable[[User], list[Entity]], resource: str, field: str
) -> None:
    ann = User(email="ann@example.com")
    await insert(database, ann)
    with pytest.raises(Duplicate) as caught:
        await insert(database, *make(ann))
    assert caught.value.extra == {"resource": resource, "field": field}
    assert caught.value.errors[0].pointer == f"#/{field}"


@pytest.mark.parametrize("field", ["berth", "pilot", "registration_at_the_port_authority"])
async def test_a_taken_value_is_named_however_long_the_names_are(
    database: Database, field: str
) -> None:
    def port(number: int, **other: str) -> PortOfCall:
        texts = {name: f"{name} {number}" for name in ("berth", "pilot")}
        registration = {"registration_at_the_port_authority": f"no. {number}"}
        return PortOfCall(scheduled_arrival_number=1, **(texts | registration | other))

    await insert(database, port(1))
    with pytest.raises(Duplicate) as caught:
        await insert(database, port(2, **{field: getattr(port(1), field)}))
    assert caught.value.extra == {"resource": "port of call", "field": field}


async def test_a_reference_to_nothing_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict, match="does not exist"):
        await insert(database, Run(agent_id=uuid4(), owner_id=uuid4()))


@pytest.mark.parametrize("state", ["23001", "23503"])
def test_a_row_that_is_referred_to_is_a_conflict(state: str) -> None:
    known = as_app_error(IntegrityError("", {}, _Driver("violates RESTRICT setting", state)))
    assert type(known) is Conflict


@pytest.mark.parametrize("depth", [10, 210, 300])
async def test_json_comes_back_however_deep_it_is(database: Database, depth: int) -> None:
    found: dict[str, Any] = {"text": "half \\ud800"}
    for _ in range(depth):
        found = {"a": [found]}
    await insert(database, Finding(found=found))
    async with database.read(None) as work:
        assert await work.session.scalar(select(Finding.found)) == found


async def test_a_value_that_does_not_fit_is_invalid(database: Database) -> None:
    with pytest.raises((Invalid, OverflowError, DBAPIError)) as caught:
        await insert(database, Measure(label="x", count=2**70))
    if not database.is_sqlite:
        assert caught.type is Invalid


async def test_a_missing_value_stays_our_fault(database: Database) -> None:
    measure = Measure(label="x")
    measure.label = None  # type: ignore[assignment] # the mistake
    with pytest.raises(IntegrityError):
        await insert(database, measure)


async def test_a_full_disk_is_insufficient_storage(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has no setting that makes its disk look full")

    async with database.engine.connect() as connection:
        await connection.execute(text("PRAGMA max_page_count = 1"))
    with pytest.raises(InsufficientStorage):
        await insert(database, *(Tag(label=f"tag {number} {'x' * 20}") for number in range(5000)))


async def test_a_deadlock_asks_to_try_again(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has one writer, so nothing can lock each other")
    await insert(database, Tag(label="a"), Tag(label="b"))
    first_done, second_done = anyio.Event(), anyio.Event()
    outcomes: list[type] = []

    async def touch(work: Work, label: str) -> None:
        await work.session.execute(update(Tag).where(Tag.label == label).values(version=9))

    async def run(labels: tuple[str, str], mine: anyio.Event, other: anyio.Event) -> None:
        try:
            async with database.write(None) as work:
                await touch(work, labels[0])
                mine.set()
                await other.wait()
                await touch(work, labels[1])
            outcomes.append(type(None))
        except Unavailable as error:
            outcomes.append(type(error))

    async with anyio.create_task_group() as group:
        group.start_soon(run, ("a", "b"), first_done, second_done)
        group.start_soon(run, ("b", "a"), second_done, first_done)
    assert sorted(outcome.__name__ for outcome in outcomes) == ["NoneType", "Unavailable"]


class _Driver(Exception):
    def __init__(self, message: str = "", sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@pytest.mark.parametrize("text", ["cached plan", "database is locked", "disk is full"])
def test_what_a_client_has_sent_is_not_taken_for_what_is_wrong(text: str) -> None:
    """A driver's message may quote it; where there is a state, that says what is wrong."""
    quoted = _Driver(f'DETAIL: Key (name)=("{text}") already exists', "23505")
    assert isinstance(as_app_error(IntegrityError("", {}, quoted)), Conflict)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        *(("08006", Unavailable), ("57P01", Unavailable), ("53300", Unavailable)),
        *(("40001", Unavailable), ("55P03", Unavailable), ("53100", InsufficientStorage)),
        *(("22003", Invalid), ("22021", Invalid), ("42P01", type(None)), ("", type(None))),
    ],
)
def test_states_of_postgresql_have_a_meaning(state: str, kind: type) -> None:
    error = OperationalError("SELECT secret", {}, _Driver("hunter2", state))
    known = as_app_error(error)
    assert type(known) is kind
    assert "hunter2" not in str(known)
    assert "secret" not in str(known)


def test_a_lost_connection_is_unavailable() -> None:
    assert isinstance(as_app_error(DBAPIError("", {}, _Driver()), lost=True), Unavailable)


@pytest.mark.parametrize(
    "message",
    ["UNIQUE constraint failed: index 'unknown'", "UNIQUE constraint failed: nowhere.column"],
)
def test_an_unknown_constraint_is_still_a_conflict(message: str) -> None:
    known = as_app_error(IntegrityError("", {}, _Driver(message)))
    assert isinstance(known, Conflict)


async def test_no_error_shows_the_value(database: Database) -> None:
    await insert(database, Tag(label="hunter2"))
    with pytest.raises(Duplicate) as caught:
        await insert(database, Tag(label="hunter2"))
    public: list[Any] = [caught.value.detail, caught.value.extra, caught.value.errors]
    assert "hunter2" not in str(public)
    async with database.read(Principal(id=uuid4())) as work:
        assert await work.session.scalar(select(Tag.label)) == "hunter2"


@pytest.mark.parametrize("what", ["a row", "a key"])
async def test_no_trace_has_what_is_in_a_row(database: Database, what: str) -> None:
    """PostgreSQL tells it as a detail, and asyncpg puts that into the text of its errors."""
    bad = [Tag(label="jane@example.com"), Tag(label="jane@example.com")]
    if what == "a row":
        bad = [Measure(label="jane@example.com")]
        bad[0].created_at = None
    with pytest.raises((Duplicate, IntegrityError)) as caught:
        await insert(database, *bad)
    assert "jane" not in "".join(traceback.format_exception(caught.value))
