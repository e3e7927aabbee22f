"""The bounds of a field: what its type allows, and the usual ones when none are said."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

from newel_tools.errors import PlanError

__all__ = [
    "DECIMAL_DIGITS",
    "FIELD_TYPES",
    "INT32",
    "INT64",
    "STR_LENGTH",
    "TEXT_LENGTH",
    "Default",
    "FieldType",
    "Number",
    "check_value",
    "complete",
]

FieldType = Literal[
    "str",
    "text",
    "int",
    "float",
    "decimal",
    "bool",
    "datetime",
    "date",
    "uuid",
    "json",
    "email",
    "url",
    "enum",
]
FIELD_TYPES: Final[tuple[FieldType, ...]] = (
    "str", "text", "int", "float", "decimal", "bool", "datetime",
    "date", "uuid", "json", "email", "url", "enum",
)  # fmt: skip
"""Every type of a field."""

Number = int | float
Default = bool | int | float | str

INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)
STR_LENGTH: Final = (1, 255)
TEXT_LENGTH: Final = (1, 20_000)
EMAIL_LENGTH: Final = (3, 254)  # RFC 5321: a path has 256 octets, two of them angle brackets
URL_LENGTH: Final = (1, 2048)
DECIMAL_DIGITS: Final = (12, 2)

_LENGTHS: Final[dict[str, tuple[int, int]]] = {
    "str": STR_LENGTH,
    "text": TEXT_LENGTH,
    "email": EMAIL_LENGTH,
    "url": URL_LENGTH,
}
# a str is a VARCHAR and may be indexed; PostgreSQL refuses index rows above 2704 bytes
_LONGEST_STR: Final = 2_000
_LONGEST_TEXT: Final = 1_000_000
_MOST_DIGITS: Final = 15  # what a float holds exactly, and SQLite has no other number with a point
_MOST_CHOICES: Final = 64


class _Bounded(Protocol):
    """What the checks read of a field."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> FieldType: ...
    @property
    def minimum(self) -> Number | None: ...
    @property
    def maximum(self) -> Number | None: ...
    @property
    def precision(self) -> int | None: ...
    @property
    def scale(self) -> int | None: ...
    @property
    def choices(self) -> tuple[str, ...]: ...
    @property
    def unique(self) -> bool: ...
    @property
    def default(self) -> Default | None: ...


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a field with the usual bounds of its type where it has none."""
    kind = values.get("type")
    usual: dict[str, Any] = {}
    if kind in _LENGTHS:
        usual["minimum"], usual["maximum"] = _LENGTHS[kind]
    elif kind == "int":
        usual["minimum"], usual["maximum"] = INT32
    elif kind == "decimal":
        usual["precision"], usual["scale"] = DECIMAL_DIGITS
    given = {key: value for key, value in values.items() if value is not None}
    return usual | given


def check_value(field: _Bounded) -> None:
    """Raise ``PlanError`` when the bounds, choices or default of a field contradict its type."""
    _check_bounds(field)
    _check_choices(field)
    if field.unique and field.type in {"bool", "json", "text"}:
        _refuse(field, f"cannot be unique: it is {field.type}", fix="remove 'unique', or use str")
    if field.default is not None:
        _check_default(field, field.default)


def _check_bounds(field: _Bounded) -> None:
    low, high = field.minimum, field.maximum
    bounded = field.type in {*_LENGTHS, "int", "float", "decimal"}
    if not bounded and (low is not None or high is not None):
        _refuse(field, f"is {field.type} and has no bounds", fix="remove the bounds")
    if any(isinstance(b, float) and not math.isfinite(b) for b in (low, high)):
        _refuse(field, "has a bound that is no number", fix="write the bound in digits")
    if low is not None and high is not None and low > high:
        _refuse(field, f"has bounds the wrong way round ({low}..{high})", fix="write low..high")
    if field.type in _LENGTHS:
        _check_lengths(field, low, high)
    elif field.type == "int":
        _check_int(field, low, high)
    if field.type == "decimal":
        _check_digits(field)
    elif field.precision is not None or field.scale is not None:
        _refuse(field, f"is {field.type} and has no digits", fix="use decimal(12,2)")


def _check_lengths(field: _Bounded, low: Number | None, high: Number | None) -> None:
    longest = _LONGEST_TEXT if field.type == "text" else _LONGEST_STR
    if field.type == "url":
        longest = URL_LENGTH[1]
    if not (isinstance(low, int) and isinstance(high, int) and low >= 0 and 1 <= high <= longest):
        fix = f"use {field.type} lengths from 0 to {longest}"
        if field.type == "str":
            fix += ", or text for more"
        _refuse(field, f"cannot have the lengths {low}..{high}", fix=fix)


def _check_int(field: _Bounded, low: Number | None, high: Number | None) -> None:
    if not (
        isinstance(low, int) and isinstance(high, int) and low >= INT64[0] and high <= INT64[1]
    ):
        _refuse(field, "has bounds beyond 64 bits", fix="use str for greater numbers")


def _check_digits(field: _Bounded) -> None:
    digits, scale = field.precision or 0, field.scale or 0
    if not (1 <= digits <= _MOST_DIGITS and 0 <= scale <= digits):
        _refuse(
            field,
            f"cannot have {digits} digits, {scale} behind the point",
            fix=f"use decimal(p,s) with 1 <= p <= {_MOST_DIGITS} and s <= p, or str",
        )


def _check_choices(field: _Bounded) -> None:
    if field.type != "enum":
        if field.choices:
            _refuse(field, f"is {field.type} and has choices", fix="use enum[a,b,c]")
        return
    if not 1 <= len(field.choices) <= _MOST_CHOICES:
        _refuse(field, "has no choices or too many", fix=f"name 1 to {_MOST_CHOICES}: enum[a,b,c]")
    if len({c.lower() for c in field.choices}) < len(field.choices):
        _refuse(field, "has a choice twice", fix="remove one of them")


def _check_default(field: _Bounded, value: Default) -> None:
    if not _fits(field, value):
        _refuse(field, f"cannot have the default {value!r}", fix=_HINTS[field.type])
    if field.unique:
        _refuse(field, "is unique and has a default", fix="remove one of the two")


_HINTS: Final[dict[FieldType, str]] = {
    "str": "use a text within its lengths",
    "text": "use a text within its lengths",
    "int": "use a whole number within its bounds",
    "float": "use a number within its bounds",
    "decimal": "use a number within its bounds and digits",
    "bool": "use true or false",
    "datetime": "use now, or a time with its zone such as 2026-01-31T12:00:00Z",
    "date": "use today, or a date such as 2026-01-31",
    "uuid": "leave it out, or make the field optional",
    "json": "use {} or []",
    "email": "use an address such as a@example.com",
    "url": "use an address such as https://example.com",
    "enum": "use one of its choices",
}


def _fits(field: _Bounded, value: Default) -> bool:
    if field.type == "bool":
        return isinstance(value, bool)
    if field.type in {"int", "float"}:
        return _is_number(value, whole=field.type == "int") and _within(field, value)
    return isinstance(value, str) and _text_fits(field, value)


def _text_fits(field: _Bounded, value: str) -> bool:
    match field.type:
        case "decimal":
            return _is_decimal(field, value)
        case "enum":
            return value in field.choices
        case "json":
            return value in {"{}", "[]"}
        case "date" | "datetime":
            return _is_time(value, aware=field.type == "datetime")
        case "uuid":
            return False
        case _:
            return _within(field, len(value)) and _has_form(field.type, value)


def _is_number(value: Default, *, whole: bool) -> bool:
    if isinstance(value, bool) or (whole and isinstance(value, float)):
        return False
    return isinstance(value, int | float) and math.isfinite(value)


def _within(field: _Bounded, value: Any) -> bool:
    return (field.minimum is None or value >= field.minimum) and (
        field.maximum is None or value <= field.maximum
    )


def _is_decimal(field: _Bounded, value: str) -> bool:
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return False
    whole, _, behind = value.lstrip("-").partition(".")
    scale = field.scale or 0
    digits = (field.precision or 0) - scale
    fits = len(whole.lstrip("0")) <= digits and len(behind) <= scale
    return fits and _within(field, Decimal(value))


def _is_time(value: str, *, aware: bool) -> bool:
    if value == ("now" if aware else "today"):
        return True
    try:
        if aware:
            return datetime.fromisoformat(value).tzinfo is not None
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _has_form(kind: FieldType, value: str) -> bool:
    if kind == "email":
        return re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value) is not None
    if kind == "url":
        return re.fullmatch(r"https?://[^\s/]\S*", value) is not None
    return "\0" not in value and "\n" not in value


def _refuse(field: _Bounded, why: str, *, fix: str) -> None:
    raise PlanError(f"the field '{field.name}' {why}", fix=fix, word=field.name)
