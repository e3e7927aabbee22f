"""Input is strict, bounded and storable; output shows what it declares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any
from uuid import uuid4

import pytest
from pydantic import Field, ValidationError

from newel.clock import utc_now
from newel.schemas import EntityRead, InputModel, Int32, Int64, Text, omittable

Name = Annotated[Text, Field(min_length=3, max_length=10)]


class Create(InputModel):
    name: Name
    note: Annotated[Text, Field(max_length=10)] | None = None
    count: Int32 = 0
    total: Int64 = 0


class Update(InputModel):
    name: Name = omittable()
    note: Text | None = None


class Read(EntityRead):
    name: str


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "missing"),
        ({"name": None}, "string_type"),
        ({"name": "ab"}, "string_too_short"),
        ({"name": "a" * 11}, "string_too_long"),
        ({"name": "a\x00bc"}, "string_pattern_mismatch"),
        ({"name": "ab\ud800"}, "string_unicode"),
        ({"name": "abc", "role": "admin"}, "extra_forbidden"),
        ({"name": "abc", "count": 2**31}, "less_than_equal"),
        ({"name": "abc", "count": -(2**31) - 1}, "greater_than_equal"),
        ({"name": "abc", "total": 2**63}, "less_than_equal"),
        ({"name": "abc", "total": 10**4000}, "less_than_equal"),
    ],
)
def test_input_that_no_database_stores_is_refused(body: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Create.model_validate(body)
    assert [error["type"] for error in caught.value.errors()] == [kind]
    assert "admin" not in str(caught.value)


def test_any_other_text_passes() -> None:
    for name in ("abc", "a\nb", "日本語", "🐘🐘🐘"):
        assert Create(name=name).name == name
    assert Create(name="abc", count=2**31 - 1, total=-(2**63)).total == -(2**63)


def test_a_patch_changes_what_was_sent() -> None:
    assert Update().changes() == {}
    assert Update(note=None).changes() == {"note": None}
    assert Update(name="abc").changes() == {"name": "abc"}


def test_a_patch_refuses_null_where_a_value_belongs() -> None:
    with pytest.raises(ValidationError):
        Update.model_validate({"name": None})


def test_an_omittable_field_has_no_default_in_the_api_docs() -> None:
    schema = Update.model_json_schema()
    assert schema["properties"]["name"] == {
        "title": "Name",
        "type": "string",
        "minLength": 3,
        "maxLength": 10,
        "pattern": "^[^\\x00]*$",
    }
    assert "required" not in schema
    assert schema["additionalProperties"] is False


def test_output_shows_declared_attributes_only() -> None:
    now = utc_now()
    row = SimpleNamespace(
        id=uuid4(), created_at=now, updated_at=now, version=1, name="a", password_hash="x"
    )
    assert set(Read.model_validate(row).model_dump()) == {
        *("id", "created_at", "updated_at", "version", "name"),
    }
