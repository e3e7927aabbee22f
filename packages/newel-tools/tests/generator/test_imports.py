"""Import statements: exactly those that a module needs, in ruff's order."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

from newel_tools.generator.imports import KNOWN, UnknownName, with_imports

RULES = ("--isolated", "--select", "F,I", "--config", "lint.isort.known-first-party=['shop']")


def imported(code: str, **own: str) -> str:
    return with_imports(code, own=own, package="shop")


def names(code: str) -> set[str]:
    statements = [node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in statements for alias in node.names}


def ruff_finds(code: str) -> str:
    run = [sys.executable, "-m", "ruff", "check", *RULES, "--output-format", "concise", "-"]
    return subprocess.run(run, input=code, text=True, capture_output=True, check=False).stdout


def test_what_is_used_is_imported_and_nothing_else() -> None:
    code = imported('"""Doc."""\n\nx: Annotated[UUID, Field()]\n')
    assert names(code) == {"Annotated", "UUID", "Field"}


def test_the_docstring_stays_on_top() -> None:
    code = imported('"""Doc."""\n\n\nclass A(Entity):\n    pass\n')
    assert code.startswith('"""Doc."""\n\nfrom newel.entity import Entity\n\n\nclass A(Entity)')


def test_the_order_is_ruffs() -> None:
    code = imported(
        '"""Doc."""\nvalues = [JSON, Column, or_, select, BigInteger, UTC, datetime, Any, Entity, '
        "Agent, AGENTS, pytest, re, uuid4, UUID, find]\n",
        Agent="shop.agents.models",
        AGENTS="shop.agents.models",
        find="shop.agents.models",
    )
    assert "All checks passed" in ruff_finds(code)


def test_ruff_would_find_another_order() -> None:
    """The negative control of the test above."""
    code = "import re\nfrom typing import Any\n\nimport pytest\n\nx = [Any, re, pytest]\n"
    assert "All checks passed" in ruff_finds(code)
    swapped = code.replace("import re\nfrom typing import Any", "from typing import Any\nimport re")
    assert "I001" in ruff_finds(swapped)


def test_names_of_the_service_go_before_those_that_are_known() -> None:
    code = imported("x = Text\n", Text="shop.notes.models")
    assert "from shop.notes.models import Text" in code


def test_a_name_that_nothing_imports_is_a_mistake_in_the_template() -> None:
    with pytest.raises(UnknownName, match="Nonsense"):
        imported("x = Nonsense\n")


def test_arguments_and_locals_are_not_imported() -> None:
    code = imported("def f(date: int) -> int:\n    select = date\n    return select\n")
    assert names(code) == set()


def test_a_field_of_that_name_does_not_hide_what_the_module_uses() -> None:
    code = imported("Date = date\n\n\nclass A:\n    date: Date\n")
    assert names(code) == {"date"}


def test_builtins_and_own_definitions_are_not_imported() -> None:
    assert (
        names(imported("def helper() -> list[int]:\n    return [1]\n\n\nx = helper()\n")) == set()
    )


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_known_name_is_where_the_table_says(name: str) -> None:
    module = KNOWN[name]
    if module:
        assert hasattr(importlib.import_module(module), name)
    else:
        importlib.import_module(name)
