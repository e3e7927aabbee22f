"""Values for the tests of a field, as Python source: good ones, and those that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Final

from newel_tools.plan.bounds import INT32, INT64, FieldType
from newel_tools.plan.plan import Field

__all__ = ["PYTHON", "Samples", "number", "refused", "samples"]

PYTHON: Final[dict[FieldType, tuple[str, str]]] = {
    "str": ("str", '"a"'),
    "text": ("str", '"a"'),
    "int": ("int", "1"),
    "float": ("float", "1.5"),
    "decimal": ("Decimal", 'Decimal("1.50")'),
    "bool": ("bool", "True"),
    "datetime": ("datetime", "utc_now()"),
    "date": ("date", "utc_now().date()"),
    "uuid": ("UUID", "uuid4()"),
    "json": ("dict[str, Any]", "{}"),
    "email": ("str", '"a@example.com"'),
    "url": ("str", '"https://example.com"'),
}
"""What a field's values are in Python, and one of them."""

_DAY = "2030-01-0{n}"
_UUID = "00000000-0000-7000-8000-00000000000{n}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Source of two good values, and of one for each ``n`` from 1 to 9.

    ``numbered`` is ``None`` for a type with too few values to tell rows apart.
    """

    valid: str
    other: str
    numbered: str | None

    @property
    def differ(self) -> bool:
        return self.valid != self.other


def samples(field: Field) -> Samples:
    """Return values as JSON carries them: text for decimals, dates and times."""
    match field.type:
        case "bool":
            first = field.default is not False
            return Samples(valid=str(first), other=str(not first), numbered=None)
        case "enum":
            return _choices(field)
        case "json":
            shape = "[{n}]" if field.default == "[]" else '{{"key": {n}}}'
            return _of(lambda n: shape.format(n=n), None)
        case "int" | "float" | "decimal":
            return _numbers(field)
        case _:
            return _texts(field)


def refused(field: Field, *, thorough: bool) -> Iterator[tuple[str, str]]:
    """Yield what must be refused: a few words and the source of the value.

    ``thorough`` adds what is the same for every field of a type.
    """
    match field.type:
        case "str" | "text":
            yield from _refused_texts(field, thorough=thorough)
        case "int":
            yield from _refused_integers(field, thorough=thorough)
        case "float":
            yield from _refused_bounds(field, step=1)
        case "decimal":
            yield from _refused_decimals(field)
        case "json":
            is_list, many = field.default == "[]", "range(1001)"
            yield "with too much in it", f"[*{many}]" if is_list else f"dict.fromkeys({many})"
            if thorough:
                yield "with NUL", '["\\0"]' if is_list else '{"\\0": 1}'
        case _:
            yield from _REFUSED.get(field.type, ())
    if thorough and field.type in _OTHER_TYPE:
        yield "of another type", _OTHER_TYPE[field.type]


_OTHER_TYPE = {
    "str": "7",
    "text": "7",
    "int": '"x"',
    "float": '"x"',
    "decimal": '"x"',
    "bool": '"perhaps"',
    "datetime": '"x"',
    "date": '"x"',
    "uuid": '"x"',
    "json": '"x"',
    "email": "7",
    "url": "7",
    "enum": "7",
}
_REFUSED = {
    "datetime": [
        ("without a zone", '"2030-01-01T12:00:00"'),
        ("before all calendars", '"0001-01-01T00:00:00+14:00"'),
    ],
    "date": [("that is no day", '"2030-02-30"')],
    "email": [("without an at", '"nobody"')],
    "url": [("that runs a script", '"javascript:alert(1)"')],
    "enum": [("that is no choice", '"?"')],
}


def number(value: float) -> str:
    """Write a number as a programmer would: long ones in groups of three."""
    return f"{value:_}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _of(literal: Callable[[int], str], numbered: str | None) -> Samples:
    return Samples(valid=literal(1), other=literal(2), numbered=numbered)


def _choices(field: Field) -> Samples:
    usual = field.default if field.default in field.choices else field.choices[0]
    other = next((c for c in field.choices if c != usual), usual)
    return Samples(valid=json.dumps(usual), other=json.dumps(other), numbered=None)


def _texts(field: Field) -> Samples:
    match field.type:
        case "datetime":
            pattern, most = _DAY + "T12:00:00Z", 0
        case "date":
            pattern, most = _DAY, 0
        case "uuid":
            pattern, most = _UUID, 0
        case "email":
            pattern, most = f"{field.name}{{n}}@example.com", int(field.maximum or 0)
        case "url":
            pattern, most = f"https://example.com/{field.name}/{{n}}", int(field.maximum or 0)
        case _:
            pattern, most = _words(field.name) + " {n}", int(field.maximum or 0)
    if most and len(pattern) - 2 > most:
        pattern = _SHORTEST.get(field.type, "{n}")
    least = int(field.minimum or 0)
    pad = f'.ljust({least}, "x")' if len(pattern) - 2 < least else ""
    return _of(lambda n: f'"{pattern.format(n=n)}"{pad}', f'f"{pattern}"{pad}')


_SHORTEST = {"email": "a{n}@b.co", "url": "http://b.co/{n}"}


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _numbers(field: Field) -> Samples:
    low, high = _range(field)
    wide = high - low >= 2
    first = max(low, min(Decimal(1), high - 2)) if wide else (low + high) / 2
    second = first + 1 if wide else high
    if field.type == "int":
        values = [int(first), int(second)]
        start = f"{values[0] - 1} + n" if values[0] != 1 else "n"
        texts = [number(value) for value in values]
        return Samples(valid=texts[0], other=texts[1], numbered=start if wide else None)
    if field.type == "float":
        return Samples(valid=str(float(first)), other=str(float(second)), numbered=None)
    scale = field.scale or 0
    exponent = Decimal(1).scaleb(-scale)
    texts = [f'"{value.quantize(exponent, ROUND_FLOOR)}"' for value in (first, second)]
    zeros = f".{'0' * scale}" if scale else ""
    numbered = f'f"{{n}}{zeros}"' if wide and first == 1 else None
    return Samples(valid=texts[0], other=texts[1], numbered=numbered)


def _range(field: Field) -> tuple[Decimal, Decimal]:
    most = Decimal(1_000_000)
    if field.type == "decimal":
        scale = field.scale or 0
        whole = (field.precision or 0) - scale
        most = min(most, Decimal(10) ** whole - Decimal(1).scaleb(-scale))
    low = -most if field.minimum is None else Decimal(str(field.minimum))
    high = most if field.maximum is None else Decimal(str(field.maximum))
    # a bound that was given may lie beyond the usual one of the other side
    return (min(low, high), high) if field.minimum is None else (low, max(low, high))


def _refused_texts(field: Field, *, thorough: bool) -> Iterator[tuple[str, str]]:
    if field.minimum and (thorough or field.minimum > 1):
        least = int(field.minimum) - 1
        yield "too short", f'"x" * {number(least)}' if least else '""'
    yield "too long", f'"x" * {number(int(field.maximum or 0) + 1)}'
    if thorough:
        rest = int(field.minimum or 0) - 1
        yield "with NUL", '"\\0"' + (f' + "x" * {rest}' if rest > 0 else "")


def _refused_integers(field: Field, *, thorough: bool) -> Iterator[tuple[str, str]]:
    for value, word in ((field.minimum, "too small"), (field.maximum, "too great")):
        edge = int(value or 0)
        beyond = edge - 1 if word == "too small" else edge + 1
        usual = {-1: "-1"}.get(beyond, number(beyond))
        if edge in (*INT32, *INT64):
            power = 31 if edge in INT32 else 63
            usual = f"-(2**{power}) - 1" if word == "too small" else f"2**{power}"
        yield word, usual
    if thorough:
        yield "beyond all columns", "10**30"


def _refused_bounds(field: Field, *, step: int) -> Iterator[tuple[str, str]]:
    if field.minimum is not None:
        yield "too small", str(field.minimum - step)
    if field.maximum is not None:
        yield "too great", str(field.maximum + step)


def _refused_decimals(field: Field) -> Iterator[tuple[str, str]]:
    yield from ((word, f'"{value}"') for word, value in _refused_bounds(field, step=1))
    whole = (field.precision or 0) - (field.scale or 0)
    yield "with too many digits", f'"1{"0" * whole}"'
    yield "that is no number", '"NaN"'
