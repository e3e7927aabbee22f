"""COV001: less of the code is tested than the team asks of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.files import is_test, read_text

__all__ = ["RULE"]

Lines: TypeAlias = dict[str, tuple[int, int]]

_LEAST: Final = 80.0  # per cent
_SETTINGS: Final = (
    "pyproject.toml",
    ".coveragerc",
    "setup.cfg",
    "tox.ini",
    "pytest.ini",
    "Makefile",
)
_BAR: Final = re.compile(
    r"^\s*fail_under\s*=\s*(\d+(?:\.\d+)?)|--cov-fail-under[= ](\d+(?:\.\d+)?)", re.MULTILINE
)
_CLASS: Final = re.compile(r"<class\b[^>]*\bfilename=\"([^\"]+)\"[^>]*>(.*?)</class>", re.DOTALL)
_LINE: Final = re.compile(r"<line\b[^>]*\bhits=\"(\d+)\"")
_SERVICES: Final = re.compile(r"(^|/)(services?|domain|use_?cases)(/|\.py$)|_service\.py$")


def find(review: Review) -> Iterator[Finding]:
    """Find a bar of coverage below 80 %, and a report beside the code that is."""
    root = review.project.root
    for name in _SETTINGS:
        text = read_text(root / name) or ""
        for found in _BAR.finditer(text):
            if float(found[1] or found[2]) < _LEAST:
                yield RULE.found(
                    f"the tests pass with {found[1] or found[2]} % of the lines run",
                    file=name,
                    line=text.count("\n", 0, found.start(found.lastindex or 0)) + 1,
                )
    for path, lines in _reports(root):
        measured = {file: counts for file, counts in lines.items() if not is_test(Path(file))}
        services = {file: counts for file, counts in measured.items() if _SERVICES.search(file)}
        counted = (services or measured).values()
        run, known = sum(one for one, _ in counted), sum(all_ for _, all_ in counted)
        if known and 100 * run / known < _LEAST:
            what = "services" if services else "the code"
            yield RULE.found(
                f"the tests run {100 * run / known:.0f} % of the lines of {what}",
                file=path.name,
                line=1,
            )


def _reports(root: Path) -> Iterator[tuple[Path, Lines]]:
    """Yield what coverage.py wrote: for each file the lines that were run, and all lines."""
    for name, read in (("coverage.json", _from_json), ("coverage.xml", _from_xml)):
        text = read_text(root / name)
        if text is not None:
            yield root / name, read(text)


def _from_json(text: str) -> Lines:
    try:
        data: Any = json.loads(text)
        files = cast("dict[str, Any]", data["files"])
        return {
            name: (int(said["summary"]["covered_lines"]), int(said["summary"]["num_statements"]))
            for name, said in files.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # it is somebody else's file of this name


def _from_xml(text: str) -> Lines:
    lines: Lines = {}
    for name, body in _CLASS.findall(text):
        hits = [int(number) > 0 for number in _LINE.findall(body)]
        lines[name] = (sum(hits), len(hits))
    return lines


RULE = Rule(
    id="COV001",
    title="Less than 80 % of the code is tested",
    severity="change",
    how="source",
    why="What no test runs breaks unseen; a bar that is low is one that nobody has to step over.",
    fix="`fail_under = 80` in `[tool.coverage.report]`, and tests of the services first",
    seed='003 "Coverage target: >80% for services"',
    expected="projects that neither measure nor set a bar; reports of tests themselves. A report "
    "is believed as it lies there: `coverage.json` or `coverage.xml`.",
    bad="""
# file: main.py
from fastapi import FastAPI

app = FastAPI()
# file: pyproject.toml
[tool.coverage.report]
fail_under = 50  # finding
""",
    good="""
# file: main.py
from fastapi import FastAPI

app = FastAPI()
# file: pyproject.toml
[tool.coverage.report]
fail_under = 85
# file: coverage.json
{"files": {
  "services.py": {"summary": {"covered_lines": 9, "num_statements": 10}},
  "main.py": {"summary": {"covered_lines": 0, "num_statements": 10}}
}}
""",
    find=find,
)
