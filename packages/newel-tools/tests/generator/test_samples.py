"""Values for tests: the field's own annotation takes the good ones and refuses the others."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from newel_tools.generator.attributes import view_field
from newel_tools.generator.imports import KNOWN
from newel_tools.generator.samples import refused, samples
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import Field

NAMES = {
    name: getattr(importlib.import_module(module), name)
    for name, module in KNOWN.items()
    if module not in {"", "newel"}  # those are modules
}

LINES = [
    "str", "str(3..3)", "str(2..64)", "str(200..255)", "str(1)", "str(0..5)",
    "text", "text(10..)", "text(500..600)",
    "int", "int(0..)", "int(5..9)", "int(-9..-3)", "int(..0)", "bigint", "int(7..7)",
    "float", "float(0..1)", "float(-2..-1)", "float(1.5..)",
    "decimal", "decimal(12,2, 0..)", "decimal(15,10)", "decimal(5,0)", "decimal(2,2)",
    "decimal(4,1, 10..20)", "decimal(6,2, -5..-1)",
    "bool", "bool = false", "datetime", "date", "uuid", "json", "json = []", "json = {}",
    "email", "email(..20)", "url", "url(..30)", "enum[a,b,c]", "enum[a]", "enum[a,b] = b",
]  # fmt: skip


def field_of(line: str) -> Field:
    found = read_line("some_field", line)
    assert isinstance(found, Field)
    return found


def adapter_of(field: Field) -> TypeAdapter[Any]:
    """Return what validates the field as its generated schema would."""
    view = view_field(field, owner="Thing", taken=(), hidden=(), thorough=True)
    source = view.choices or view.alias_of or view.annotation.removesuffix(" | None")
    return TypeAdapter(eval(source, NAMES))  # the source is ours


def value(source: str, **names: int) -> Any:
    return eval(source, names)


def through_json(adapter: TypeAdapter[Any], sent: object) -> object:
    """Return what an answer shows of a value that was sent."""
    return json.loads(adapter.dump_json(adapter.validate_json(json.dumps(sent))))


@pytest.mark.parametrize("line", LINES)
def test_good_values_are_taken_and_come_back_as_they_were_sent(line: str) -> None:
    field = field_of(line)
    adapter, good = adapter_of(field), samples(field)
    for source in (good.valid, good.other):
        assert through_json(adapter, value(source)) == value(source)


@pytest.mark.parametrize("line", LINES)
def test_numbered_values_are_good_and_all_different(line: str) -> None:
    field = field_of(line)
    adapter, numbered = adapter_of(field), samples(field).numbered
    if numbered is not None:
        values = [value(numbered, n=n) for n in (1, 2, 3)]
        assert [through_json(adapter, one) for one in values] == values
        assert len({str(one) for one in values}) == 3


@pytest.mark.parametrize("line", LINES)
def test_wrong_values_are_refused(line: str) -> None:
    field = field_of(line)
    adapter = adapter_of(field)
    for label, source in refused(field, thorough=True):
        with pytest.raises(ValidationError):
            adapter.validate_json(json.dumps(value(source)))
        assert label


@pytest.mark.parametrize("line", ["decimal(15,10)", "decimal(15,14)", "decimal(15,0)"])
def test_decimals_take_as_many_digits_as_they_have(line: str) -> None:
    field = field_of(line)
    longest = "9" * ((field.precision or 0) - (field.scale or 0))
    assert str(adapter_of(field).validate_python(longest)).startswith(longest)


@pytest.mark.parametrize("line", [line for line in LINES if line != "bool"])
def test_there_is_something_wrong_to_try_for_every_type(line: str) -> None:
    assert list(refused(field_of(line), thorough=True))


def test_what_holds_for_a_type_is_tried_once() -> None:
    field = field_of("str(3..64)")
    labels = {label for label, _ in refused(field, thorough=True)}
    fewer = {label for label, _ in refused(field, thorough=False)}
    assert labels - fewer == {"with NUL", "of another type"}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_texts_keep_any_bounds(low: int, more: int) -> None:
    field = field_of(f"str({low}..{max(low + more, 1)})")
    good = samples(field)
    for source in (good.valid, good.other):
        adapter_of(field).validate_python(value(source))


@settings(max_examples=60, deadline=None)
@given(st.integers(-(2**40), 2**40), st.integers(0, 2**40))
def test_integers_keep_any_bounds(low: int, more: int) -> None:
    field = field_of(f"int({low}..{low + more})")
    adapter, good = adapter_of(field), samples(field)
    adapter.validate_python(value(good.valid))
    adapter.validate_python(value(good.other))
    for _, source in refused(field, thorough=True):
        with pytest.raises(ValidationError):
            adapter.validate_python(value(source))
