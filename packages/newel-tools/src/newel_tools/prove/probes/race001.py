"""Of two changes at once, none is lost in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from newel_tools.prove.documents import object_of
from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.ownership import row_of
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource
from newel_tools.prove.service import Exchange
from newel_tools.prove.world import Made

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    for resource in lab.world.resources:
        update = resource.item("PATCH", "PUT")
        if update is not None and update in lab.operations and resource.create is not None:
            yield _raced(lab, resource, update)


def _raced(lab: Lab, resource: Resource, update: Operation) -> Result:
    caller = lab.maker_for(resource)
    made = lab.world.make(resource, caller)
    names = [name for name in update.fields if made is not None and name in made.body]
    if made is None or not names:
        return PROBE.skipped(update.label, "no such thing could be made and changed")
    pairs = [_changes(lab, update, made, name) for name in names]
    texts = [pair for pair in pairs if pair is not None]
    name = next(iter(texts[0][0]), "") if texts else ""
    other = {name: lab.world.value(update, name, caller)} if texts else {}
    alone = lab.request(update, caller, made, changes=other) if texts else None
    if alone is None or not lab.send(alone, caller).answer.is_success:
        return PROBE.skipped(update.label, "no change of a text succeeds alone")
    if len(texts) > 1 and update.method == "PATCH":
        lost = _lost(lab, update, made, texts[0][0], texts[1][1])
        if lost is not None:
            return lost
    # New values: a change to what is there already changes nothing, not even the version.
    return _overwritten(lab, update, made, *(_changes(lab, update, made, name) or texts[0]))


def _changes(
    lab: Lab, update: Operation, made: Made, name: str
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return two changes of one text to different values."""
    parts = update.schemas.alternatives(update.fields[name])
    schema = object_of(parts[0] if parts else None)
    plain = schema.get("type") == "string" and not schema.keys() & {"enum", "format"}
    special = re.search(r"_id$|pass|mail|secret|name$", name) and "pattern" not in schema
    if not plain or not isinstance(made.body[name], str) or special:
        return None
    values = [lab.world.value(update, name, made.caller) for _ in range(2)]
    return {name: values[0]}, {name: values[1]}


def _together(
    lab: Lab, update: Operation, made: Made, *changes: dict[str, Any]
) -> list[Exchange] | None:
    """Send changes so that each has read before any of them writes."""
    waits: list[Any] = []
    version = _version(lab, update, made)
    number = lab.world.serial()
    for change in changes:
        request = lab.request(update, made.caller, made, changes=change)
        if request is None:
            return None
        meeting = request.with_headers(version).with_options(meeting=f"race {number}")
        waits.append(lab.service.begin(meeting, made.caller))
    return [wait() for wait in waits]


def _version(lab: Lab, update: Operation, made: Made) -> dict[str, str]:
    """Return the If-Match header of the present version, where the operation takes one."""
    read = made.resource.item("GET")
    takes = any(item.name.lower() == "if-match" for item in update.parameters)
    request = lab.request(read, made.caller, made) if takes and read is not None else None
    tag = lab.send(request, made.caller).answer.header("etag") if request is not None else None
    return {} if tag is None else {"If-Match": tag}


def _lost(
    lab: Lab, update: Operation, made: Made, one: dict[str, Any], two: dict[str, Any]
) -> Result | None:
    """Change two fields at once: afterwards both have to be changed."""
    raced = _together(lab, update, made, one, two)
    if raced is None or not all(exchange.answer.is_success for exchange in raced):
        return _failed(update, raced)
    if any(name in _sent(raced[0]) for name in two):
        return None  # it wants every field: each of the two has sent them all
    state = _state(lab, made)
    missing = [name for name, value in {**one, **two}.items() if state.get(name, value) != value]
    if not missing:
        return None
    said = f"two changes at once, of {' and of '.join({**one, **two})}: {missing[0]} was lost"
    return PROBE.broke(update.label, said, *raced, severity="change")


def _sent(exchange: Exchange) -> dict[str, Any]:
    return object_of(json.loads(exchange.request.body))


def _overwritten(
    lab: Lab, update: Operation, made: Made, one: dict[str, Any], two: dict[str, Any]
) -> Result:
    raced = _together(lab, update, made, one, two)
    failed = _failed(update, raced)
    if failed is not None:
        return failed
    if raced is None or not all(exchange.answer.is_success for exchange in raced):
        return PROBE.kept(update.label)
    said = f"two changes of {', '.join(one)} at once both succeed; one overwrites the other unseen"
    return PROBE.broke(update.label, said, *raced)


def _failed(update: Operation, raced: list[Exchange] | None) -> Result | None:
    broken = [exchange for exchange in raced or () if exchange.answer.is_fault]
    if not broken:
        return None
    said = f"one of two changes at once is answered with {broken[0].answer.status or 'nothing'}"
    return PROBE.broke(update.label, said, broken[0], severity="change")


def _state(lab: Lab, made: Made) -> dict[str, Any]:
    row = row_of(lab, made)
    if row is not None:
        return dict(row)
    read = made.resource.item("GET")
    request = None if read is None else lab.request(read, made.caller, made)
    return {} if request is None else object_of(lab.send(request, made.caller).answer.json)


_BAD = f"""{DATABASE}
# file: main.py
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from database import Base, Db, engine


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)


class NoteIn(BaseModel):
    text: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/notes", status_code=201)
def create_note(data: NoteIn, session: Db) -> dict[str, int]:
    note = Note(text=data.text)
    session.add(note)
    session.commit()
    return {{"id": note.id}}


@app.put("/notes/{{note_id}}")
def replace_note(note_id: int, data: NoteIn, session: Db) -> dict[str, int]:
    note = session.get(Note, note_id)
    if note is None:
        raise HTTPException(404)
    note.text = data.text
    try:
        session.commit()
    except (StaleDataError, OperationalError):
        raise HTTPException(409) from None
    return {{"id": note.id}}
"""
PROBE = Probe(
    id="RACE001",
    title="Two changes at once do not overwrite each other unseen",
    severity="note",
    why="Both callers are told that it worked, and what one of them wrote is gone.",
    fix="keep a version (`version_id_col`) and answer 409 or 412 to a change of an old one",
    seed='"Database transactions"',
    expected="changes of which one is refused, if need be because of its If-Match",
    bad=_BAD,
    good=_BAD.replace(
        "(default=1)\n", '(default=1)\n    __mapper_args__ = {"version_id_col": version}\n'
    ),
    run=_run,
)
