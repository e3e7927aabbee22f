"""What a project's lock says of a package: `locked`, the version that will be installed."""

from __future__ import annotations

import tomllib
from typing import Any, Final, cast

from newel_tools.facts.files import read_text
from newel_tools.facts.project import Project

__all__ = ["locked"]

_LOCKS: Final = ("uv.lock", "poetry.lock", "pdm.lock")  # TOML with a table `package` for each


def locked(project: Project, package: str) -> str | None:
    """Return the version of a package in the nearest lock, or nothing if none speaks of it."""
    for folder in project.around:
        for name in _LOCKS:
            try:
                data: dict[str, Any] = tomllib.loads(read_text(folder / name) or "")
            except tomllib.TOMLDecodeError:
                continue
            for item in cast("list[dict[str, Any]]", data.get("package") or []):
                if item.get("name") == package and "version" in item:
                    return str(item["version"])
    return None
