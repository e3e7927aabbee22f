"""What a field's type allows, and what it is when nothing is said."""

import math
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import Column, MetaData, Numeric, Table, create_engine, select

from newel_tools.errors import PlanError
from newel_tools.plan.bounds import FIELD_TYPES, INT32, INT64, TEXT_LENGTH
from newel_tools.plan.plan import Field


def made(**values: object) -> Field:
    return Field.model_validate({"name": "x", **values})


def refusal(**values: object) -> PlanError:
    with pytest.raises(ValidationError) as caught:
        made(**values)
    error = caught.value.errors()[0]["ctx"]["error"]
    assert isinstance(error, PlanError)
    return error


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("str", 1, 255),
        ("text", 1, 20_000),
        ("int", *INT32),
        ("email", 3, 254),
        ("url", 1, 2048),
        ("float", None, None),
        ("decimal", None, None),
        ("bool", None, None),
        ("json", None, None),
    ],
)
def test_bounds_that_are_not_said_are_the_usual_ones(kind, low, high):
    field = made(type=kind)

    assert (field.minimum, field.maximum) == (low, high)


def test_a_bound_that_is_said_stays():
    assert made(type="str", minimum=3).minimum == 3
    assert made(type="str", minimum=3).maximum == 255
    assert made(type="text", minimum=0, maximum=9).minimum == 0
    assert made(type="int", maximum=INT64[1]).maximum == INT64[1]
    assert made(type="str", minimum=None).minimum == 1


def test_a_decimal_has_twelve_digits_two_behind_the_point():
    field = made(type="decimal", minimum=0)

    assert (field.precision, field.scale, field.minimum) == (12, 2, 0)


def kept_by_sqlite(digits: int, *, scale: int, precision: int) -> bool:
    """Tell whether a number of a column comes back as it was stored."""
    number = Decimal(digits).scaleb(-scale)
    table = Table("prices", MetaData(), Column("price", Numeric(precision, scale)))
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"price": number})
        kept = connection.scalar(select(table.c.price))
    engine.dispose()
    return kept == number


@given(st.integers(1 - 10**15, 10**15 - 1), st.integers(0, 15))
@example(999_999_999_999_999, 15)
def test_sqlite_keeps_every_digit_that_a_decimal_may_have(digits, scale):
    assert made(type="decimal", precision=15, scale=scale)
    assert kept_by_sqlite(digits, scale=scale, precision=15)


