"""Jobs: work that is recorded with the data it belongs to, and done after the commit.

    @job(retries=5, timeout_seconds=60)
    async def warm_up(job: JobRun, agent_id: UUID) -> int:
        agents = await job.resolve(AgentService)     # in the transaction of ``job.work``
        return await agents.warm_up(agent_id)

    job_id = work.enqueue(warm_up, agent.id)         # a row of the caller's transaction
    module = Module("agents", jobs=[warm_up])

A job runs at least once; what it changes through ``job.work`` is committed together with its end,
and so is visible exactly once.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    NotRequired,
    ParamSpec,
    TypeVar,
    cast,
    get_type_hints,
)
from uuid import UUID

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic refuses the one of Python 3.11

from newel.clock import utc_now
from newel.context import request_id, traceparent
from newel.db import Work
from newel.depends import resolve
from newel.ids import uuid7
from newel.job_queue import Claimed, JobQueue, Outcome
from newel.job_rows import JOBS, write_jobs
from newel.outbox import record
from newel.principal import ANYONE, Principal, dump_principal, load_principal
from newel.scope import SystemScope

__all__ = ["Backoff", "GiveUp", "Job", "JobRun", "LeaseLost", "TryAgain", "job"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

KeyOf = Callable[..., str]
"""Called with a job's arguments: returns the key that jobs are unique by, or run one at a time."""

_LONGEST_KEY: Final = 255
_LONGEST_JSON: Final = 1_048_576
"""Of arguments or a result: rows are read by pages and lists, and are no place for files."""

_LONGEST_WAIT_SECONDS: Final = 365 * 86_400.0
"""An upstream's Retry-After may be anything; no database counts on for ever."""


class GiveUp(Exception):
    """Raised by a job that no retry can help: it becomes a dead letter at once."""


class TryAgain(Exception):
    """Raised by a job that wants to run again in ``after_seconds``, whatever its backoff says."""

    def __init__(self, detail: str = "", *, after_seconds: float) -> None:
        if math.isnan(after_seconds):
            raise ValueError("after_seconds is no number")
        self.after_seconds: float = min(max(after_seconds, 0.0), _LONGEST_WAIT_SECONDS)
        super().__init__(detail)


class LeaseLost(Exception):
    """This attempt is not the job's any more: another worker has it; nothing is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a failed job waits: ``first_seconds``, then ``factor`` times as long each time.

    ``jitter`` is the part of it by which it varies, so that what failed together does not come
    back together.
    """

    first_seconds: float = 2.0
    factor: float = 3.0
    longest_seconds: float = 3600.0
    jitter: float = 0.25

    def seconds(self, attempt: int) -> float:
        """Return the wait after attempt number ``attempt``, from 1."""
        exact = min(self.first_seconds * self.factor ** min(attempt - 1, 64), self.longest_seconds)
        return exact * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - no secret


