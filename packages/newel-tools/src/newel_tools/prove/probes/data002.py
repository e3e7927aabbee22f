"""Values that the schema lets through fit the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation, Schema
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.variants import Change, broken_by

__all__ = ["PROBE"]

_NUL: Final = "a NUL character in a text"
_LONG: Final = 100_000
_INTEGERS: Final = (2**31, 2**63, -(2**63) - 1)


def _run(lab: Lab) -> Iterator[Result]:
    for operation in lab.operations:
        changes = [*_body_changes(operation), *_path_changes(operation)]
        if changes:
            yield from broken_by(PROBE, lab, operation, changes)


def _body_changes(operation: Operation) -> Iterator[Change]:
    for name, schema in operation.fields.items():
        for part in operation.schemas.alternatives(schema):
            # Its own text for each field of each operation: a name that is taken is a 500, too.
            own = hashlib.sha256(f"{operation.label} {name}".encode()).hexdigest()[:8]
            for value, said, cause in _extremes(part, own=own):
                yield Change(said=f"{said} for {name}", body={name: value}, cause=cause)


def _extremes(schema: Schema, *, own: str) -> Iterator[tuple[Any, str, str | None]]:
    """Yield what the schema allows and few think of; what it forbids has to be refused, too."""
    kind = schema.get("type")
    if kind == "string" and not schema.get("enum") and not schema.get("format"):
        longest = schema.get("maxLength", _LONG)
        yield f"a\0{own}"[:longest], "NUL", _NUL
        if longest == _LONG:
            yield own + "x" * (_LONG - len(own)), f"{_LONG:,} characters", None
    elif kind == "integer":
        for value in _INTEGERS:
            yield value, f"the integer {value}", None
    elif kind == "number":
        yield 1e300, "the number 1e300", None
    elif kind == "string" and schema.get("format") == "date-time":
        yield "0001-01-01T00:00:00+23:59", "a moment before the year 1", None


def _path_changes(operation: Operation) -> Iterator[Change]:
    for name in operation.path_names:
        parameter = operation.parameter(name, "path")
        kind = parameter.schema.get("type") if parameter is not None else None
        if kind == "integer":
            for value in _INTEGERS[:2]:
                yield Change(said=f"the integer {value} for {name}", path={name: value})
        elif kind == "string" and parameter and not parameter.schema.get("format"):
            yield Change(said=f"NUL for {name} in the path", path={name: "a\0b"}, cause=_NUL)


_BAD = """
import struct

from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()
stock: list[bytes] = []


class Item(BaseModel):
    amount: int


@app.post("/items", status_code=201)
def create_item(data: Item) -> dict[str, int]:
    stock.append(struct.pack("i", data.amount))
    return {"id": len(stock)}
"""
PROBE = Probe(
    id="DATA002",
    title="Whatever the schema allows fits the database",
    severity="change",
    why="One caller with a long text or a large number is enough to raise the alarm.",
    fix="bound every text and integer to its column, and refuse NUL in texts",
    seed='"Pydantic validation on inputs"',
    expected="values that are refused or stored: any answer but a 5xx is fine",
    bad=_BAD,
    good=_BAD.replace("amount: int", "amount: int = Field(ge=0, le=2**31 - 1)"),
    run=_run,
)
