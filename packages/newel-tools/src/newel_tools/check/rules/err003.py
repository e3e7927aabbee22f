"""ERR003: an exception is swallowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import libcst

from newel_tools.check.finding import Finding
from newel_tools.check.mend import LineTransformer
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_SAID: Final = {
    "E722": "a bare `except` catches even SystemExit and the end of a task",
    "S110": "any exception is passed over in silence",
    "S112": "any exception is passed over in silence, and the loop goes on",
}


def find(review: Review) -> Iterator[Finding]:
    """Find ruff's E722, S110 and S112 in code that requests run."""
    seen: set[tuple[str, int]] = set()
    for lint, reach in review.reached_lints(*_SAID):
        if (lint.file, lint.line) not in seen:
            seen.add((lint.file, lint.line))
            yield RULE.found(_SAID[lint.code], file=lint.file, line=lint.line, route=reach.route)


class _NameException(LineTransformer):
    """`except:` becomes `except Exception:`, which lets the end of a task and of a program pass."""

    def leave_ExceptHandler(  # noqa: N802 - the name that libcst calls it by
        self, original_node: libcst.ExceptHandler, updated_node: libcst.ExceptHandler
    ) -> libcst.ExceptHandler:
        if updated_node.type is not None or not self.is_marked(original_node):
            return updated_node
        self.note(original_node)
        space = libcst.SimpleWhitespace(" ")
        return updated_node.with_changes(
            type=libcst.Name("Exception"), whitespace_after_except=space
        )


RULE = Rule(
    id="ERR003",
    title="An exception is swallowed",
    severity="note",
    how="source",
    why="The fault that is hidden here shows up later, somewhere else, without its cause.",
    fix="catch the exception that is expected, and log what is not raised again",
    seed='"Forget error handling"',
    expected="code that no request reaches, exceptions that are named, `contextlib.suppress`, "
    "ruff's `noqa` comments.",
    bad="""
from fastapi import FastAPI

app = FastAPI()


@app.get("/quiet")
def quiet() -> int:
    try:
        return 1 // 0
    except Exception:  # finding
        pass
    try:
        return 1 // 0
    except:  # finding
        return 0


@app.get("/loop")
def loop() -> int:
    for number in range(3):
        try:
            return 1 // number
        except Exception:  # finding
            continue
    return 0
""",
    good="""
import logging
from contextlib import suppress

from fastapi import FastAPI

app = FastAPI()


@app.get("/quiet")
def quiet() -> int:
    with suppress(KeyError):
        return {}["a"]
    try:
        return 1 // 0
    except ZeroDivisionError:
        pass
    try:
        return 1 // 0
    except Exception:
        logging.exception("dividing")
    return 0


def never_called() -> None:
    try:
        quiet()
    except Exception:
        pass
""",
    find=find,
    is_habit=True,
    mend=_NameException,
)
