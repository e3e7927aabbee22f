"""A depot: crates that come in, each with an event, a job and a mail, and papers that are kept.

Each route stands on one thing more than the database, so that a scenario can take that away.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic import Field
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from newel.app import create_app
from newel.auth import public
from newel.db import CurrentWork
from newel.entity import Entity
from newel.errors import NotFound
from newel.events import Event
from newel.files import get_storage
from newel.handlers import on
from newel.idempotency import key_required
from newel.jobs import Backoff, JobRun, job
from newel.mail import MailTemplate, send_mail
from newel.modules import Module
from newel.outgoing import lan, outgoing_client
from newel.schedules import schedule
from newel.schemas import InputModel
from newel.settings import Settings
from newel.storage import Storage
from stress.depot import sabotage

__all__ = ["Crate", "DepotSettings", "Trace", "build"]

UPSTREAM_SECONDS: Final = 1.5
_RETRIES: Final = 100
_SOON: Final = Backoff(first_seconds=0.2, factor=1.5, longest_seconds=1.0)
_NOTE: Final = MailTemplate(subject="Crate $reference", text="It is here.")


class DepotSettings(Settings):
    """``upstream_url`` is another service; ``sabotage`` names a defect."""

    upstream_url: str = "http://127.0.0.1:9"
    sabotage: str = ""


class Crate(Entity):
    """A crate: ``reference`` is the client's key."""

    __tablename__ = "depot_crates"

    reference: Mapped[str] = mapped_column(String(64))


class Trace(Entity):
    """What was done in the background: ``kind`` for a crate, or at a tick of the schedule."""

    __tablename__ = "depot_traces"

    kind: Mapped[str] = mapped_column(String(16))
    crate_id: Mapped[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrateStored(Event, topic="depot.stored"):
    """A crate is here."""

    reference: str


@on(CrateStored, retries=_RETRIES, backoff=_SOON)
async def tell(run: JobRun, event: CrateStored) -> None:
    """Note that the event was handled."""
    run.work.session.add(Trace(kind="told", crate_id=event.id))


@job(retries=_RETRIES, backoff=_SOON)
async def shelve(run: JobRun, crate_id: UUID) -> None:
    """Note that a crate has its place."""
    run.work.session.add(Trace(kind="shelved", crate_id=crate_id))


@job(retries=_RETRIES, backoff=_SOON, name="depot_mail", timeout_seconds=5)
async def mail_soon(run: JobRun, reference: str) -> None:
    """Send a mail, and try again sooner than the kernel's own job would."""
    await send_mail(run, _NOTE.fill(to="clerk@example.com", reference=reference))


@job(retries=2)
async def wait(run: JobRun, crate_id: UUID, seconds: float) -> None:
    """Take a while, with nothing open, and leave a trace of each end that counted."""
    await asyncio.sleep(seconds)
    run.work.session.add(Trace(kind="waited", crate_id=crate_id))


@job(retries=2, backoff=_SOON, queue="poison")
async def explode(run: JobRun, crate_id: UUID) -> None:
    """Take the whole process along: poison, which no ``except`` sees."""
    del run, crate_id
    os.kill(os.getpid(), signal.SIGKILL)


@job(name="depot_count")
async def count(run: JobRun) -> None:
    """Leave a trace of each tick of the schedule."""
    run.work.session.add(Trace(kind="counted", crate_id=run.id))


# ------------------------------------------------------------------------------------------- routes


class CrateCreate(InputModel):
    """A crate that comes in."""

    reference: Annotated[str, Field(min_length=1, max_length=64)]


router = APIRouter(dependencies=[public()])
StorageDep = Annotated[Storage, Depends(get_storage)]


@router.post("/crates", status_code=201, dependencies=[key_required()])
async def store(data: CrateCreate, work: CurrentWork) -> dict[str, str]:
    """Store a crate: a row, an event, a job and a mail in one transaction."""
    crate = Crate(reference=data.reference)
    work.session.add(crate)
    work.publish(CrateStored(id=crate.id, reference=data.reference))
    work.enqueue(shelve, crate.id)
    work.enqueue(mail_soon, data.reference)
    return {"id": str(crate.id)}


@router.get("/crates/{id}")
async def show(id: UUID, work: CurrentWork) -> dict[str, str]:
    """Show a crate."""
    crate = await work.session.get(Crate, id)
    if crate is None:
        raise NotFound("crate", id)
    return {"reference": crate.reference}


@router.get("/crates/{id}/label")
async def show_label(id: UUID, work: CurrentWork) -> str:
    """Show what is written on a crate, out of the cache."""

    async def load() -> str:
        return (await show(id, work))["reference"]

    return await work.cache.get_or_set(f"label:{id}", load, kind=str, expire=0.2)


@router.put("/papers/{name}", status_code=204)
async def keep(name: str, request: Request, storage: StorageDep) -> None:
    """Keep a paper."""
    await storage.put(f"papers/{name}", io.BytesIO(await request.body()))


@router.get("/papers/{name}")
async def read(name: str, storage: StorageDep) -> Response:
    """Read a paper."""
    return Response(b"".join([chunk async for chunk in storage.read(f"papers/{name}")]))


@router.get("/weather")
async def ask(request: Request) -> str:
    """Ask another service."""
    url: str = request.app.state.settings.upstream_url
    known = lan(["127.0.0.1/32"], ports=range(1, 65_536))
    async with outgoing_client(known, timeout_seconds=UPSTREAM_SECONDS) as client:
        answer = await client.get(url)
    return answer.text


@router.post("/waits/{id}", status_code=202)
async def start(id: UUID, seconds: float, work: CurrentWork) -> None:
    """Have a job that takes a while."""
    work.enqueue(wait, id, seconds)


@router.post("/poison/{id}", status_code=202)
async def poison(id: UUID, work: CurrentWork) -> None:
    """Have a job that kills its worker."""
    work.enqueue(explode, id)


@router.post("/shelves", status_code=202)
async def fill(crates: Sequence[UUID], work: CurrentWork) -> None:
    """Have many crates shelved: a job each."""
    for crate in crates:
        work.enqueue(shelve, crate)


def build(settings: DepotSettings) -> FastAPI:
    """Return the depot's application, with one defect if one is asked for."""
    module = Module(
        "depot",
        routers=[router],
        jobs=[shelve, mail_soon, wait, explode, count],
        handlers=[tell],
        schedules=[schedule("* * * * *", count)],
    )
    app = create_app(settings, module, title="depot")
    if settings.sabotage:
        sabotage.SABOTAGES[settings.sabotage].plant(app)
    return app
