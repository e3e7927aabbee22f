"""From a plan to a service on disk that is formatted, migrated, typed and tested."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from newel_tools.generator.features import render_features
from newel_tools.generator.layout import Layout
from newel_tools.generator.shell import Kernel, render_shell, with_routes
from newel_tools.generator.steps import Outcome, Running, Step
from newel_tools.generator.tree import (
    MANIFEST,
    ensure_usable,
    files_of,
    keep,
    settle,
    staged,
    write,
)
from newel_tools.plan.plan import Plan

__all__ = ["Made", "Report", "Result", "create", "missing_packages"]

CHARACTERS_A_TOKEN: Final = 4

_NEEDED: Final = {
    "newel": "newel",
    "ruff": "ruff",
    "ty": "ty",
    "pytest": "newel[testing]",
    "anyio": "newel[testing]",
    "httpx2": "newel[testing]",
    "pytest_timeout": "newel[testing]",
}
"""The modules that run a service and look at it, and what to install for each."""

_MIGRATE: Final = """
import dataclasses, json, sys
from newel.cli import main
from newel.commands import routes_of
from newel.project import Project

def run(*words):
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise

run("migrate", "new", "initial")
run("migrate", "up")
run("migrate", "check")
with open(sys.argv[1], "w") as file:
    json.dump([dataclasses.asdict(route) for route in routes_of(Project.find().load_app())], file)
"""
"""One process for what are three commands and the routes: most of each is its imports."""

_COUNT: Final = re.compile(r"(\d+) (passed|failed|error|skipped|xfailed|xpassed)s?\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One generated file: its path in the tree, its lines and characters."""

    path: str
    lines: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What ``create`` did. ``directory`` is where the tree lies, also after a step that failed."""

    directory: Path
    files: tuple[Made, ...]
    outcomes: tuple[Outcome, ...]
    seconds: float
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step was run and passed."""
        return not self.interrupted and all(outcome.ok for outcome in self.outcomes)

    @property
    def tokens(self) -> int:
        """The Python of the service, tests and migration included, in characters / 4."""
        python = (file.characters for file in self.files if file.path.endswith(".py"))
        return sum(python) // CHARACTERS_A_TOKEN

    @property
    def tests(self) -> dict[str, int]:
        """How many tests ``passed``, ``failed`` and so on; empty if they were not run."""
        ended = [outcome for outcome in self.outcomes if outcome.name == "tests"]
        return _counts(ended[0]) if ended else {}

    def as_json(self) -> dict[str, Any]:
        """Return all of it for machines."""
        return {
            "ok": self.ok,
            "interrupted": self.interrupted,
            "directory": str(self.directory),
            "files": [
                {"path": f.path, "lines": f.lines, "characters": f.characters} for f in self.files
            ],
            "tokens": self.tokens,
            "tests": self.tests,
            "steps": [
                {
                    "name": o.name,
                    "ok": o.ok,
                    "reason": o.reason,
                    "seconds": round(o.seconds, 2),
                    "output": "" if o.ok else o.output,
                }
                for o in self.outcomes
            ],
            "seconds": round(self.seconds, 2),
        }


class Report(Protocol):
    """Hears what happens while a service is made."""

    def begin(self, what: str) -> None:
        """``what`` starts now."""
        ...

    def wrote(self, files: Sequence[Made]) -> None:
        """The files are written and formatted."""
        ...

    def end(self, outcome: Outcome, note: str) -> None:
        """A step ended; ``note`` says in a few words with what."""
        ...


def missing_packages() -> list[str]:
    """Return what has to be installed beside this interpreter before ``create`` can work."""
    return sorted({package for module, package in _NEEDED.items() if find_spec(module) is None})


def create(plan: Plan, directory: Path, *, layout: Layout, report: Report) -> Result:
    """Write the service of ``plan`` into ``directory`` and run every check of it.

    Raises ``TreeError`` when the directory cannot be used. The tree appears when it is complete;
    interrupted before, nothing of it is left. A step that fails stops the rest and keeps the tree.
    """
    started = time.monotonic()
    place = directory.resolve()
    ensure_usable(place)
    with tempfile.TemporaryDirectory(prefix="newel-new-") as scratch:
        making = _Making(report, Path(scratch))
        where = making.build(plan, place, layout=layout)
        if making.ok:
            making.verify(where)
    return Result(
        directory=where,
        files=_made(where),
        outcomes=tuple(making.outcomes),
        seconds=time.monotonic() - started,
        interrupted=making.interrupted,
    )


