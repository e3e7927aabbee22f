"""The files of a project: which Python files are its own, and what is skipped."""

from __future__ import annotations

import io
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["is_test", "project_files", "python_files", "read_text"]

_SKIPPED: Final = frozenset(
    {
        ".git",
        ".hg",
        ".idea",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        ".vscode",
        "__pycache__",
        "node_modules",
        "site-packages",
    }
)
_TEST_FOLDERS: Final = frozenset({"test", "tests", "testing"})
_FILE_BYTES: Final = 2 * 1024 * 1024  # larger Python files are data that somebody printed


def project_files(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder of the project with its file names, sorted; no environments or caches."""
    for folder, folders, names in os.walk(root):
        if "pyvenv.cfg" in names:
            folders.clear()
            continue
        copies = ("lib.", "bdist.") if Path(folder).name == "build" else ()  # of setuptools
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED
            and not name.endswith(".egg-info")
            and not f"{name}.".startswith(copies)
        )
        yield Path(folder), sorted(names)


def python_files(root: Path) -> tuple[Path, ...]:
    """Return the project's Python files, sorted; tests and migrations included.

    What lies in a hidden folder was put there by a tool.
    """
    found = [
        folder / name
        for folder, names in project_files(root)
        if not any(part.startswith(".") for part in folder.relative_to(root).parts)
        for name in names
        if name.endswith(".py")
    ]
    return tuple(path for path in found if path.is_file() and path.stat().st_size <= _FILE_BYTES)


def is_test(path: Path) -> bool:
    """Tell whether a path relative to the project belongs to its tests."""
    name = path.name
    return (
        not _TEST_FOLDERS.isdisjoint(path.parts[:-1])
        or name.startswith("test_")
        or name.endswith(("_test.py", "_tests.py"))
        or name == "conftest.py"
    )


def read_text(path: Path) -> str | None:
    """Return a file's text, as Python would read it; ``None`` if it is not text or cannot be read.

    A coding line is obeyed; a byte-order mark is dropped.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _declared(data)


def _declared(data: bytes) -> str | None:
    """Decode by the coding line in the first two lines (PEP 263)."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return None
