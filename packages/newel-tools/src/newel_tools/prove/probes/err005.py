"""What does not exist is answered with 404."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any, Final

from newel_tools.check.finding import Severity
from newel_tools.prove.callers import Caller
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.requests import Request
from newel_tools.prove.service import Exchange

__all__ = ["PROBE"]

_INSERT: Final = re.compile(r"\s*(INSERT|REPLACE|MERGE)\b", re.IGNORECASE)
_NUMBER: Final = 2_000_000_011  # fits every integer column


def _run(lab: Lab) -> Iterator[Result]:
    for serial, operation in enumerate(op for op in lab.operations if op.path_names):
        yield _unknown(lab, operation, serial)


def _unknown(lab: Lab, operation: Operation, serial: int) -> Result:
    result = PROBE.skipped(operation.label, "no value is known for a name in its path")
    for caller in lab.callers_for(operation):
        request = lab.request(operation, caller)
        values = lab.world.path_values(operation, caller) if request is not None else None
        if request is None or values is None:
            continue
        name = operation.path_names[-1]
        unknown = _unknown_value(operation, name, values[name], serial)
        request = lab.request(operation, caller, path_changes={name: unknown})
        if request is None:
            continue
        exchange = lab.send(request, caller)
        status = exchange.answer.status
        if exchange.answer.is_fault:
            if operation.method in ("POST", "PUT", "PATCH") and _fails_anyway(
                lab, operation, caller
            ):
                return PROBE.skipped(operation.label, f"a known {name} fails, too")
            said = f"an unknown {name} is answered with {status or 'nothing'}"
            return PROBE.broke(operation.label, said, exchange)
        if exchange.answer.is_success and _is_of_one(operation):
            if operation.method in ("PUT", "PATCH") and _made(lab, operation, exchange):
                return PROBE.kept(operation.label)
            said = f"an unknown {name} is answered with {status} and {exchange.answer.text[:40]!r}"
            severity: Severity = "note" if operation.method == "DELETE" else "change"
            return PROBE.broke(operation.label, said, exchange, severity=severity)
        if status not in (401, 403):
            return PROBE.kept(operation.label)
        result = PROBE.skipped(operation.label, f"every caller is answered {status}")
    return result


def _fails_anyway(lab: Lab, operation: Operation, caller: Caller) -> bool:
    """Tell whether what writes fails with a known id as well: then the body is why."""
    request = lab.request(operation, caller)
    return request is None or lab.send(request, caller).answer.is_fault


def _is_of_one(operation: Operation) -> bool:
    """Tell whether a success says that there is such a thing: a POST may do without."""
    if operation.method in ("PUT", "PATCH"):
        return True
    is_item = operation.segments[-1].startswith("{") and not operation.lists
    return is_item and operation.method in ("GET", "DELETE")


def _made(lab: Lab, operation: Operation, exchange: Exchange) -> bool:
    """Tell whether a change made what was not there: by its row, or by a GET after it.

    Where neither can be seen, a PUT may have: that is what it is for.
    """
    statements = exchange.answer.statements
    if any(_INSERT.match(statement.sql) for statement in statements):
        return True
    reading = lab.service.operation("GET", operation.path)
    if reading is None or reading not in lab.operations:
        return operation.method == "PUT" and not statements
    request = Request(method="GET", path=exchange.request.path, label=reading.label)
    return lab.send(request, exchange.caller).answer.is_success


def _unknown_value(operation: Operation, name: str, known: Any, serial: int) -> Any:
    """Return a value of the same kind that nothing has, not even what a PUT before it made."""
    parameter = operation.parameter(name, "path")
    if isinstance(known, int) or (parameter and parameter.schema.get("type") == "integer"):
        return _NUMBER + serial
    text = str(known)
    if len(text) == len(str(uuid.uuid4())) and text.count("-") == 4:
        return str(uuid.uuid4())
    is_made = text.isalnum() and len(text) > 8
    return uuid.uuid4().hex[: len(text)] if is_made else f"newel-prove-unknown-{serial}"


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
    expected="401, 403 and 422; what writes and fails with a known id, too; a PUT or PATCH "
    "that makes what is not there; empty lists below an unknown parent. A DELETE that succeeds is "
    "a note: its second time may be meant to",
    bad=_BAD,
    good=_BAD.replace(
        '    return {"text"',
        '    if note_id not in notes:\n        raise HTTPException(404)\n    return {"text"',
    ),
    run=_run,
)
