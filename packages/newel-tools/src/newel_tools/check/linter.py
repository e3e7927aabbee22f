"""What ruff finds in the project: rules that it has are not written again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from newel_tools.facts.source import Source

__all__ = ["Lint", "lints"]

_CODES: Final = (
    *("ANN001", "ANN201", "ANN202"),  # no annotations
    *("DTZ003", "DTZ004", "DTZ005"),  # times without a zone
    *("E722", "S110", "S112"),  # exceptions that are swallowed
    *("RUF006",),  # tasks that nobody keeps
)
_SECONDS: Final = 60.0
_FILES: Final = 1_000  # in one command line


@dataclass(frozen=True, slots=True)
class Lint:
    """One finding of ruff's; ``file`` is relative to the project."""

    code: str
    file: str
    line: int
    message: str


def lints(root: Path, source: Source) -> tuple[Lint, ...]:
    """Return what ruff finds in the modules of a project that are no tests; it changes nothing.

    The project's own settings do not count, its `noqa` comments do.
    """
    files = [module.file for module in source.own_modules()]
    starts = range(0, len(files), _FILES)
    return tuple(lint for n in starts for lint in _lints(root, files[n : n + _FILES]))


def _lints(root: Path, files: Iterable[str]) -> Iterator[Lint]:
    """Yield what ruff finds in files; only those that were read, so that it meets no pipe."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--exit-zero"]
    command += ["--no-respect-gitignore", "--output-format=json", f"--select={','.join(_CODES)}"]
    done = subprocess.run(  # noqa: S603 - our own dependency, with arguments of our own
        [*command, "--", *files], cwd=root, capture_output=True, timeout=_SECONDS, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    for item in found:
        if item["code"] in _CODES:  # not what it says of syntax
            file = Path(item["filename"]).relative_to(root.resolve()).as_posix()
            yield Lint(item["code"], file, int(item["location"]["row"]), str(item["message"]))
