"""Names that took the place of others."""

import pytest

from newel_tools.contract.contract import compare
from newel_tools.contract.renames import guess_renames
from newel_tools.openapi.document import Document


def always(_one: str, _other: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("gone", "added", "expected"),
    [
        ([], ["a"], {}),
        (["a"], [], {}),
        (["name"], ["title"], {"name": "title"}),
        (["created_at"], ["createdAt"], {"created_at": "createdAt"}),
        (["name", "created_at"], ["createdAt", "x"], {"created_at": "createdAt"}),
        (
            ["first_name", "last_name"],
            ["lastName", "firstName"],
            {"first_name": "firstName", "last_name": "lastName"},
        ),
        (["a", "b"], ["x", "y"], {}),
        ([f"a{n}" for n in range(60)], [f"a{n}_" for n in range(60)], {}),
    ],
)
def test_alike_names_are_paired_once(gone, added, expected):
    assert guess_renames(gone, added, always) == expected


def test_another_kind_of_value_is_no_rename():
    assert guess_renames(["name"], ["title"], lambda _one, _other: False) == {}


def agents(*fields: str, path: str = "/agents", query: str = "page") -> Document:
    schema = {
        "type": "object",
        "required": list(fields),
        "properties": {name: {"type": "string"} for name in fields},
    }
    answer = {"description": "", "content": {"application/json": {"schema": schema}}}
    parameter = {"name": query, "in": "query", "schema": {"type": "integer"}}
    operation = {"parameters": [parameter], "responses": {"200": answer}}
    return Document({"openapi": "3.1.0", "paths": {path: {"get": operation}}})


def test_a_renamed_field_is_asked_about():
    found = compare(agents("id", "name"), agents("id", "title"))
    (gone,) = [change for change in found if change.breaks]

    assert gone.guess == "title"
    assert gone.text == "`name` is gone; renamed to `title`?"


def test_a_renamed_parameter_is_asked_about():
    (gone,) = [c for c in compare(agents(), agents(query="page_number")) if c.breaks]

    assert gone.rule == "request-parameter-removed"
    assert gone.guess == "page_number"


def test_a_moved_operation_is_asked_about():
    (gone,) = [c for c in compare(agents("id"), agents("id", path="/v2/agents")) if c.breaks]

    assert gone.guess == "GET /v2/agents"
    assert gone.text.endswith("renamed to `GET /v2/agents`?")


def test_an_operation_that_answers_otherwise_was_not_moved():
    (gone,) = [c for c in compare(agents("id"), agents("no", path="/v2/agents")) if c.breaks]

    assert gone.guess is None
