"""What squawk finds in statements for PostgreSQL: rules that it has are not written again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from newel_tools.check.git import NoAnswer

__all__ = ["dangers"]

_SECONDS: Final = 30.0
_POSTGRES: Final = "14"  # the oldest that is maintained
_UNREADABLE: Final = "syntax-error"


def dangers(statements: Sequence[str]) -> list[frozenset[str]]:
    """Return squawk's rules that each statement breaks. Raises ``NoAnswer``.

    A statement that squawk cannot read has its `syntax-error` alone.
    """
    found = _dangers(statements, range(len(statements)))
    unreadable = {number for number, rules in found.items() if _UNREADABLE in rules}
    if unreadable:
        # Of a file with one of these it says nothing else.
        readable = [number for number in range(len(statements)) if number not in unreadable]
        found = _dangers(statements, readable) | {n: {_UNREADABLE} for n in unreadable}
    return [frozenset(found.get(number, ())) for number in range(len(statements))]


def _dangers(statements: Sequence[str], numbers: Sequence[int]) -> dict[int, set[str]]:
    """Return the rules that statements break, by number; all in one file, since they follow."""
    lines: list[int] = []  # the statement of each line
    for number in numbers:
        lines += [number] * (statements[number].count("\n") + 1)
    text = "\n".join(statements[number] for number in numbers)
    found: dict[int, set[str]] = {}
    for item in _run(text) if numbers else ():
        # An error at its end lies behind the last line.
        line = min(int(item["line"]), len(lines) - 1)
        found.setdefault(lines[line], set()).add(str(item["rule_name"]))
    return found


def _run(text: str) -> list[dict[str, Any]]:
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    program = shutil.which("squawk", path=places)
    if program is None:
        raise NoAnswer("squawk is not installed: uv pip install 'newel-tools[migrations]'")
    with tempfile.TemporaryDirectory() as folder:
        file, settings = Path(folder, "migrations.sql"), Path(folder, "squawk.toml")
        file.write_text(text + "\n", encoding="utf-8")
        settings.touch()  # not the settings of whoever calls
        command = [program, "--reporter=json", f"--pg-version={_POSTGRES}", "--config", settings]
        try:
            done = subprocess.run(  # noqa: S603 - our own dependency, with arguments of our own
                [*command, file], cwd=folder, capture_output=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"squawk did not answer within {_SECONDS:g} s") from None
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise NoAnswer(f"squawk did not answer: {said[:200]}") from None
