"""What runs before a project's tests: fixtures and setups, found as pytest finds them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from newel_tools.check.review import Review
from newel_tools.facts.source import Function, Module

__all__ = ["Fixtures", "is_above"]

_SETUPS: Final = frozenset({"setup", "setup_method", "setUp", "asyncSetUp", "setup_function"})


class Fixtures:
    """Answers what a test is given; built once for a review."""

    def __init__(self, review: Review) -> None:
        self._calls = review.calls
        self._functions = [
            function for function in review.source.functions.values() if function.module.is_test
        ]

    def scope(self, test: Function) -> Iterator[Function]:
        """Yield a test, the fixtures and setups that run before it, and what they all call."""
        pending, seen = [test, *self._automatic(test)], set[Function]()
        while pending:
            function = pending.pop()
            if function in seen:
                continue
            seen.add(function)
            yield function
            used = (self.named(argument.arg, function) for argument in function.arguments)
            pending += [fixture for fixture in used if fixture is not None]
            pending += [
                call.function
                for call in self._calls.of(function)
                if call.function is not None and call.function.module.is_test
            ]

    def named(self, name: str, user: Function) -> Function | None:
        """Return the fixture that a parameter gets: of the file, or the nearest `conftest.py`."""
        found = [
            fixture
            for fixture in self._by_name.get(name, ())
            if fixture is not user
            and fixture.owner in (None, user.owner)
            and is_above(fixture.module, user.module)
        ]
        return max(
            found,
            key=lambda one: (one.owner is not None, one.file == user.file, one.file.count("/")),
            default=None,
        )

    def _automatic(self, test: Function) -> Iterator[Function]:
        for function in self._unasked:
            is_setup = function.node.name in _SETUPS
            near = (test.owner,) if is_setup else (None, test.owner)
            if function.owner in near and is_above(function.module, test.module):
                yield function

    @cached_property
    def _unasked(self) -> list[Function]:
        """The setups, and the fixtures that nobody has to name."""
        return [
            function
            for function in self._functions
            if function.node.name in _SETUPS
            or any("autouse=True" in ast.unparse(item) for item in function.node.decorator_list)
        ]

    @cached_property
    def _by_name(self) -> dict[str, list[Function]]:
        found: dict[str, list[Function]] = {}
        for function in self._functions:
            for decorator in map(ast.unparse, function.node.decorator_list):
                if "fixture" in decorator:
                    named = re.search(r"\bname='(\w+)'", decorator)
                    name = named[1] if named else function.node.name
                    found.setdefault(name, []).append(function)
        return found


def is_above(module: Module, test: Module) -> bool:
    """Tell whether a file's fixtures are the test's: the same, or a `conftest.py` above."""
    folder, _, name = module.file.rpartition("/")
    above = name == "conftest.py" and (not folder or test.file.startswith(f"{folder}/"))
    return module is test or above
