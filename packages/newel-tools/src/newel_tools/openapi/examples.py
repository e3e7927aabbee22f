"""A value that a schema accepts, for people to start from."""

from __future__ import annotations

import json
from typing import Any, Final

from newel_tools.openapi.shape import Bound, Shape, Shapes

__all__ = ["example_of"]

_TEXTS: Final = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "uuid": "0198c0de-0000-7000-8000-000000000001",
    "email": "ada@example.com",
    "idn-email": "ada@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "binary": "<bytes>",
    "byte": "aGVsbG8=",
    "password": "correct-horse-battery",
}
_DEPTH: Final = 6  # of nested objects; recursive schemas end here, if not before


def example_of(node: Any, shapes: Shapes, *, sent: bool) -> Any:
    """Return an example; ``sent`` leaves out what only answers contain, else what only requests do.

    The schema's own examples and defaults win. A pattern is only tried to be met.
    """
    return _example(shapes.of(node), shapes, sent=sent, inside=())


def _example(shape: Shape, shapes: Shapes, *, sent: bool, inside: tuple[str, ...]) -> Any:
    if shape.examples:
        return shape.examples[0]
    said = shape.values[0] if shape.values else shape.default
    if said is not None and said not in ("[]", "{}"):
        return json.loads(said)
    name = shape.component or f"#{id(shape)}"
    if name in inside or len(inside) > _DEPTH:
        return None
    deeper = (*inside, name)
    if shape.alternatives:
        return _example(shapes.whole(shape)[0], shapes, sent=sent, inside=deeper)
    return _made(shape, shapes, sent=sent, inside=deeper)


def _made(shape: Shape, shapes: Shapes, *, sent: bool, inside: tuple[str, ...]) -> Any:
    if "object" in shape.types:
        return _object(shape, shapes, sent=sent, inside=inside)
    if "array" in shape.types:
        firsts = [
            _example(shapes.of(node), shapes, sent=sent, inside=inside) for node in shape.prefix
        ]
        if firsts or shape.items is True:
            return firsts
        item = _example(shapes.of(shape.items), shapes, sent=sent, inside=inside)
        return [] if item is None else [item] * max(1, shape.sizes.get("min-items", 1))
    if "string" in shape.types:
        return _text(shape)
    if shape.types & {"integer", "number"}:
        whole = "number" not in shape.types
        number = _number(shape.lower, shape.upper, step=1 if whole else 0.5)
        return int(number) if whole else number
    return True if "boolean" in shape.types else None


def _object(shape: Shape, shapes: Shapes, *, sent: bool, inside: tuple[str, ...]) -> Any:
    made: dict[str, Any] = {}
    for name, node in shape.properties.items():
        inner = shapes.of(node)
        if inner.read_only if sent else inner.write_only:
            continue
        value = _example(inner, shapes, sent=sent, inside=inside)
        # What stays empty because it would contain itself is left out, unless it has to be there.
        if value is not None or name in shape.required:
            made[name] = value
    if not made and isinstance(shape.rest, dict):
        made["key"] = _example(shapes.of(shape.rest), shapes, sent=sent, inside=inside)
    return made


def _text(shape: Shape) -> str:
    text = _TEXTS.get(shape.format, "text")
    shortest, longest = shape.sizes.get("min-length", 0), shape.sizes.get("max-length")
    text = text.ljust(shortest, "x")
    return text if longest is None or len(text) <= longest else text[:longest]


def _number(lower: Bound | None, upper: Bound | None, *, step: float) -> float:
    if lower is not None:
        return lower.value + (step if lower.exclusive else 0)
    if upper is not None:
        return min(step, upper.value - (step if upper.exclusive else 0))
    return step
