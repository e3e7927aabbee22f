"""The defects that the scenarios exist to find, and where a process can be told to kill itself.

Each is what a service is that leaves one promise of the kernel out. They reach into the kernel,
which is the point: nothing in it can be switched off.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy import select, update

from newel import handlers, idempotency, serve, worker
from newel.db import Database
from newel.events import OUTBOX
from newel.job_queue import JobQueue, Outcome
from newel.job_rows import JOBS, from_now
from stress.shop.orders import (
    CARRIER_SECONDS,
    Customer,
    Effect,
    Order,
    OrderCreate,
    OrderPlaced,
    Shop,
    Transfer,
    TransferCreate,
    label,
    move,
)

__all__ = ["SABOTAGES", "Sabotage", "kill_in_relay"]

# The kernel's private parts, said once: a checker knows no Any of a module.
_idempotency: Final[Any] = idempotency
_Call: Final[Any] = _idempotency._Call
_KeyedWork: Final[Any] = _idempotency._KeyedWork
_Queue: Final[Any] = JobQueue
_Handler: Final[Any] = handlers.Handler
_WINDOW_SECONDS: Final = 0.1
"""How long a defect between two steps is open, so that few kills find it."""

_handlers: Final[Any] = handlers
_serve: Final[Any] = serve
_worker: Final[Any] = worker


# -------------------------------------------------------------------------------------- idempotency


def _late_key(_: FastAPI) -> None:
    """Keep the answer in a second transaction, after the one of the effect."""
    settle = _Call._settle

    async def settle_twice(call: Any, body: bytes | None) -> None:
        if call._work.is_over or call._held[0]["status"] >= 500:
            await settle(call, body)
            return
        await call._work.end(None)
        await asyncio.sleep(_WINDOW_SECONDS)
        call._work = _KeyedWork(call._database, claim=call.claim)
        await call._keep(body)
        await call._work.end(None)

    _Call._settle = settle_twice


def _answer_before_commit(_: FastAPI) -> None:
    """Send the answer first, as a dependency does that commits after it."""
    settle = _Call._settle

    async def send_and_settle(call: Any, body: bytes | None) -> None:
        for message in call._held:
            await call._send(message)
        await asyncio.sleep(_WINDOW_SECONDS)
        await settle(call, body)
        call._held = []

    _Call._settle = send_and_settle


# ------------------------------------------------------------------------------------------- routes


class _InBackground(Shop):
    """Packs in this process, after the answer."""

    def pack_later(self, order: Order) -> None:
        self.tasks.add_task(self._pack, order)

    async def _pack(self, order: Order) -> None:
        database = self.work.database
        async with database.write(None) as work:
            await label(work, order.id)
        await asyncio.sleep(CARRIER_SECONDS)
        async with database.write(None) as work:
            work.session.add(Effect(kind="packed", order_id=order.id))


class _Hasty(Shop):
    """Tells of an order first, in a transaction of its own, and places it then."""

    async def place(self, data: OrderCreate, *, id: UUID) -> Order:
        database = self.work.database
        customer = select(Customer.orders).where(Customer.id == data.customer_id)
        async with database.write(None) as first:
            number = (await first.session.execute(customer)).scalar_one() + 1
            first.publish(OrderPlaced(id=data.customer_id, order_id=id, number=number))
        await asyncio.sleep(_WINDOW_SECONDS)
        return await super().place(data, id=id)

    def tell_later(self, order: Order) -> None:
        """It has been told."""


class _Torn(Shop):
    """Takes the money in one transaction and gives it in another."""

    async def transfer(self, data: TransferCreate) -> Transfer:
        async with self.work.database.write(None) as first:
            await move(first, data.from_id, -data.amount_cents)
        await asyncio.sleep(_WINDOW_SECONDS)
        await move(self.work, data.to_id, data.amount_cents)
        transfer = Transfer(**data.model_dump())
        self.work.session.add(transfer)
        return transfer


def _instead(shop: type[Shop]) -> Callable[[FastAPI], None]:
    def plant(app: FastAPI) -> None:
        app.state.shop = shop

    return plant


# --------------------------------------------------------------------------------------------- jobs


def _no_fence(_: FastAPI) -> None:
    """End a job whoever has it by now, and learn of no lost lease, which might end it sooner."""

    async def finish_in(_: JobQueue, session: Any, outcome: Outcome) -> bool:
        connection = await session.connection()
        ended = update(JOBS).where(JOBS.c.id == outcome.id)
        ended = ended.values(state=outcome.state, finished_at=from_now(), leased_until=None)
        await connection.execute(ended)
        return True

    async def beat(_: worker.Worker) -> None: ...

    _Queue.finish_in = finish_in
    _worker.Worker._beat = beat


def _no_reaper(_: FastAPI) -> None:
    """Leave the jobs of a dead worker where they are."""

    async def reap(_: JobQueue) -> int:
        return 0

    _Queue.reap = reap


# ------------------------------------------------------------------------------------------- events


def _relay_marks_first(_: FastAPI) -> None:
    """Say that events have been handed over, and hand them over afterwards."""
    _worker.relay = _mark_and_relay


async def _mark_and_relay(
    database: Database, known: Mapping[str, Sequence[handlers.Handler[Any]]]
) -> int:
    async with database.engine.begin() as connection:
        waiting = select(OUTBOX).where(OUTBOX.c.published_at.is_(None))
        rows = (await connection.execute(waiting.order_by(OUTBOX.c.position))).all()
        marked = update(OUTBOX).where(OUTBOX.c.id.in_([row.id for row in rows]))
        await connection.execute(marked.values(published_at=from_now()))
    jobs = [handler.delivery(row) for row in rows for handler in known.get(row.name, ())]
    async with database.engine.begin() as connection:
        await connection.run_sync(_handlers.write_jobs, jobs)
    return len(rows)


def _no_order(_: FastAPI) -> None:
    """Deliver each event as if it were alone."""
    deliver = _Handler.delivery

    def delivery(handler: handlers.Handler[Any], row: Any) -> dict[str, Any]:
        return {**deliver(handler, row), "concurrency_key": None, "place": None}

    _Handler.delivery = delivery


# ----------------------------------------------------------------------------- the end of a process


def _no_drain(app: FastAPI) -> None:
    """End when told to stop, in the middle of a request; after five seconds without one."""
    told = threading.Event()
    ticks = itertools.count()
    on_tick = _serve.Server.on_tick

    def handle_exit(*_: Any) -> None:
        told.set()

    async def end_or_tick(server: Any, counter: int) -> bool:
        if told.is_set() and (app.state.metrics.in_flight or next(ticks) > 50):
            os._exit(0)
        done: bool = await on_tick(server, counter)
        return done

    _serve.Server.handle_exit = handle_exit
    _serve.Server.on_tick = end_or_tick


def _jobs_kept(_: FastAPI) -> None:
    """Leave what does not finish in time to the end of its lease."""

    def cancelled(*_: Any) -> None: ...

    _worker.Worker._cancelled = cancelled


# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """A defect: how it is put into the shop, the figure that has to show it, and the scenario."""

    plant: Callable[[FastAPI], None]
    found_by: str
    scenario: Literal["crash", "rolling"] = "crash"


SABOTAGES: Final[Mapping[str, Sabotage]] = {
    "late-key": Sabotage(plant=_late_key, found_by="keys with more than one row"),
    "answer-before-commit": Sabotage(plant=_answer_before_commit, found_by="acknowledged and lost"),
    "background-tasks": Sabotage(plant=_instead(_InBackground), found_by="jobs without one effect"),
    "told-first": Sabotage(plant=_instead(_Hasty), found_by="effects of no order"),
    "torn-transfer": Sabotage(plant=_instead(_Torn), found_by="purses that do not add up"),
    "no-fence": Sabotage(plant=_no_fence, found_by="jobs without one effect"),
    "no-reaper": Sabotage(plant=_no_reaper, found_by="jobs that did not finish"),
    "relay-marks-first": Sabotage(plant=_relay_marks_first, found_by="events without one effect"),
    "no-order": Sabotage(plant=_no_order, found_by="customers whose events came out of order"),
    "no-drain": Sabotage(plant=_no_drain, found_by="failed requests", scenario="rolling"),
    "jobs-kept": Sabotage(
        plant=_jobs_kept, found_by="jobs that a stopped worker kept", scenario="rolling"
    ),
}


def kill_in_relay(file: Path) -> None:
    """Have this process kill itself where it hands over events, at the place that ``file`` names.

    ``before`` the jobs are written; ``inside``, between that and the mark of the events, in one
    transaction; ``after`` its commit.
    """
    write_jobs, relay = _handlers.write_jobs, _worker.relay

    def pass_by(place: str) -> None:
        with suppress(FileNotFoundError):  # not now, or another process was sooner
            if file.read_text() == place:
                file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    def write(connection: Any, rows: Sequence[Any]) -> None:
        if rows:
            pass_by("before")
        write_jobs(connection, rows)
        if rows:
            pass_by("inside")

    async def relay_and_pass_by(*arguments: Any) -> int:
        moved: int = await relay(*arguments)
        if moved:
            pass_by("after")
        return moved

    _handlers.write_jobs = write
    _worker.relay = relay_and_pass_by
