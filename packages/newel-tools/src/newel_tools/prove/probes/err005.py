"""What does not exist is answered with 404."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]

_NUMBER: Final = 2_000_000_011  # fits every integer column


def _run(lab: Lab) -> Iterator[Result]:
    for operation in lab.operations:
        if operation.path_names:
            yield _unknown(lab, operation)


def _unknown(lab: Lab, operation: Operation) -> Result:
    result = PROBE.skipped(operation.label, "no value is known for a name in its path")
    for caller in lab.callers_for(operation):
        request = lab.request(operation, caller)
        values = lab.world.path_values(operation, caller) if request is not None else None
        if request is None or values is None:
            continue
        name = operation.path_names[-1]
        unknown = _unknown_value(operation, name, values[name])
        request = lab.request(operation, caller, path_changes={name: unknown})
        if request is None:
            continue
        exchange = lab.send(request, caller)
        status = exchange.answer.status
        if exchange.answer.is_fault:
            said = f"an unknown {name} is answered with {status or 'nothing'}"
            return PROBE.broke(operation.label, said, exchange)
        if exchange.answer.is_success and operation.method == "GET" and _is_item(operation):
            said = f"an unknown {name} is answered with {status} and {exchange.answer.text[:40]!r}"
            return PROBE.broke(operation.label, said, exchange, severity="change")
        if status not in (401, 403):
            return PROBE.kept(operation.label)
        result = PROBE.skipped(operation.label, f"every caller is answered {status}")
    return result


def _is_item(operation: Operation) -> bool:
    return operation.segments[-1].startswith("{") and not operation.lists


def _unknown_value(operation: Operation, name: str, known: Any) -> Any:
    """Return a value of the same kind that nothing has."""
    parameter = operation.parameter(name, "path")
    if isinstance(known, int) or (parameter and parameter.schema.get("type") == "integer"):
        return _NUMBER
    text = str(known)
    if len(text) == len(str(uuid.uuid4())) and text.count("-") == 4:
        return str(uuid.uuid4())
    return (
        uuid.uuid4().hex[: len(text)] if text.isalnum() and len(text) > 8 else "newel-prove-unknown"
    )


_BAD = """
from fastapi import FastAPI, HTTPException

app = FastAPI()
notes = {1: "water the plants"}


@app.post("/notes", status_code=201)
def create_note(text: str) -> dict[str, int]:
    notes[len(notes) + 1] = text
    return {"id": len(notes)}


@app.get("/notes/{note_id}")
def read_note(note_id: int) -> dict[str, str]:
    return {"text": notes[note_id]}
"""
PROBE = Probe(
    id="ERR005",
    title="An unknown id is answered with 404",
    severity="block",
    why="A 500 wakes somebody up and tells the caller to try again; a 200 tells them it is there.",
    fix="answer 404 when the look-up finds nothing",
    seed="status table",
    expected="401, 403 and 422; DELETE of what is not there; empty lists below an unknown parent",
    bad=_BAD,
    good=_BAD.replace(
        '    return {"text"',
        '    if note_id not in notes:\n        raise HTTPException(404)\n    return {"text"',
    ),
    run=_run,
)
