"""The tables of jobs: what a row says, how it is inserted, and the database's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, cast
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Index,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    false,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from newel.clock import utc_now
from newel.entity import Entity, UTCDateTime
from newel.principal import Principal

__all__ = [
    "FINISHED",
    "JOBS",
    "SEE_ALL",
    "STEPS",
    "JobRow",
    "JobState",
    "from_now",
    "without_waiting",
    "write_jobs",
]

JobState = Literal["scheduled", "ready", "running", "done", "dead", "cancelled", "duplicate"]
"""``scheduled`` waits for its time, ``ready`` for a worker; the last four are final."""

FINISHED: Final[tuple[JobState, ...]] = ("done", "dead", "cancelled", "duplicate")
SEE_ALL: Final = "jobs:all"
"""The permission that shows every job (of the caller's tenant, if they have one)."""


class from_now(FunctionElement[datetime]):  # noqa: N801 - it is used as a function, like func.now
    """The database's own clock, so many seconds from now: ``from_now(30)``."""

    type: TypeEngine[datetime] = UTCDateTime()
    inherit_cache: bool | None = True

    def __init__(self, seconds: float | ColumnElement[float] = 0.0) -> None:
        super().__init__(seconds if isinstance(seconds, ColumnElement) else _seconds(seconds))


def _seconds(value: float) -> ColumnElement[float]:
    return bindparam(None, float(value), type_=Float, unique=True)


@compiles(from_now, "sqlite")
def _sqlite_clock(element: from_now, compiler: SQLCompiler, **options: Any) -> str:
    # As SQLAlchemy stores times, so that texts compare like times.
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"


@compiles(from_now, "postgresql")
def _postgresql_clock(element: from_now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(statement_timestamp() + make_interval(secs => {seconds}))"


class without_waiting(FunctionElement[str]):  # noqa: N801 - it is used as a function
    """Do not wait for the disk at the end of this statement's transaction.

    A claim, or a renewed lease, that PostgreSQL forgets when it crashes is one that never was. The
    wait is most of what a claim costs.
    """

    type: TypeEngine[str] = String()
    inherit_cache: bool | None = True


@compiles(without_waiting, "postgresql")
def _set_for_this_transaction(*_: Any, **__: Any) -> str:
    return "set_config('synchronous_commit', 'off', true)"


@compiles(without_waiting, "sqlite")
def _sqlite_always_waits(*_: Any, **__: Any) -> str:
    return "NULL"


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


class JobRow(Entity):
    """A job: what is to be done, for whom, how far it is, and what came out.

    ``arguments``, ``caller``, ``result`` and ``error`` are JSON. Its owner sees it, and who holds
    ``jobs:all``. A job whose ``concurrency_key`` is another running one's waits; with a
    ``place`` it also waits for the unfinished ones of a smaller place. ``announced_at`` is when a
    ready job was given to a carrier.
    """

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(String(128))
    queue: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    arguments: Mapped[str] = mapped_column(Text)
    caller: Mapped[str | None] = mapped_column(Text)
    owner_id: Mapped[UUID | None]
    tenant_id: Mapped[UUID | None]
    request_id: Mapped[str | None] = mapped_column(String(64))
    traceparent: Mapped[str | None] = mapped_column(String(55))
    run_at: Mapped[datetime]
    unique_key: Mapped[str | None]
    concurrency_key: Mapped[str | None]
    place: Mapped[int | None]
    attempt: Mapped[int]
    max_attempts: Mapped[int]
    announced_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(128))
    leased_until: Mapped[datetime | None]
    cancel_requested: Mapped[bool]
    progress: Mapped[float | None]
    note: Mapped[str | None]
    result: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @classmethod
    def resource_name(cls) -> str:
        return "job"

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:
        """Their own; with ``jobs:all`` everyone's, or everyone's of their tenant."""
        if not caller.can(SEE_ALL):
            return false() if caller.id is None else cls.owner_id == caller.id
        return None if caller.tenant_id is None else cls.tenant_id == caller.tenant_id

    @classmethod
    def changeable_by(cls, caller: Principal) -> ColumnElement[bool] | None:
        return cls.visible_to(caller)

    def is_changeable_by(self, caller: Principal) -> bool:  # noqa: ARG002 - nobody's
        """Nobody changes a job as an entity: the queue does it, by statements that are fenced."""
        return False

    __table_args__: ClassVar[Any] = (  # ty: ignore[incompatible-attribute-override] - no field
        _partial(
            "ix_jobs_ready",
            "queue",
            "priority",
            "id",
            where="state = 'ready' AND announced_at IS NULL",
        ),
        _partial(
            "ix_jobs_announced",
            "announced_at",
            where="state = 'ready' AND announced_at IS NOT NULL",
        ),
        _partial("ix_jobs_scheduled", "run_at", where="state = 'scheduled'"),
        _partial("ix_jobs_running", "worker", where="state = 'running'"),
        _partial(
            "uq_jobs_running_key",
            "concurrency_key",
            where="concurrency_key IS NOT NULL AND state = 'running'",
            unique=True,
        ),
        _partial(
            "uq_jobs_unique_key",
            "unique_key",
            where="unique_key IS NOT NULL AND finished_at IS NULL",
            unique=True,
        ),
        _partial(
            "ix_jobs_key",
            "concurrency_key",
            "id",
            where="concurrency_key IS NOT NULL AND finished_at IS NULL",
        ),
        _partial("ix_jobs_finished", "state", "finished_at", where="finished_at IS NOT NULL"),
        {
            "info": {"kernel": True},
            # A queue's table changes a hundred times as fast as others: the default leaves
            # claiming to step over the dead rows of a fifth of it.
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": 0.01,
                "autovacuum_vacuum_cost_delay": 0,
            },
        },
    )


JOBS: Final = cast("Table", JobRow.__table__)
"""The table of ``JobRow``, for statements on a connection."""

STEPS: Final = Table(
    "job_steps",
    Entity.metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("result", Text, nullable=False),
    info={"kernel": True},
)


def write_jobs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert jobs; one whose unique key an unfinished job has already is a ``duplicate`` of it."""
    if plain := [row for row in rows if row["unique_key"] is None]:
        connection.execute(insert(JOBS), plain)
    unique = [row for row in rows if row["unique_key"] is not None]
    # Sorted, so that two units with the same two keys do not lock each other up.
    for row in sorted(unique, key=lambda row: row["unique_key"]):
        _write_unique(connection, row)


def _write_unique(connection: Connection, row: Mapping[str, Any]) -> None:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    same = JOBS.c.unique_key == row["unique_key"], JOBS.c.finished_at.is_(None)
    while not connection.execute(dialect.insert(JOBS).on_conflict_do_nothing(), row).rowcount:
        if first := connection.scalar(select(JOBS.c.id).where(*same)):  # else it has just ended
            said = f'{{"job_id":"{first}"}}'
            twin = {**row, "state": "duplicate", "finished_at": utc_now(), "result": said}
            connection.execute(insert(JOBS), twin)
            return
