"""Whatever breaks a client is called by its name, and nothing else is."""

import importlib.util
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from newel_tools.contract.changes import Change
from newel_tools.contract.contract import compare
from newel_tools.contract.rules import RULES
from newel_tools.openapi.document import Document

TODAY = date(2026, 11, 21)


def load(name: str) -> Any:
    """Import a module that lies beside this one: these tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mutations = load("mutations")
mutated = mutations.mutated


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    return compare(Document(old), Document(new), today=TODAY)


@pytest.mark.parametrize(
    ("edits", "rule"),
    [(edits, rule) for _, edits, rule in mutations.BREAKING],
    ids=[title for title, _, _ in mutations.BREAKING],
)
def test_a_break_is_found_and_named(edits, rule):
    found = changes(*mutated(edits))

    assert rule in {change.rule for change in found if change.breaks}


@pytest.mark.parametrize(
    "edits",
    [edits for _, edits in mutations.SAFE],
    ids=[title for title, _ in mutations.SAFE],
)
def test_what_is_safe_breaks_nothing(edits):
    found = changes(*mutated(edits))

    assert [(change.rule, change.where) for change in found if change.breaks] == []


def test_there_are_as_many_as_promised():
    assert len(mutations.BREAKING) >= 40
    assert len({rule for _, _, rule in mutations.BREAKING}) >= 40
    assert len(mutations.SAFE) >= 20
    assert len(RULES) >= 40


def test_a_document_is_its_own_equal():
    assert changes(*mutated({})) == []
