"""A feature of the sample service, which the tests of the command line run."""

from pathlib import Path

from fastapi import APIRouter
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from newel.app import Module
from newel.auth import public, requires
from newel.db import CurrentWork
from newel.entity import Entity


class Note(Entity):
    __tablename__ = "notes"

    text: Mapped[str] = mapped_column(String(200))


router = APIRouter(prefix="/notes", tags=["notes"])


@router.get("", dependencies=[public()])
async def list_notes(work: CurrentWork) -> list[str]:
    return list(await work.session.scalars(select(Note.text)))


@router.get("/one-by-one", dependencies=[public()])
async def list_badly(work: CurrentWork) -> list[str | None]:
    """Take a statement for each row but one."""
    first, *others = await work.session.scalars(select(Note.text))
    text = select(Note.text)
    return [first, *[await work.session.scalar(text.where(Note.text == each)) for each in others]]


@router.post("", status_code=201, dependencies=[requires("notes:write")])
async def create_note(work: CurrentWork, text: str) -> None:
    work.session.add(Note(text=text))


@router.get("/held", dependencies=[public()])
def held() -> str:
    """Answer what is written into the named pipe `gate`: a test decides when."""
    return Path("gate").read_text()


@router.websocket("/live", dependencies=[public()])
async def live() -> None: ...


module = Module(name="notes", routers=[router])