def test_sqlite_would_lose_digits_of_a_longer_one():
    assert not kept_by_sqlite(88_888_888_888_888_889, scale=2, precision=17)
    assert refusal(type="decimal", precision=17).fix == (
        "use decimal(p,s) with 1 <= p <= 15 and s <= p, or str"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "str", "minimum": 5, "maximum": 3}, "the wrong way round (5..3)"),
        ({"type": "int", "minimum": 1, "maximum": 0}, "the wrong way round"),
        ({"type": "decimal", "minimum": 1, "maximum": 0}, "the wrong way round"),
        ({"type": "str", "minimum": -1}, "the lengths -1..255"),
        ({"type": "str", "maximum": 2_001}, "the lengths 1..2001"),
        ({"type": "str", "minimum": 0, "maximum": 0}, "the lengths 0..0"),
        ({"type": "str", "maximum": 2.5}, "the lengths 1..2.5"),
        ({"type": "text", "maximum": 1_000_001}, "the lengths 1..1000001"),
        ({"type": "url", "maximum": 2_049}, "the lengths 1..2049"),
        ({"type": "int", "maximum": 2**63}, "beyond 64 bits"),
        ({"type": "int", "minimum": -(2**63) - 1}, "beyond 64 bits"),
        ({"type": "int", "maximum": 2.5}, "beyond 64 bits"),
        ({"type": "bool", "minimum": 0}, "is bool and has no bounds"),
        ({"type": "json", "maximum": 5}, "is json and has no bounds"),
        ({"type": "enum", "choices": ["a"], "maximum": 5}, "is enum and has no bounds"),
        ({"type": "float", "minimum": math.nan}, "a bound that is no number"),
        ({"type": "float", "maximum": math.inf}, "a bound that is no number"),
        ({"type": "decimal", "precision": 4, "scale": 9}, "4 digits, 9 behind"),
        ({"type": "decimal", "precision": 16}, "16 digits"),
        ({"type": "decimal", "precision": 0, "scale": 0}, "0 digits"),
        ({"type": "int", "precision": 3}, "is int and has no digits"),
        ({"type": "float", "scale": 3}, "is float and has no digits"),
        ({"type": "enum"}, "has no choices"),
        ({"type": "enum", "choices": [f"c{n}" for n in range(65)]}, "or too many"),
        ({"type": "enum", "choices": ["a", "A"]}, "a choice twice"),
        ({"type": "str", "choices": ["a"]}, "is str and has choices"),
        ({"type": "bool", "unique": True}, "cannot be unique: it is bool"),
        ({"type": "json", "unique": True}, "cannot be unique: it is json"),
        ({"type": "text", "unique": True}, "cannot be unique: it is text"),
        ({"type": "str", "unique": True, "default": "a"}, "is unique and has a default"),
    ],
)
def test_a_contradiction_is_refused_and_says_how_to_mend_it(values, message):
    error = refusal(**values)

    assert message in error.message
    assert error.fix
    assert error.word == "x"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("str", ["a", "a" * 255, "true", "5"]),
        ("text", ["a", "a" * TEXT_LENGTH[1]]),
        ("int", [0, -5, INT32[1]]),
        ("float", [0, 1.5, -2.25]),
        ("decimal", ["1", "1.50", "-1234567890.12", "0009"]),
        ("bool", [True, False]),
        ("datetime", ["now", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00+02:00"]),
        ("date", ["today", "2026-01-31"]),
        ("json", ["{}", "[]"]),
        ("email", ["a@example.com"]),
        ("url", ["https://example.com/x"]),
    ],
)
def test_a_default_that_fits_is_kept(kind, values):
    for value in values:
        field = made(type=kind, default=value)
        assert field.default == value
        assert type(field.default) is type(value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("str", [5, True, "a" * 256, "a\0b", "a\nb", ""]),
        ("text", [1.5, "a\0b"]),
        ("int", [True, 1.5, "5", 2**31]),
        ("float", [True, "5", math.inf, math.nan]),
        ("decimal", [5, 1.5, "1.555", "12345678901", "x", "1e5", "NaN"]),
        ("bool", ["true", 1]),
        ("datetime", ["today", "2026-01-31T12:00:00", "yesterday"]),
        ("date", ["now", "2026-02-31", "x"]),
        ("uuid", ["018f2d4e-0000-7000-8000-000000000000"]),
        ("json", ["{", "{1}", '{"a": 1}', 5]),
        ("email", ["a", "a@b", "a b@c.d"]),
        ("url", ["example.com", "ftp://example.com", "https://", "https://a b"]),
        ("enum", ["c", 1]),
    ],
)
def test_a_default_that_does_not_fit_is_refused(kind, values):
    choices = {"choices": ["a", "b"]} if kind == "enum" else {}
    for value in values:
        error = refusal(type=kind, default=value, **choices)
        assert "the default" in error.message
        assert error.fix.startswith(("use", "leave"))


def test_a_default_lies_within_the_bounds():
    assert made(type="int", minimum=1, maximum=5, default=5).default == 5
    assert made(type="decimal", minimum=0, default="0.00").default == "0.00"
    assert refusal(type="int", minimum=1, maximum=5, default=6)
    assert refusal(type="decimal", minimum=0, default="-0.01")
    assert refusal(type="str", minimum=3, default="ab")


def test_a_default_of_an_enum_is_one_of_its_choices():
    assert made(type="enum", choices=["a", "b"], default="b").default == "b"


def test_a_type_there_is_not_is_refused():
    with pytest.raises(ValidationError, match="'str', 'text'"):
        made(type="varchar")


def test_every_type_can_be_made():
    for kind in FIELD_TYPES:
        choices = {"choices": ["a"]} if kind == "enum" else {}
        assert made(type=kind, **choices).type == kind
