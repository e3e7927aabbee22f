"""What belongs to one user is out of another's reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from newel_tools.prove.callers import ANONYMOUS, Caller
from newel_tools.prove.examples import ACCOUNTS
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.ownership import belongs_to, row_of
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.resources import Resource, is_people
from newel_tools.prove.world import Made

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    other = lab.other
    if other is None:
        yield PROBE.skipped("", "there are no two users to compare")
        return
    for resource in lab.world.resources:
        for operation in _operations(lab, resource):
            make = lab.world.account if is_people(resource) else lab.world.make
            made = make(resource, lab.user)
            if made is None:
                yield PROBE.skipped(operation.label, "no such thing could be made")
            elif not (is_people(resource) or belongs_to(lab, made)):
                yield PROBE.skipped(operation.label, "nothing says that these have an owner")
            elif operation.method == "GET":
                yield _read(lab, operation, made, other)
            else:
                yield _changed(lab, operation, made, other)


def _operations(lab: Lab, resource: Resource) -> list[Operation]:
    """Return what can be done to one thing: operations on it, and below it (`/{id}/activate`)."""
    if not resource.items:
        return []
    path = resource.items[0].path.rstrip("/")
    return [
        op for op in lab.operations if op.path.rstrip("/") == path or op.path.startswith(path + "/")
    ]


def _changed(lab: Lab, operation: Operation, made: Made, other: Caller) -> Result:
    request = lab.request(operation, lab.user, made)
    if request is None:
        return PROBE.skipped(operation.label, "no value is known for a name in its path")
    before = _state(lab, made)
    exchange = lab.send(request, other)
    if not exchange.answer.is_success or _state(lab, made) == before:
        return PROBE.kept(operation.label)
    if lab.send(request, ANONYMOUS).answer.is_success:
        return PROBE.skipped(operation.label, "it asks nobody who they are: AUTH001")
    whose = (
        "another account" if is_people(made.resource) else f"another user's {made.resource.name}"
    )
    said = f"a user {_done(operation)} {whose}"
    return PROBE.broke(operation.label, said, exchange)


def _done(operation: Operation) -> str:
    words = {"DELETE": "deleted", "PATCH": "changed", "PUT": "replaced"}
    return words.get(operation.method, "acted on")


def _state(lab: Lab, made: Made) -> Any:
    """Return what can be seen of a thing: its row, or what its owner reads."""
    row = row_of(lab, made)
    read = made.resource.item("GET")
    if row is not None or made.tables or read is None:
        return row or made.exchange
    request = lab.request(read, made.caller, made)
    return None if request is None else lab.send(request, made.caller).answer.text


def _read(lab: Lab, operation: Operation, made: Made, other: Caller) -> Result:
    request = lab.request(operation, lab.user, made)
    if request is None:
        return PROBE.skipped(operation.label, "no value is known for a name in its path")
    own = lab.send(request, lab.user)
    if not own.answer.is_success:
        return PROBE.skipped(operation.label, f"its owner is answered {own.answer.status}")
    exchange = lab.send(request, other)
    if not exchange.answer.is_success:
        return PROBE.kept(operation.label)
    if is_people(made.resource):
        return _account(lab, operation, exchange)
    if not _is_private(lab, made, other):
        return PROBE.skipped(operation.label, "everybody may read these, it seems")
    said = f"a user reads another user's {made.resource.name}, which no list shows to them"
    return PROBE.broke(operation.label, said, exchange)


def _account(lab: Lab, operation: Operation, exchange: Any) -> Result:
    if "@" in lab.user.username and lab.user.username in exchange.answer.text:
        said = "a user reads another account with its e-mail address"
        return PROBE.broke(operation.label, said, exchange, severity="change")
    return PROBE.kept(operation.label)


def _is_private(lab: Lab, made: Made, other: Caller) -> bool:
    """Tell whether lists show the thing to its owner and hide it from others."""
    listing = made.resource.list
    request = None if listing is None else lab.request(listing, lab.user, made)
    if request is None:
        return False
    shown = [lab.send(request, caller).answer for caller in (lab.user, other)]
    return _holds(shown[0].json, made.key) and not _holds(shown[1].json, made.key)


def _holds(value: Any, key: Any) -> bool:
    """Tell whether a key stands somewhere in an answer as the value of a field."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return any(
            (str(inner) == str(key) and not isinstance(inner, dict | list) and name != "total")
            or _holds(inner, key)
            for name, inner in items
        )
    return isinstance(value, list) and any(_holds(item, key) for item in cast("list[Any]", value))


_BAD = f"""{ACCOUNTS}
# file: main.py
from fastapi import FastAPI, HTTPException

import accounts

app = FastAPI()
app.include_router(accounts.router)
notes: dict[int, dict[str, str]] = {{}}


def visible(note_id: int, user: str) -> dict[str, str]:
    if note_id not in notes:
        raise HTTPException(404)
    return notes[note_id]


@app.post("/notes", status_code=201)
def create_note(text: str, user: accounts.User) -> dict[str, int | str]:
    notes[len(notes) + 1] = {{"owner": user, "text": text}}
    return {{"id": len(notes), "owner": user}}


@app.get("/notes")
def list_notes(user: accounts.User) -> list[dict[str, int | str]]:
    return [{{"id": id, **note}} for id, note in notes.items() if note["owner"] == user]


@app.get("/notes/{{note_id}}")
def read_note(note_id: int, user: accounts.User) -> dict[str, str]:
    return visible(note_id, user)


@app.put("/notes/{{note_id}}")
def replace_note(note_id: int, text: str, user: accounts.User) -> dict[str, str]:
    visible(note_id, user)["text"] = text
    return notes[note_id]
"""
PROBE = Probe(
    id="AUTH002",
    title="Nobody reads or changes what belongs to another user",
    severity="block",
    why="Ids can be guessed, logged and shared; knowing one must not be enough.",
    fix="load the thing with the caller in the WHERE clause, and answer 404 where nothing is found",
    seed='003 "Security validated"',
    expected="things without an owner; reads of what lists show to everybody",
    bad=_BAD,
    good=_BAD.replace(
        "if note_id not in notes:", 'if notes.get(note_id, {}).get("owner") != user:'
    ),
    run=_run,
)
