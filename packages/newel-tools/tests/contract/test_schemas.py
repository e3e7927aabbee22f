"""Schemas that are easy to get wrong: recursive, nested, united, written otherwise."""

from typing import Any

import pytest

from newel_tools.contract.changes import Change
from newel_tools.contract.contract import compare
from newel_tools.openapi.document import Document


def api(schema: Any, *, sent: bool = False, version: str = "3.1.0", **schemas: Any) -> Document:
    content = {"application/json": {"schema": schema}}
    operation: dict[str, Any] = {"responses": {"204": {"description": ""}}}
    if sent:
        operation["requestBody"] = {"required": True, "content": content}
    else:
        operation["responses"]["200"] = {"description": "", "content": content}
    return Document(
        {
            "openapi": version,
            "paths": {"/x": {"post": operation}},
            "components": {"schemas": schemas},
        }
    )


def breaks(old: Document, new: Document) -> list[str]:
    return [change.rule for change in compare(old, new) if change.breaks]


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_schemas_that_contain_each_other_end():
    def forest(label: str) -> dict[str, Any]:
        return {
            "Tree": {"type": "object", "properties": {"kind": ref("Kind"), "up": ref("Tree")}},
            "Kind": {
                "type": "object",
                "required": [label],
                "properties": {label: {"type": "string"}, "trees": {"items": ref("Tree")}},
            },
        }

    old, new = api(ref("Tree"), **forest("a")), api(ref("Tree"), **forest("b"))

    assert breaks(old, old) == []
    assert "response-required-property-removed" in breaks(old, new)


def test_a_schema_that_is_part_of_itself_ends():
    loop = {"Loop": {"allOf": [ref("Loop"), {"type": "object"}]}, "Ref": ref("Ref")}

    assert breaks(api(ref("Loop"), **loop), api(ref("Loop"), **loop)) == []
    assert breaks(api(ref("Ref"), **loop), api(ref("Ref"), **loop)) == []


def test_a_reference_out_of_the_document_is_known_by_its_name():
    one, other = {"$ref": "other.json#/A"}, {"$ref": "other.json#/B"}

    assert breaks(api(one), api(dict(one))) == []
    assert breaks(api(one), api(other)) == ["response-body-type-changed"]


def test_a_change_is_known_by_the_nearest_named_schema():
    old = {"User": {"type": "object", "properties": {"address": ref("Address")}}}
    address = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
    (change,) = compare(
        api({"type": "array", "items": ref("User")}, **old, Address=address),
        api(
            {"type": "array", "items": ref("User")},
            **old,
            Address={**address, "properties": {"city": {"type": "integer"}}},
        ),
    )

    assert change.subject == "Address.city"
    assert change.where == "200 application/json: items/address/city"
    assert change.operation == "POST /x"


