"""Recorded in the transaction, delivered after the commit: what events and jobs have in common.

A unit of work collects what is to happen later and writes it with its commit, in as few statements
as there are kinds of it. A commit that fails leaves nothing; a savepoint that is rolled back takes
its own with it. ``Bell`` tells this process's workers at once, ``announce`` and ``hear`` carry that
to other processes by PostgreSQL's NOTIFY; whoever misses it looks every second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, ParamSpec, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session, SessionTransaction

from newel.principal import Principal
from newel.scope import ScopedSession

__all__ = [
    "Bell",
    "Enqueueable",
    "Write",
    "announce",
    "by_kind",
    "hear",
    "record",
    "unless_rolled_back",
    "write_recorded",
]

CHANNEL: Final = "newel_jobs"
"""PostgreSQL's channel on which processes tell each other that something was recorded."""

ANNOUNCE_SECONDS: Final = 0.02
"""How far apart two notices of one process are at least."""

P = ParamSpec("P")
T = TypeVar("T")

Write = Callable[[Connection, Sequence[T]], None]
"""Writes the entries of one kind, all that a unit of work has collected, on its connection."""


class Enqueueable(Protocol[P]):
    """What ``work.enqueue`` takes: a ``newel.jobs.Job`` with the arguments ``P``."""

    def record(
        self, session: Session, caller: Principal | None, /, *args: P.args, **kwargs: P.kwargs
    ) -> UUID:
        """Record a call of it in ``session`` for ``caller``; return the id of the job."""
        ...


class _Entry(NamedTuple):
    write: Write[Any]
    what: Any
    savepoint: SessionTransaction | None


_KEY = "newel_outbox"


def record(session: Session, write: Write[T], what: T) -> None:
    """Have ``write`` called with ``what``, and all else of its kind, when ``session`` commits."""
    if not session.in_transaction():
        session.begin()  # so that there is something to roll back
    entries: list[_Entry] = session.info.setdefault(_KEY, [])
    entries.append(_Entry(write, what, session.get_nested_transaction()))


@event.listens_for(ScopedSession, "before_commit")
def write_recorded(session: Session) -> None:
    """Write now what has been recorded: in the open transaction, kind by kind, in order.

    Not inside a savepoint, whose end in a rollback would take along what was recorded before it.
    """
    if session.in_nested_transaction():
        return
    entries: list[_Entry] = session.info.pop(_KEY, [])
    for write, everything in by_kind((entry.write, entry.what) for entry in entries):
        write(session.connection(), everything)


def by_kind(recorded: Iterable[tuple[Write[Any], Any]]) -> Iterable[tuple[Write[Any], list[Any]]]:
    """Return all that is to be written at once, kind by kind, each in order."""
    kinds: dict[Write[Any], list[Any]] = {}
    for write, what in recorded:
        kinds.setdefault(write, []).append(what)
    return kinds.items()


def unless_rolled_back(session: Session | None, what: T) -> Sequence[T]:
    """Return ``what`` in a list; after a commit it is empty if its savepoint was rolled back."""
    if session is None or not session.in_nested_transaction():
        return [what]
    kept: list[T] = []
    record(session, _keep, (kept, what))
    return kept


def _keep(_: Connection, everything: Sequence[tuple[list[Any], Any]]) -> None:
    for kept, what in everything:
        kept.append(what)


@event.listens_for(ScopedSession, "after_soft_rollback")
def _forget(session: Session, ended: SessionTransaction) -> None:
    entries: list[_Entry] = session.info.pop(_KEY, [])
    lost: SessionTransaction | None = ended
    while lost is not None and not lost.nested:  # a flush that failed takes its savepoint along
        lost = lost.parent
    if lost is not None and entries:
        session.info[_KEY] = [e for e in entries if not _is_within(e.savepoint, lost)]


def _is_within(savepoint: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while savepoint is not None and savepoint is not outer:
        savepoint = savepoint.parent
    return savepoint is outer


class Bell:
    """Wakes whoever in this process waits for jobs; rung after a commit that recorded some."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Set the event of every listener."""
        for listener in self._listeners:
            listener.set()

    @asynccontextmanager
    async def listening(self, listener: asyncio.Event) -> AsyncGenerator[None]:
        """Set ``listener`` at every ring inside the block."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)


async def announce(engine: AsyncEngine, bell: Bell) -> None:
    """Tell other processes, by NOTIFY, what rings ``bell``, until cancelled.

    After the commit and not inside of it: PostgreSQL lets transactions that notify commit one after
    the other, which would cost every writer more than a look every second costs a worker.
    """
    rung = asyncio.Event()
    notice = select(func.pg_notify(CHANNEL, ""))
    async with bell.listening(rung):
        while True:
            await rung.wait()
            rung.clear()
            async with engine.connect() as connection:
                await connection.execute(notice)
            await asyncio.sleep(ANNOUNCE_SECONDS)


async def hear(engine: AsyncEngine, wake: Callable[[], None]) -> None:
    """Call ``wake`` at every notice, until the connection is lost. asyncpg's alone can listen."""
    lost = asyncio.Event()
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        if not hasattr(driver, "add_listener"):
            await lost.wait()

        def at_notice(*_: object) -> None:
            wake()

        def at_end(*_: object) -> None:
            lost.set()

        driver.add_termination_listener(at_end)
        await driver.add_listener(CHANNEL, at_notice)
        wake()  # what happened before we listened
        try:
            await lost.wait()
        finally:
            await connection.invalidate()  # nobody else gets a connection that listens
