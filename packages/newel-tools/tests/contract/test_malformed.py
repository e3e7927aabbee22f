"""Documents are written by hand, too: whatever stands where, there is no traceback."""

import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from newel_tools.consult.operation import describe
from newel_tools.contract.contract import compare
from newel_tools.openapi.document import Document

JUNK: list[Any] = [None, 3, "x", [], {}, True, [None], {"a": None}, [3], -1.5]
EVERY = 10  # of 425 places, a different tenth for each kind of junk


def document() -> dict[str, Any]:
    path = Path(__file__).with_name("mutations.py")
    spec = importlib.util.spec_from_file_location("mutations_of_malformed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DOCUMENT


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*above, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from places(value, (*above, number))


@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_junk_anywhere_is_no_traceback(junk):
    whole = document()
    known = [place for place in places(whole) if place and place != ("openapi",)]
    assert len(known) > 400
    for place in known[JUNK.index(junk) % EVERY :: EVERY]:
        broken = copy.deepcopy(whole)
        node: Any = broken
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = copy.deepcopy(junk)
        old, new = Document(whole), Document(broken)

        compare(old, new)
        compare(new, old)
        for operation in new.operations.values():
            describe(new, operation, needs="")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "required": True},
        {"type": "object", "properties": None},
        {"type": "integer", "minimum": "1"},
        {"allOf": None, "type": "string"},
        {"enum": "a"},
    ],
)
def test_a_keyword_of_a_wrong_kind_says_nothing(schema):
    def api(schema: dict[str, Any]) -> Document:
        content = {"application/json": {"schema": schema}}
        answer = {"200": {"description": "", "content": content}}
        return Document({"openapi": "3.0.3", "paths": {"/a": {"get": {"responses": answer}}}})

    meant = {"type": schema["type"]} if "type" in schema else {}

    assert compare(api(schema), api(meant)) == []