@dataclass(frozen=True, kw_only=True, eq=False)
class Job(Generic[P, R]):
    """A declared job: a function with the arguments ``P``, and how it is run.

    Made by ``job``; ``work.enqueue`` takes it. Called directly it is the function, for tests.
    """

    function: Callable[Concatenate[JobRun, P], Awaitable[R]]
    name: str
    queue: str = "default"
    priority: int = 0
    retries: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    timeout_seconds: float = 300.0
    unique: KeyOf | None = None
    concurrency_key: KeyOf | None = None
    as_system: str | None = None
    run_at: datetime | None = None

    async def __call__(self, run: JobRun, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.function(run, *args, **kwargs)

    def after(self, **delay: float) -> Job[P, R]:
        """Return this job to be run later: ``work.enqueue(remind.after(hours=1), user.id)``."""
        return self.at(utc_now() + timedelta(**delay))

    def at(self, time: datetime) -> Job[P, R]:
        """Return this job to be run at ``time`` or as soon after it as a worker is free."""
        return replace(self, run_at=time)

    def record(
        self, session: Session, caller: Principal | None, /, *args: P.args, **kwargs: P.kwargs
    ) -> UUID:
        """Record a call for ``caller``; what ``work.enqueue`` does. Returns the job's id."""
        row = self.row(caller, *args, **kwargs)
        record(session, write_jobs, row)
        return row["id"]

    def row(self, caller: Principal | None, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Return the columns of a call's row; ``ValueError`` for arguments of other types."""
        return {
            **self.columns(caller, arguments=self._dump(*args, **kwargs)),
            "unique_key": self._key(self.unique, *args, **kwargs),
            "concurrency_key": self._key(self.concurrency_key, *args, **kwargs),
        }

    def columns(self, caller: Principal | None, *, arguments: str) -> dict[str, Any]:
        """Return the columns of a row without keys, for ``arguments`` that are JSON already."""
        now = utc_now()
        waits = self.run_at is not None and self.run_at > now
        return {
            **_BLANK,
            "id": uuid7(),
            "name": self.name,
            "queue": self.queue,
            "priority": self.priority,
            "state": "scheduled" if waits else "ready",
            "arguments": arguments,
            "caller": None if caller is None else dump_principal(caller),
            "owner_id": None if caller is None else caller.id,
            "tenant_id": None if caller is None else caller.tenant_id,
            "request_id": request_id.get(),
            "traceparent": traceparent(),
            "run_at": self.run_at or now,
            "max_attempts": 1 + self.retries,
            "created_at": now,
            "updated_at": now,
        }

    @property
    def arguments(self) -> Sequence[str]:
        """The names of the arguments."""
        return tuple(self._signature.parameters)

    async def run(self, run: JobRun, arguments: str) -> str | None:
        """Call the function with ``arguments`` out of a row; return its result as JSON."""
        result: Any = await self.function(run, **self._adapter.validate_json(arguments))  # type: ignore[call-arg] # ty and pyright see no P in a mapping
        return None if result is None else _fitting(self._result.dump_json(result), GiveUp)

    # ------------------------------------------------------------ arguments

    @cached_property
    def _signature(self) -> inspect.Signature:
        first, *rest = inspect.signature(self.function).parameters.values()
        del first  # the JobRun
        return inspect.Signature(rest)

    @cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        hints = get_type_hints(self.function, include_extras=True)
        fields = {
            name: hints[name] if parameter.default is parameter.empty else NotRequired[hints[name]]
            for name, parameter in self._signature.parameters.items()
        }
        made = cast("Any", TypedDict)(self.name, fields)  # a checker wants them written out
        return TypeAdapter(made)

    @cached_property
    def _result(self) -> TypeAdapter[Any]:
        return TypeAdapter(get_type_hints(self.function).get("return", Any))

    def _dump(self, *args: P.args, **kwargs: P.kwargs) -> str:
        given = self._signature.bind(*args, **kwargs).arguments
        try:
            return _fitting(self._adapter.dump_json(given, warnings="error"), ValueError)
        except PydanticSerializationError:
            raise ValueError(f"the arguments of {self.name} are not of their types") from None

    def _key(self, key: KeyOf | None, *args: P.args, **kwargs: P.kwargs) -> str | None:
        if key is None:
            return None
        found = f"{self.name}:{key(*args, **kwargs)}"
        if len(found) > _LONGEST_KEY:
            raise ValueError(f"a key of {self.name} has more than {_LONGEST_KEY} characters")
        return found


def _fitting(said: bytes, refusal: type[Exception]) -> str:
    if len(said) > _LONGEST_JSON:
        raise refusal("Arguments and results have 1 MiB at most: store more, and say where it is.")
    return said.decode()


_BLANK: Final[Mapping[str, Any]] = {
    **{column.name: None for column in JOBS.c if column.nullable},
    "attempt": 0,
    "cancel_requested": False,
    "version": 1,
}


def job(
    *,
    name: str | None = None,
    queue: str = "default",
    priority: int = 0,
    retries: int = 5,
    backoff: Backoff | None = None,
    timeout_seconds: float = 300.0,
    unique: KeyOf | None = None,
    concurrency_key: KeyOf | None = None,
    as_system: str | None = None,
) -> Callable[[Callable[Concatenate[JobRun, P], Awaitable[R]]], Job[P, R]]:
    """Declare an ``async`` function, whose first parameter is the ``JobRun``, as a job.

    Rows know it by ``name``, by default the function's. A smaller ``priority`` is more urgent.
    ``unique`` and ``concurrency_key`` are called with the job's arguments: while a job with the
    same unique key has not finished, another one is a ``duplicate`` and does not run; of those with
    the same concurrency key one runs at a time. It runs with the permissions of who enqueued it,
    or, ``as_system="why"``, sees everything. ``TypeError`` for a function that cannot be one.
    """

    def declare(function: Callable[Concatenate[JobRun, P], Awaitable[R]]) -> Job[P, R]:
        _check_function(function)
        return Job(
            function=function,
            name=name or _name_of(function),
            queue=queue,
            priority=priority,
            retries=retries,
            backoff=backoff or Backoff(),
            timeout_seconds=timeout_seconds,
            unique=unique,
            concurrency_key=concurrency_key,
            as_system=as_system,
        )

    return declare


def _check_function(function: Callable[..., Any]) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    if not inspect.iscoroutinefunction(function) or not parameters:
        raise TypeError(f"{_name_of(function)} is no job: write async def f(job: JobRun, ...)")
    for parameter in parameters[1:]:
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(f"{_name_of(function)} is no job: its arguments need names")


def _name_of(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)


class JobRun:
    """One attempt at a job: who it is for, its transaction, and what it tells about itself."""

    def __init__(
        self, app: FastAPI, queue: JobQueue, declared: Job[..., Any], claimed: Claimed
    ) -> None:
        self.app = app
        self.id: UUID = claimed.id
        self.attempt: int = claimed.attempt
        self.is_last: bool = claimed.attempt >= claimed.max_attempts
        self.run_at: datetime = claimed.run_at
        self.caller: Principal = load_principal(claimed.caller) if claimed.caller else ANYONE
        self.cancel_requested = False
        self.progress: tuple[float, str] | None = None
        self.held: AsyncExitStack[bool | None] = AsyncExitStack()
        self._queue = queue
        self._declared = declared
        self._claimed = claimed
        self._work: Work | None = None
        self._steps: dict[str, str] | None = None

    @property
    def work(self) -> Work:
        """The unit of work whose commit is the end of this job: both happen, or neither.

        It begins with its first statement. On SQLite nobody else writes from then on: do what is
        slow before.
        """
        if self._work is None:
            self._work = self._unit()
        return self._work

    async def resolve(self, dependency: Callable[..., T]) -> T:
        """Return ``dependency`` as a route would get it, on ``work``, until the job ends."""
        return await self.held.enter_async_context(resolve(self.app, dependency, work=self.work))

    def report(self, progress: float, note: str = "") -> None:
        """Tell how far the job is, from 0 to 1; written about once a second."""
        text = note[:_LONGEST_KEY].encode(errors="replace").decode().replace("\0", "?")
        self.progress = (min(max(progress, 0.0), 1.0), text)

    def take_report(self) -> tuple[float, str]:
        """Return what was reported since the last time; called by the worker."""
        reported, self.progress = self.progress, None
        return reported or (0.0, "")

    async def step(
        self,
        name: str,
        function: Callable[Concatenate[Work, P], Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call ``function(work, ...)`` once, whatever happens to this job, and return its result.

        What it changes through its ``work`` is committed together with the record that it is done.
        A later attempt gets the recorded result, through JSON, as the type it is annotated with.
        """
        adapter = TypeAdapter[Any](get_type_hints(function).get("return", Any))
        if self._steps is None:
            self._steps = await self._queue.steps(self.id)
        if name in self._steps:
            return adapter.validate_json(self._steps[name])
        async with self._unit() as work:
            result = await function(work, *args, **kwargs)
            said = _fitting(adapter.dump_json(result), GiveUp)
            if not await self._queue.finish_step(
                work.session, self._claimed, name=name, result=said
            ):
                raise LeaseLost(name)
        self._steps[name] = said
        return result

    async def commit(self, outcome: Outcome) -> bool:
        """Commit ``work`` together with ``outcome``; ``False`` when there is nothing to commit.

        Called by the worker. For an attempt that is over it commits nothing: ``LeaseLost``.
        """
        if self._work is None:
            return False
        async with self._work as work:
            if not await self._queue.finish_in(work.session, outcome):
                raise LeaseLost(self._declared.name)
        return True

    def _unit(self) -> Work:
        caller = self.caller if self._claimed.caller else None
        work = self._queue.database.write(caller)
        if self._declared.as_system is not None:
            work.scope = SystemScope(reason=self._declared.as_system)
        return work

    async def abandon(self) -> None:
        """Roll back what was not committed; called by the worker."""
        if self._work is not None:
            await self._work.__aexit__(LeaseLost)
