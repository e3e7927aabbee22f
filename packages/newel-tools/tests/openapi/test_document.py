"""Documents as they are found: JSON, YAML, references, shared parameters."""

from pathlib import Path

import pytest

from newel_tools.openapi.document import Document, DocumentError, read_document

YAML = """
openapi: 3.0.3
info: {title: Shop, version: 2026-01-31}
paths:
  /items/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer}}
      - $ref: '#/components/parameters/Trace'
    get:
      parameters:
        - {name: accept, in: header, schema: {type: string}}
        - {name: X-TRACE, in: header, schema: {type: integer}}
      responses:
        200: &answer {description: ok}
        201: *answer
components:
  parameters:
    Trace: {name: x-trace, in: header, schema: {type: string}}
"""


def read(tmp_path: Path, text: str) -> Document:
    path = tmp_path / "openapi.yaml"
    path.write_text(text)
    return read_document(path)


def test_yaml_is_read_as_json_would_be(tmp_path: Path):
    document = read(tmp_path, YAML)
    (operation,) = document.operations.values()

    assert set(operation.content["responses"]) == {"200", "201"}
    assert document.content["info"]["version"] == "2026-01-31"
    assert operation.name == "GET /items/{id}"


def test_parameters_of_a_path_are_those_of_its_operations(tmp_path: Path):
    document = read(tmp_path, YAML)
    (operation,) = document.operations.values()
    parameters = document.parameters(operation)

    assert set(parameters) == {("path", "1"), ("header", "x-trace")}
    assert parameters["header", "x-trace"]["schema"] == {"type": "integer"}


def test_aliases_within_aliases_are_read_once(tmp_path: Path):
    lines = ["openapi: 3.1.0", "paths: {}", "x-0: &a0 [1]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    assert read(tmp_path, "\n".join(lines)).operations == {}


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(DocumentError, match="it is no text"):
        read_document(tmp_path / "a.json")


def document(**schemas: object) -> Document:
    return Document({"openapi": "3.1.0", "paths": {}, "components": {"schemas": schemas}})


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_references_are_followed_to_their_end():
    known = document(A=ref("B"), B={"type": "string"}, **{"x/y~z": {"type": "integer"}})

    assert known.resolve(ref("A")) == ({"type": "string"}, "A")
    assert known.resolve({**ref("B"), "description": "mine"}) == (
        {"type": "string", "description": "mine"},
        "B",
    )
    assert known.resolve({"$ref": "#/components/schemas/x~1y~0z"})[0] == {"type": "integer"}


@pytest.mark.parametrize("reference", ["#/components/schemas/None", "other.yaml#/A", "#/openapi"])
def test_a_reference_that_leads_nowhere_stays(reference):
    assert document().resolve({"$ref": reference})[0] == {"$ref": reference}


def test_references_in_a_circle_end():
    assert document(A=ref("B"), B=ref("A")).resolve(ref("A"))[1] == "A"


def test_a_caller_is_known_by_what_it_sends():
    schemes = {
        "a": {"type": "http", "scheme": "bearer"},
        "b": {"type": "oauth2"},
        "c": {"type": "apiKey", "in": "cookie", "name": "sid"},
        "d": {"type": "mutualTLS"},
    }
    known = Document(
        {
            "openapi": "3.1.0",
            "paths": {
                "/a": {"get": {"security": [{"a": [], "c": []}, {"b": ["x"]}, {"d": []}, {}]}},
                "/b": {"get": {}},
            },
            "components": {"securitySchemes": schemes},
        }
    )
    first, second = known.operations.values()

    assert known.security(first) == [
        {"Authorization: Bearer": frozenset(), "cookie sid": frozenset()},
        {"Authorization: Bearer": frozenset({"x"})},
        {"d": frozenset()},
        {},
    ]
    assert known.security(second) == [{}]
