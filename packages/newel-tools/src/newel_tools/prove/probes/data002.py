"""Values that the schema lets through fit the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation, Schema
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.variants import broken_by

__all__ = ["PROBE"]

_LONG: Final = 100_000
_INTEGERS: Final = (2**31, 2**63, -(2**63) - 1)


def _run(lab: Lab) -> Iterator[Result]:
    for operation in lab.operations:
        changes = list(_body_changes(operation))
        paths = list(_path_changes(operation))
        if changes or paths:
            yield broken_by(PROBE, lab, operation, changes, paths=paths)


def _body_changes(operation: Operation) -> Iterator[tuple[Mapping[str, Any], str]]:
    for name, schema in operation.fields.items():
        for part in operation.schemas.alternatives(schema):
            for value, said in _extremes(part):
                yield {name: value}, f"{said} for {name}"


def _extremes(schema: Schema) -> Iterator[tuple[Any, str]]:
    """Yield what the schema allows and few think of; what it forbids has to be refused, too."""
    kind = schema.get("type")
    if kind == "string" and not schema.get("enum") and not schema.get("format"):
        yield "a\0b", "a NUL character"
        if "maxLength" not in schema:
            yield "x" * _LONG, f"{_LONG:,} characters"
    elif kind == "integer":
        for value in _INTEGERS:
            yield value, f"the integer {value}"
    elif kind == "number":
        yield 1e300, "the number 1e300"
    elif kind == "string" and schema.get("format") == "date-time":
        yield "0001-01-01T00:00:00+23:59", "a moment before the year 1"


def _path_changes(operation: Operation) -> Iterator[tuple[Mapping[str, Any], str]]:
    for name in operation.path_names:
        parameter = operation.parameter(name, "path")
        kind = parameter.schema.get("type") if parameter is not None else None
        if kind == "integer":
            for value in _INTEGERS[:2]:
                yield {name: value}, f"the integer {value} for {name} in the path"
        elif kind == "string" and parameter and not parameter.schema.get("format"):
            yield {name: "a\0b"}, f"a NUL character for {name} in the path"


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
