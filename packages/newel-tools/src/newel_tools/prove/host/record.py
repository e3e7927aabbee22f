"""What happened inside the application while it answered one request."""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

__all__ = ["Places", "Record", "current", "in_background"]

_STATEMENTS = 400  # of one request; more are counted, and not kept
_SQL_CHARACTERS = 2_000

current: ContextVar[Record | None] = ContextVar("newel_prove_record", default=None)
"""The record of the request at hand; it follows the request into threads and greenlets."""

in_background: ContextVar[bool] = ContextVar("newel_prove_background", default=False)


class Record:
    """Statements, commits, errors and refused actions of one request, in their order."""

    def __init__(self, *, fail_commits: bool = False, meeting: Any = None) -> None:
        self.fail_commits = fail_commits
        self.meeting = meeting
        self.answered = False
        self.count = 0
        self.statements: list[dict[str, Any]] = []
        self.commits: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.refused: list[str] = []

    @property
    def phase(self) -> str:
        """Return ``background``, ``answered`` (after the status was sent) or ``request``."""
        if in_background.get():
            return "background"
        return "answered" if self.answered else "request"

    def add_statement(
        self, sql: str, *, writes: bool, many: bool, numbers: list[int], where: str | None
    ) -> None:
        """Count and keep a statement; of its values the integers alone: others may be secret."""
        self.count += 1
        if len(self.statements) < _STATEMENTS:
            said = {
                "sql": sql[:_SQL_CHARACTERS],
                "writes": writes,
                "many": many,
                "numbers": numbers,
            }
            self.statements.append({**said, "where": where, "phase": self.phase})

    def add_error(self, error: BaseException, *, where: str | None, handled: bool = False) -> None:
        """Keep an error once, however often it passes by.

        ``handled``: the application has a handler for errors of this very kind.
        """
        said: dict[str, Any] = {"type": type(error).__qualname__, "text": _text(error)}
        said |= {"where": where, "handled": handled}
        if all(known["text"] != said["text"] for known in self.errors):
            self.errors.append(said)

    def as_json(self) -> dict[str, Any]:
        """Return what the other end of the pipe is told."""
        return {
            "statement_count": self.count,
            "statements": self.statements,
            "commits": self.commits,
            "errors": self.errors,
            "refused": self.refused,
        }


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_SQL_CHARACTERS]
    except Exception as broken:  # noqa: BLE001 - an error's own __str__ may fail in any way
        return f"an error without a text ({type(broken).__name__})"


class Places:
    """Finds the project's own line behind a call; paths are relative to the project."""

    def __init__(self, *roots: str) -> None:
        self._roots = [os.path.realpath(root) + os.sep for root in roots]
        self._known: dict[str, str | None] = {}

    def relative(self, path: str) -> str | None:
        """Return a file's path below the project; ``None`` for code from elsewhere."""
        if path not in self._known:
            self._known[path] = self._find(path)
        return self._known[path]

    def _find(self, path: str) -> str | None:
        if path.startswith("<"):  # code that was made at run time
            return None
        real = os.path.realpath(path)
        for root in self._roots:
            if real.startswith(root) and "site-packages" not in real[len(root) :]:
                return real[len(root) :]
        return None

    def here(self) -> str | None:
        """Return the innermost line of the project that led to this call, across greenlets."""
        greenlet = _current_greenlet()
        frame: Any = getattr(sys, "_getframe")(1)  # noqa: B009 - private, and the one way to see one's callers cheaply
        while True:
            found = self.of_frame(frame)
            greenlet = getattr(greenlet, "parent", None)
            if found is not None or greenlet is None:
                return found
            frame = greenlet.gr_frame

    def of_frame(self, frame: Any) -> str | None:
        """Return the innermost line of the project in a stack, as ``file:line in function``."""
        while frame is not None:
            file = self.relative(frame.f_code.co_filename)
            if file is not None:
                return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
            frame = frame.f_back
        return None

    def of_error(self, error: BaseException) -> str | None:
        """Return the innermost line of the project that an error passed."""
        found, step = None, error.__traceback__
        while step is not None:
            file = self.relative(step.tb_frame.f_code.co_filename)
            if file is not None:
                found = f"{file}:{step.tb_lineno} in {step.tb_frame.f_code.co_name}"
            step = step.tb_next
        return found

    def stack(self, frame: Any, *, limit: int = 12) -> list[str]:
        """Return the lines of a stack, the innermost first; code from elsewhere by module."""
        lines: list[str] = []
        while frame is not None and len(lines) < limit:
            code = frame.f_code
            file = self.relative(code.co_filename) or Path(code.co_filename).name
            lines.append(f"{file}:{frame.f_lineno} in {code.co_name}")
            frame = frame.f_back
        return lines


def _current_greenlet() -> Any:
    greenlet = sys.modules.get("greenlet")
    return None if greenlet is None else greenlet.getcurrent()
