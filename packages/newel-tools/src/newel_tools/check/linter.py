"""What ruff finds in the project: rules that it has are not written again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
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
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--exit-zero"]
    command += ["--no-respect-gitignore", "--output-format=json", f"--select={','.join(_CODES)}"]
    done = subprocess.run(  # noqa: S603 - our own dependency, with arguments of our own
        [*command, str(root)], capture_output=True, timeout=_SECONDS, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return tuple(_own(found, root, source))


def _own(found: Iterable[dict[str, Any]], root: Path, source: Source) -> Iterable[Lint]:
    for item in found:
        file = Path(item["filename"]).relative_to(root).as_posix()
        module = source.files.get(file)
        if module is not None and not module.is_test and item["code"] in _CODES:
            yield Lint(item["code"], file, int(item["location"]["row"]), str(item["message"]))
