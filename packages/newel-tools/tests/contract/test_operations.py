"""What changes around the schemas of an operation, and breaks nobody or somebody."""

from typing import Any

import pytest

from newel_tools.contract.contract import compare
from newel_tools.openapi.document import Document


def api(**operation: Any) -> Document:
    operation.setdefault("responses", {"204": {"description": ""}})
    return Document({"openapi": "3.1.0", "paths": {"/a": {"post": operation}}})


def parameter(**more: Any) -> dict[str, Any]:
    return {"parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}, **more}]}


def body(schema: Any, **more: Any) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": schema}, **more}}


JSON = {"content": {"application/json": {"schema": {"type": "string"}}}}
READ_ONLY = {"type": "object", "properties": {"id": {"readOnly": True}}}

CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {"operationId": "a"}, ["api-operation-id-added"]),
    ({"operationId": "a"}, {}, ["api-operation-id-removed"]),
    (parameter(), parameter(deprecated=True), ["request-parameter-deprecated"]),
    (parameter(deprecated=True), parameter(), ["request-parameter-reactivated"]),
    (parameter(deprecated=True), {}, ["request-parameter-removed-with-deprecation"]),
    (parameter(schema=None), parameter(schema=None), []),
    ({"parameters": [{"name": "q", "in": "query", **JSON}]}, parameter(), []),
    (parameter(style="pipeDelimited"), parameter(), ["request-parameter-style-changed!"]),
    ({}, body({}), ["request-body-added-optional"]),
    (body({}), body({"schema": {}}), ["request-body-media-type-schema-added!"]),
    (body({"schema": {}}), body({}), ["request-body-media-type-schema-removed"]),
    (body({}, required=True), body({}), ["request-body-became-optional"]),
    (body({"schema": READ_ONLY}), body({"schema": {"type": "object"}}), []),
    (
        {"responses": {"200": {"headers": {"X-A": JSON}}}},
        {"responses": {"200": {"headers": {"x-a": {"schema": {"type": "string"}}}}}},
        [],
    ),
    (
        {"responses": {"200": {"headers": {"X-A": JSON}}}},
        {"responses": {"200": {"headers": {"X-A": {"schema": {"type": "integer"}}}}}},
        ["response-header-type-changed!"],
    ),
    (
        {"responses": {"2XX": {"description": ""}}},
        {"responses": {"default": {"description": ""}}},
        ["response-success-status-removed!", "response-non-success-status-added"],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_each_change_has_its_name_and_only_some_break(old, new, expected):
    found = compare(api(**old), api(**new))

    assert [f"{change.rule}{'!' if change.breaks else ''}" for change in found] == expected


@pytest.mark.parametrize(
    ("option", "was", "is_now", "breaks"),
    [
        ("type", "integer", "string", False),
        ("type", "string", "integer", True),
        ("format", "int32", "int64", False),
    ],
)
def test_what_travels_as_text_may_become_text(option, was, is_now, breaks):
    def sent(value: str) -> Document:
        schema = {"type": "integer", option: value}
        return api(**parameter(schema=schema))

    assert any(change.breaks for change in compare(sent(was), sent(is_now))) is breaks


def test_a_form_is_text_and_json_is_not():
    def sent(kind: str, media: str) -> Document:
        schema = {"type": "object", "properties": {"n": {"type": kind}}}
        content = {media: {"schema": schema}}
        return api(requestBody={"content": content})

    form = "application/x-www-form-urlencoded"
    loose = compare(sent("integer", form), sent("string", form))
    strict = compare(sent("integer", "application/json"), sent("string", "application/json"))

    assert [change.breaks for change in strict] == [True]
    assert [change.breaks for change in loose] == [False]
