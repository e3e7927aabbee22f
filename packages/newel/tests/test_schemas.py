"""Input is strict, bounded and storable; output shows what it declares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from newel import problems
from newel.clock import utc_now
from newel.db import Database
from newel.entity import Entity
from newel.schemas import (
    JSON_BYTES,
    JSON_LEVELS,
    EntityRead,
    InputModel,
    Int32,
    Int64,
    JsonArray,
    JsonObject,
    ReadModel,
    Text,
    omittable,
)

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


class Machine(Entity):
    __tablename__ = "machines"

    config: Mapped[dict[str, Any]] = mapped_column(JSON)


class Configured(InputModel, ReadModel):
    config: JsonObject


def nested(levels: int) -> str:
    """Return an object with that many levels, itself counted."""
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def long(size_bytes: int) -> str:
    """Return an object of that many bytes."""
    return '{"a": "' + "\u00e9" * ((size_bytes - 9) // 2) + "x" * ((size_bytes - 9) % 2) + '"}'


REFUSED_JSON = {
    "not a number": ('{"a": NaN}', "json_number"),
    "infinite": ('{"a": [-Infinity]}', "json_number"),
    "infinite by size": ('{"a": {"b": 1e999}}', "json_number"),
    "NUL": (r'{"a": "x\u0000"}', "json_nul"),
    "NUL in a name": (r'{"a": [{"\u0000": 1}]}', "json_nul"),
    "half a character": (r'{"a": "\ud800"}', "json_unicode"),
    "half a character in a name": (r'{"a": {"\udfff": 1}}', "json_unicode"),
    "two halves in two texts": (r'{"a": ["\ud83d", "\ude00"]}', "json_unicode"),
    "too deep": (nested(JSON_LEVELS + 1), "json_too_deep"),
    "far too deep": (nested(900), "json_too_deep"),
    "too long": (long(JSON_BYTES + 1), "json_too_long"),
    "too many values": ('{"a": [' + "[]," * 400_000 + "[]]}", "json_too_long"),
    "too many names": (json.dumps(dict.fromkeys(map(str, range(1001)), 1)), "too_long"),
    "no object": ("[]", "dict_type"),
    "nothing": ("null", "dict_type"),
}


@pytest.fixture(scope="module")
def machines() -> Iterator[TestClient]:
    app = FastAPI()
    problems.install(app)

    @app.post("/machines")
    async def configure(data: Configured) -> Configured:
        return data

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(("text", "code"), REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_json_that_a_database_cannot_give_back_is_refused(
    machines: TestClient, text: str, code: str
) -> None:
    body = f'{{"config": {text}}}'
    answer = machines.post(
        "/machines", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("#/config", code)]


STORED_JSON = {
    "nothing": "{}",
    "every kind": '{"a": [null, true, -0.5, 1e300, "x", {"b": {}}], "": 12345678901234567890}',
    "whole characters": r'{"\ud83d\ude00": "\ud83d\ude00 \\u0000 \u0001\u007f"}',
    "as deep as it may be": nested(JSON_LEVELS),
    "as long as it may be": long(JSON_BYTES),
    "as many names as it may have": json.dumps(dict.fromkeys(map(str, range(1000)), 1)),
}


@pytest.mark.anyio
@pytest.mark.parametrize("text", STORED_JSON.values(), ids=STORED_JSON)
async def test_other_json_comes_back_as_it_was_sent(
    database: Database, machines: TestClient, text: str
) -> None:
    sent = {"config": json.loads(text)}
    answer = machines.post("/machines", json=sent)
    assert (answer.status_code, answer.json()) == (200, sent)
    async with database.write(None) as work, work.as_system("arrange"):
        machine = Machine(**Configured.model_validate(sent).model_dump())
        work.session.add(machine)
    async with database.read(None) as work, work.as_system("look"):
        stored = await work.session.get_one(Machine, machine.id)
        assert Configured.model_validate(stored).model_dump(mode="json") == sent


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ValidationError):
        Configured.model_validate({"config": {"at": utc_now()}})
    with pytest.raises(ValidationError):
        Configured.model_validate({"config": {1: "x"}})


def test_an_array_has_the_same_bounds() -> None:
    array = TypeAdapter(JsonArray)
    assert array.validate_python([1, {"a": []}]) == [1, {"a": []}]
    for wrong in ([float("nan")], ["\0"], [0] * 1001, {}):
        with pytest.raises(ValidationError):
            array.validate_python(wrong)


def test_a_refusal_does_not_repeat_the_json() -> None:
    with pytest.raises(ValidationError) as caught:
        Configured.model_validate({"config": {"hunter2": "\0"}})
    assert "hunter2" not in str(caught.value)
