"""TYPE001: functions without annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_CODES: Final = ("ANN001", "ANN201", "ANN202")
_FILES: Final = 5  # more of them are one finding
_NAMED: Final = 5


def find(review: Review) -> Iterator[Finding]:
    """Find what ruff's ANN finds in functions that requests run: one finding for each file.

    If many files have some, it is one finding for all.
    """
    by_file: dict[str, dict[str, Function]] = {}
    for lint, _ in review.reached_lints(*_CODES):
        function = review.function_around(lint.file, lint.line)
        if function is not None:
            by_file.setdefault(lint.file, {})[function.name] = function
    if len(by_file) > _FILES:
        listed = [function for functions in by_file.values() for function in functions.values()]
        yield _finding(listed, f" in {len(by_file)} files")
        return
    for functions in by_file.values():
        yield _finding(list(functions.values()), "")


def _finding(functions: list[Function], where: str) -> Finding:
    listed = sorted(functions, key=lambda function: (function.file, function.line))
    names = ", ".join(f"`{function.name}`" for function in listed[:_NAMED])
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return RULE.found(
        f"not annotated: {names}{more}{where}", file=listed[0].file, line=listed[0].line
    )


RULE = Rule(
    id="TYPE001",
    title="Functions are not annotated",
    severity="note",
    how="source",
    why="No checker follows a value through them, and neither does this review: what it cannot "
    "type, it says nothing about.",
    fix="annotate parameters and what is returned, and run a type checker in CI",
    seed='003 "Type hints on all functions"',
    expected="code that no request reaches, `self`, special methods, ruff's `noqa` comments.",
    bad="""
from fastapi import FastAPI

app = FastAPI()


@app.get("/notes")
def notes():  # finding
    return double([1])


def double(numbers):
    return numbers * 2
""",
    good="""
from fastapi import FastAPI

app = FastAPI()


class Notes:
    def __init__(self, first: int):
        self.first = first

    def all(self) -> list[int]:
        return [self.first]


@app.get("/notes")
def notes() -> list[int]:
    return Notes(1).all()


def never_called(numbers):
    return numbers
""",
    find=find,
)
