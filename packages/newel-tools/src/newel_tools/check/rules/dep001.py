"""DEP001: what is installed tomorrow is not what was tested today."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.files import read_text
from newel_tools.facts.project import Project

__all__ = ["RULE"]

_LOCKS: Final = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "pixi.lock",
    "conda-lock.yml",
    "pylock.toml",
    "requirements.lock",
    "requirements.lock.txt",
    "requirements-lock.txt",
    "constraints.txt",
)
_FOR_DEVELOPERS: Final = re.compile(
    r"[-_.](dev|development|tests?|testing|lint|docs?|ci|local|types|typing|tools?)$", re.IGNORECASE
)
_BOUNDED: Final = re.compile(r"[<^]|[=~]=|@ |^-|^\.|^git\+|^https?:|\*|\b(git|path|url) ?=")


def find(review: Review) -> Iterator[Finding]:
    """Find dependencies that nothing bounds, and an asynchronous engine without greenlet."""
    yield from _unbounded(review.project)
    needs = any(engine.asynchronous for engine in review.facts.engines)
    if needs and "greenlet" not in review.facts.versions:
        file, line = _engine(review)
        yield RULE.found(
            "the asynchronous engine needs greenlet, which is not installed",
            file=file,
            line=line,
            certainty="proved",
            fix="depend on `sqlalchemy[asyncio]`, which asks for it",
        )


def _unbounded(project: Project) -> Iterator[Finding]:
    if any((folder / name).exists() for folder in project.around for name in _LOCKS):
        return
    for folder in project.around:
        declared = list(_declared(folder))
        if not declared:
            continue
        loose = [(path, line) for path, line, text in declared if not _BOUNDED.search(text)]
        if loose and folder.is_relative_to(project.root):
            path, line = loose[0]
            yield RULE.found(
                f"{len(loose)} of {len(declared)} dependencies take any version to come, and there "
                f"is no lock",
                file=project.relative(path),
                line=line,
            )
        return


def _declared(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Yield the dependencies that a folder declares, with where: file, line and text."""
    files = sorted(folder.glob("requirements*.txt"))
    requirements = [path for path in files if not _FOR_DEVELOPERS.search(path.stem)]
    for path in requirements:
        for number, line in enumerate((read_text(path) or "").splitlines(), start=1):
            text = line.partition("#")[0].strip()
            if text and not text.startswith("--hash"):
                yield path, number, text
    path = folder / "pyproject.toml"
    if not requirements and path.is_file():
        yield from _in_pyproject(path)


def _in_pyproject(path: Path) -> Iterator[tuple[Path, int, str]]:
    text = read_text(path) or ""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    project = cast("dict[str, Any]", data.get("project") or {})
    listed = [str(item) for item in project.get("dependencies") or ()]
    tool = cast("dict[str, Any]", data.get("tool") or {})
    poetry = cast("dict[str, Any]", tool.get("poetry") or {})
    named = cast("dict[str, Any]", poetry.get("dependencies") or {})
    listed += [f"{name} {version}" for name, version in named.items() if name != "python"]
    lines = text.splitlines()
    for item in listed:
        name = re.split(r"[^\w.-]", item, maxsplit=1)[0]
        number = next((n for n, line in enumerate(lines, start=1) if name in line), 1)
        yield path, number, item


def _engine(review: Review) -> tuple[str | None, int]:
    for module in review.source.own_modules():
        for number, line in enumerate(module.lines, start=1):
            if "create_async_engine(" in line:
                return module.file, number
    return None, 0


RULE = Rule(
    id="DEP001",
    title="What is installed tomorrow is not what was tested today",
    severity="change",
    how="source",
    why="The next build takes whatever was published since: the same commit works today and not "
    "tomorrow, or "
    "brings what somebody has put into a release.",
    fix="commit a lock with hashes: `uv lock`, or `uv pip compile --generate-hashes`, and install "
    "from it",
    seed="003 Dependencies; 004",
    expected="what only developers install (`requirements-dev.txt`); any lock file of the usual "
    "tools beside the application or above it; versions with an upper bound (`~=`, `<2`, `^1`), "
    "which let repairs in; projects that declare nothing.",
    bad="""
# file: requirements.txt
fastapi==0.165.0
sqlalchemy>=2  # finding
httpx

# file: main.py
from fastapi import FastAPI

app = FastAPI()
""",
    good="""
# file: requirements-dev.txt
pytest
ruff

# file: requirements.txt
# compiled, with hashes
fastapi==0.165.0 \\
    --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000
-e .

# file: main.py
from fastapi import FastAPI

app = FastAPI()
""",
    find=find,
)
