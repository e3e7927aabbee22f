"""Which Python a project is for, and how an import that fails is mended by another one."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final, TypeAlias

from newel_tools.facts.project import Project

__all__ = ["interpreter_advice"]

_Version: TypeAlias = tuple[int, int]
_NOT_INSTALLED: Final = ("ImportError", "ModuleNotFoundError")
_NUMBER: Final = re.compile(r"(\d+)\.(\d+)")
_AT_LEAST: Final = re.compile(r"(?:>=|~=|==|\^)\s*(\d+)\.(\d+)")
_OF_AN_ENVIRONMENT: Final = re.compile(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", re.MULTILINE)


def interpreter_advice(project: Project, *, error: str) -> str | None:
    """Return how the interpreter has to change for an import that failed; `None` if it need not.

    ``error`` is the name of the exception's class.
    """
    wanted, own = _wanted(project), _version_of(project.python)
    if wanted is not None and own is not None and own < wanted:
        return (
            f"the project is for Python {_said(wanted)} and {project.python} is {_said(own)}: "
            "make its .venv with a newer one, or name that with --python"
        )
    if error.endswith(_NOT_INSTALLED):
        return "install the project into its .venv, or name its interpreter with --python"
    return None


def _said(version: _Version) -> str:
    return ".".join(map(str, version))


def _wanted(project: Project) -> _Version | None:
    """Return the lowest Python that the nearest pyproject.toml asks for."""
    for folder in project.around:
        try:
            text = (folder / "pyproject.toml").read_text(encoding="utf-8")
            data: Any = tomllib.loads(text)
        except (OSError, ValueError):
            continue
        poetry = data.get("tool", {}).get("poetry", {}).get("dependencies", {})
        asked = data.get("project", {}).get("requires-python") or poetry.get("python")
        if found := _AT_LEAST.search(str(asked)):
            return int(found[1]), int(found[2])
    return None


def _version_of(python: Path) -> _Version | None:
    """Return what an interpreter says of itself beside it: it need not be started for that."""
    if python == Path(sys.executable):
        return sys.version_info[:2]
    try:
        text = (python.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        found = _NUMBER.search(python.resolve().name)
    else:
        found = _OF_AN_ENVIRONMENT.search(text)
    return (int(found[1]), int(found[2])) if found else None