SPELLINGS: list[tuple[str, Any, Any]] = [
    ("null by version", {"type": "string", "nullable": True}, {"type": ["string", "null"]}),
    (
        "null beside a reference",
        {"nullable": True, "allOf": [ref("A")]},
        {"anyOf": [ref("A"), {"type": "null"}]},
    ),
    (
        "exclusive by flag and by number",
        {"type": "number", "minimum": 1, "exclusiveMinimum": True},
        {"type": "number", "exclusiveMinimum": 1},
    ),
    (
        "binary by format and by media type",
        {"type": "string", "format": "binary"},
        {"type": "string", "contentMediaType": "application/octet-stream"},
    ),
    ("no minimum", {"type": "string"}, {"type": "string", "minLength": 0}),
    (
        "an object without its type",
        {"properties": {"a": {}}},
        {"type": "object", "properties": {"a": True}},
    ),
    (
        "a list without its type",
        {"items": {"type": "string"}},
        {"type": "array", "items": {"type": "string"}},
    ),
    ("any, in two ways", {}, True),
    ("one alternative", {"anyOf": [ref("A")]}, ref("A")),
    (
        "properties in parts",
        {
            "allOf": [
                {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
                {"properties": {"a": {"maxLength": 3}, "b": {"type": "integer"}}},
            ]
        },
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"type": "integer"}},
        },
    ),
    (
        "the tighter of two bounds",
        {"allOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"minimum": 3, "maximum": 99}]},
        {"type": "integer", "minimum": 3, "maximum": 9},
    ),
    (
        "types and values that both allow",
        {
            "allOf": [
                {"type": ["string", "integer"], "enum": ["a", "b", 1]},
                {"type": "string", "enum": ["b", "a"]},
            ]
        },
        {"type": "string", "enum": ["a", "b"]},
    ),
    (
        "a closed part closes the whole",
        {
            "allOf": [
                {"type": "object", "additionalProperties": False},
                {"additionalProperties": True},
            ]
        },
        {"type": "object", "additionalProperties": False},
    ),
    (
        "items in parts",
        {"allOf": [{"type": "array", "items": {"type": "string"}}, {"items": {"maxLength": 3}}]},
        {"type": "array", "items": {"type": "string", "maxLength": 3}},
    ),
    (
        "alternatives in parts",
        {
            "allOf": [
                {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                {"anyOf": [{"minLength": 1}]},
            ]
        },
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minLength": 1}]},
    ),
    (
        "flags in parts",
        {"allOf": [{"type": "array", "uniqueItems": True}, {"uniqueItems": False}]},
        {"type": "array", "uniqueItems": True},
    ),
    (
        "a rest in parts",
        {
            "allOf": [
                {"type": "object", "additionalProperties": {"type": "string"}},
                {"additionalProperties": True},
            ]
        },
        {"type": "object", "additionalProperties": {"type": "string"}},
    ),
]


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize(
    ("one", "other"), [s[1:] for s in SPELLINGS], ids=[s[0] for s in SPELLINGS]
)
def test_two_spellings_are_one_schema(one, other, sent):
    known = {"A": {"type": "object", "properties": {"a": {"type": "string"}}}}
    first, second = (api(schema, sent=sent, **known) for schema in (one, other))

    assert compare(first, second) == []
    assert compare(second, first) == []


SENT: list[tuple[str, Any, Any, list[str]]] = [
    (
        "one became two",
        {"type": "string"},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        [],
    ),
    (
        "two became one that takes both",
        {"anyOf": [{"type": "number"}, {"type": "integer"}]},
        {"type": "number"},
        [],
    ),
    (
        "types widened",
        {"type": ["string", "integer"]},
        {"type": ["string", "integer", "boolean"]},
        [],
    ),
    (
        "types narrowed",
        {"type": ["string", "integer"]},
        {"type": "string"},
        ["request-body-list-of-types-narrowed"],
    ),
    (
        "types exchanged",
        {"type": ["string", "integer"]},
        {"type": ["string", "boolean"]},
        ["request-body-type-changed"],
    ),
    (
        "wholly other",
        {"type": "string"},
        {"anyOf": [{"type": "boolean"}, {"type": "integer"}]},
        ["request-body-any-of-removed"],
    ),
    (
        "null is new in a union",
        {"type": "string"},
        {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        [],
    ),
    (
        "null is gone from a union",
        {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ["request-body-became-not-nullable"],
    ),
    ("nothing is allowed", {"type": "object"}, False, ["request-property-not-changed"]),
    (
        "a smaller number",
        {"type": "integer", "format": "int64"},
        {"type": "integer", "format": "int32"},
        ["request-body-type-changed"],
    ),
    (
        "a larger number",
        {"type": "integer", "format": "int32"},
        {"type": "integer", "format": "int64"},
        [],
    ),
    (
        "one of which one is needed",
        {"type": "object", "properties": {"a": {}, "b": {}}},
        {
            "type": "object",
            "properties": {"a": {}, "b": {}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        ["request-property-became-required"],
    ),
    (
        "another name, the same members",
        {"oneOf": [{"type": "object", "properties": {"a": {}, "b": {}}}, {"type": "string"}]},
        {
            "oneOf": [
                {"type": "string"},
                {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}},
            ]
        },
        [],
    ),
    (
        "patterns of names",
        {"type": "object"},
        {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
        ["request-body-pattern-property-added"],
    ),
    (
        "what fits a pattern of names",
        {"type": "object", "patternProperties": {"^x": {"type": "string"}}},
        {"type": "object", "patternProperties": {"^x": {"type": "integer"}}},
        ["request-property-type-changed"],
    ),
    (
        "one less in front",
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "string"}]},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        ["request-body-prefix-items-removed"],
    ),
    (
        "tighter names",
        {"type": "object", "propertyNames": {"maxLength": 9}},
        {"type": "object", "propertyNames": {"maxLength": 3}},
        ["request-property-max-length-decreased"],
    ),
    (
        "more properties",
        {"type": "object"},
        {"type": "object", "minProperties": 1},
        ["request-property-min-properties-increased"],
    ),
    (
        "fewer properties",
        {"type": "object", "maxProperties": 3},
        {"type": "object", "maxProperties": 2},
        ["request-property-max-properties-decreased"],
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "expected"), [s[1:] for s in SENT], ids=[s[0] for s in SENT]
)
def test_of_what_is_sent(old, new, expected):
    assert breaks(api(old, sent=True), api(new, sent=True)) == expected


ANSWERED: list[tuple[str, Any, Any, list[str]]] = [
    (
        "one became two",
        {"type": "string"},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ["response-body-any-of-added"],
    ),
    (
        "two became one",
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "string"},
        [],
    ),
    (
        "types widened",
        {"type": "string"},
        {"type": ["string", "integer"]},
        ["response-body-list-of-types-widened"],
    ),
    ("types narrowed", {"type": ["string", "integer"]}, {"type": "string"}, []),
    ("anything", {"type": "string"}, {}, ["response-body-type-generalized"]),
    ("something of anything", {}, {"type": "string"}, []),
    (
        "a wider format",
        {"type": "integer", "format": "int32"},
        {"type": "integer", "format": "int64"},
        ["response-body-type-generalized"],
    ),
    (
        "a date where a time of day was",
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
        [],
    ),
    (
        "a map where there was an object",
        {"type": "object", "additionalProperties": False},
        {"type": "object"},
        [],
    ),
    ("a closed object", {"type": "object"}, {"type": "object", "additionalProperties": False}, []),
    (
        "a pattern of names is gone",
        {"type": "object", "patternProperties": {"^x": {}}},
        {"type": "object"},
        ["response-body-pattern-property-removed"],
    ),
    (
        "one more in front",
        {"type": "array", "prefixItems": []},
        {"type": "array", "prefixItems": [{}]},
        ["response-body-prefix-items-added"],
    ),
    (
        "a condition is gone",
        {"type": "object", "if": {"required": ["a"]}},
        {"type": "object"},
        ["response-body-if-removed"],
    ),
    (
        "a field to write became one to read",
        {"type": "object", "required": ["a"], "properties": {"a": {"writeOnly": True}}},
        {"type": "object", "required": ["a"], "properties": {"a": {}}},
        ["response-required-property-became-not-write-only"],
    ),
    ("a list became a constant", {"enum": ["a", "b"]}, {"const": "a"}, []),
    ("text became a list", {"type": "string"}, {"type": "string", "enum": ["a"]}, []),
]


@pytest.mark.parametrize(
    ("old", "new", "expected"), [s[1:] for s in ANSWERED], ids=[s[0] for s in ANSWERED]
)
def test_of_what_is_answered(old, new, expected):
    assert breaks(api(old), api(new)) == expected


NEWS: list[tuple[str, Any, Any, str]] = [
    (
        "read only",
        {"properties": {"a": {}}},
        {"properties": {"a": {"readOnly": True}}},
        "request-optional-property-became-read-only",
    ),
    (
        "deprecated",
        {"properties": {"a": {}}},
        {"properties": {"a": {"deprecated": True}}},
        "request-property-deprecated",
    ),
    (
        "reactivated",
        {"properties": {"a": {"deprecated": True}}},
        {"properties": {"a": {}}},
        "request-property-reactivated",
    ),
    (
        "a discriminator",
        {"type": "object"},
        {"type": "object", "discriminator": {"propertyName": "a"}},
        "request-body-discriminator-added",
    ),
    (
        "no discriminator",
        {"type": "object", "discriminator": {"propertyName": "a"}},
        {"type": "object"},
        "request-body-discriminator-removed",
    ),
    (
        "another discriminator",
        {"type": "object", "discriminator": {"propertyName": "a"}},
        {"type": "object", "discriminator": {"propertyName": "b"}},
        "request-body-discriminator-property-name-changed",
    ),
    (
        "a default",
        {"type": "string"},
        {"type": "string", "default": "a"},
        "request-body-default-value-added",
    ),
    (
        "no default",
        {"type": "string", "default": "a"},
        {"type": "string"},
        "request-body-default-value-removed",
    ),
]


@pytest.mark.parametrize(("old", "new", "rule"), [s[1:] for s in NEWS], ids=[s[0] for s in NEWS])
def test_what_breaks_nobody_is_still_said(old, new, rule):
    found: list[Change] = compare(api(old, sent=True), api(new, sent=True))

    assert [(change.rule, change.breaks) for change in found] == [(rule, False)]