class _Making:
    """One run of ``create``: what it has done so far."""

    def __init__(self, report: Report, scratch: Path) -> None:
        self.report = report
        self.scratch = scratch
        self.outcomes: list[Outcome] = []
        self.interrupted = False

    @property
    def ok(self) -> bool:
        return all(outcome.ok for outcome in self.outcomes)

    def build(self, plan: Plan, place: Path, *, layout: Layout) -> Path:
        """Write the tree and its first migration; return where it lies."""
        kernel = Kernel.installed()
        with staged(place) as staging:
            self.report.begin("files")
            write(render_shell(plan, layout, directory=place, kernel=kernel), staging)
            write(render_features(plan, layout), staging)
            is_clean = self._run(_format(), staging) and self._run(_lint(), staging)
            self.report.wrote(_made(staging))
            if is_clean and self._run(_migrate(self.scratch), staging):
                self._describe(staging)
            if not self.ok and (place / MANIFEST).exists():
                return keep(staging, place)  # the service that is there stays as it is
            settle(staging, place, made_by=kernel.version)
        return place

    def _describe(self, root: Path) -> None:
        """Put the routes that the application has into its README.md."""
        readme = root / "README.md"
        routes = json.loads((self.scratch / "routes.json").read_text(encoding="utf-8"))
        text = with_routes(readme.read_text(encoding="utf-8"), routes)
        readme.write_text(text, encoding="utf-8")

    def verify(self, root: Path) -> None:
        """Run the types and the tests side by side, and report each as it ends."""
        types, tests = _types(), _tests(self.scratch)
        try:
            self.report.begin("types and tests")
            with (
                Running(types, directory=root) as checking,
                Running(tests, directory=root) as testing,
            ):
                self._ended(checking.finish())
                self.report.begin("tests")
                self._ended(testing.finish())
        except KeyboardInterrupt:
            self.interrupted = True

    def _run(self, step: Step, root: Path) -> bool:
        self.report.begin(step.name)
        with Running(step, directory=root) as running:
            return self._ended(running.finish())

    def _ended(self, outcome: Outcome) -> bool:
        self.outcomes.append(outcome)
        self.report.end(outcome, _note(outcome))
        return outcome.ok


# A tree below a folder that git ignores is looked at all the same.
_ALL: Final = ("--quiet", "--no-respect-gitignore", ".")


def _format() -> Step:
    return Step(name="format", command=("-m", "ruff", "format", *_ALL), timeout_seconds=30)


def _lint() -> Step:
    imports = ("--fix", "--config", 'lint.fixable = ["I"]')  # their order depends on the names
    return Step(name="lint", command=("-m", "ruff", "check", *imports, *_ALL), timeout_seconds=30)


def _migrate(scratch: Path) -> Step:
    return Step(
        name="migration",
        command=("-c", _MIGRATE, f"{scratch}/routes.json"),
        timeout_seconds=60,
        environment={"DATABASE_URL": f"sqlite+aiosqlite:///{scratch}/new.db"},
    )


def _types() -> Step:
    return Step(
        name="types",
        command=(
            "-m",
            "ty",
            "check",
            "--python",
            sys.prefix,
            "--no-progress",
            "--output-format",
            "concise",
        ),
        timeout_seconds=120,
    )


def _tests(scratch: Path) -> Step:
    # Only the plugins that a service asks for: loading what else is installed here costs 3 s.
    plugins = ("-p", "anyio", "-p", "pytest_timeout", "-p", "no:cacheprovider")
    return Step(
        name="tests",
        command=("-m", "pytest", "-q", *plugins, f"--basetemp={scratch}/pytest"),
        timeout_seconds=300,
        environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


def _note(outcome: Outcome) -> str:
    if outcome.name == "tests":
        return ", ".join(f"{count} {word}" for word, count in _counts(outcome).items())
    return ""


def _counts(outcome: Outcome) -> dict[str, int]:
    """Read pytest's last line: ``2 failed, 60 passed in 3.21s``."""
    last = (outcome.last_lines(1) or [""])[0]
    return {word: int(count) for count, word in _COUNT.findall(last)}


def _made(root: Path) -> tuple[Made, ...]:
    made: list[Made] = []
    for name in files_of(root):
        text = (root / name).read_text(encoding="utf-8")
        made.append(Made(path=name, lines=text.count("\n"), characters=len(text)))
    return tuple(made)
