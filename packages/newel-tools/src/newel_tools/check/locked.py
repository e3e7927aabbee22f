"""What a project's locks say of a package: `locked`, the versions that may be installed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.facts.files import read_text
from newel_tools.facts.project import Project

__all__ = ["locked"]

_LOCKS: Final = ("uv.lock", "poetry.lock", "pdm.lock")  # TOML with a table `package` for each
_PINNED: Final = ("requirements*.txt", "requirements*.lock", "requirements/*.txt")


def locked(project: Project, package: str) -> frozenset[str]:
    """Return a package's versions in the nearest folder whose locks or pins speak of it.

    They are several where a lock is made for several platforms, and where files disagree.
    """
    for folder in project.around:
        found = frozenset([*_in_locks(folder, package), *_pinned(folder, package)])
        if found:
            return found
    return frozenset()


def _in_locks(folder: Path, package: str) -> Iterator[str]:
    for name in _LOCKS:
        try:
            data: dict[str, Any] = tomllib.loads(read_text(folder / name) or "")
        except tomllib.TOMLDecodeError:
            continue
        for item in cast("list[dict[str, Any]]", data.get("package") or []):
            if item.get("name") == package and "version" in item:
                yield str(item["version"])


def _pinned(folder: Path, package: str) -> Iterator[str]:
    line = re.compile(rf"^{re.escape(package)}(?:\[[^\]]*\])?\s*===?\s*([\w.]+)", re.IGNORECASE)
    for pattern in _PINNED:
        for path in folder.glob(pattern):
            for text in (read_text(path) or "").splitlines():
                if (found := line.match(text)) is not None:
                    yield found[1]
