"""Null where the database wants a value is a mistake of the caller's, not of the server's."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.variants import Change, broken_by

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    for operation in lab.operations:
        if operation.fields and operation.media == "application/json":
            names = operation.fields
            changes = [Change(said=f"null for {name}", body={name: None}) for name in names]
            yield from broken_by(PROBE, lab, operation, changes)


_BAD = f"""{DATABASE}
# file: main.py
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class NoteCreate(BaseModel):
    text: str


class NoteUpdate(BaseModel):
    text: str | None = None


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/notes", status_code=201)
def create_note(data: NoteCreate, session: Db) -> dict[str, int]:
    note = Note(text=data.text)
    session.add(note)
    session.commit()
    return {{"id": note.id}}


@app.patch("/notes/{{note_id}}", status_code=204)
def change_note(note_id: int, data: NoteUpdate, session: Db) -> None:
    note = session.get(Note, note_id)
    if note is None:
        raise HTTPException(404)
    for name, value in data.model_dump(exclude_unset=True).items():
        setattr(note, name, value)
    session.commit()
"""
PROBE = Probe(
    id="DATA001",
    title="Null never reaches a column that must not be null",
    severity="block",
    why="Optional in the schema means that it may be left out; null is a value like any other.",
    fix="make the update's field optional, not nullable, or answer 422 to an explicit null",
    seed='"Pydantic validation on inputs"',
    expected="null that is skipped or refused: any answer but a 5xx is fine",
    bad=_BAD,
    good=_BAD.replace("exclude_unset", "exclude_none"),
    run=_run,
)
