"""Print the reference applications again: apps/* are what `newel new` prints, and more.

    python scripts/apps.py            # after a change of the generator

What an application owns is written by hand and stays; all else is the generator's, to the letter.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from newel_tools.generator.features import render_features
from newel_tools.generator.shell import Kernel, render_shell
from newel_tools.planner.planner import plan_sentence

APPS: Final = Path(__file__).resolve().parents[1] / "apps"
DECISION: Final = "docs/decisions/0001-one-sentence.md"
OWN: Final[Mapping[str, frozenset[str]]] = {
    "agents": frozenset(
        {
            "README.md",
            ".env.example",
            "pyproject.toml",
            "migrations/0001_initial.py",
            "src/agent_management/application.py",
            "src/agent_management/assistant.py",
            "src/agent_management/settings.py",
            "src/agent_management/executions/jobs.py",
            "src/agent_management/executions/service.py",
            "tests/executions/test_answers.py",
            "tests/executions/test_jobs.py",
        }
    )
}
"""What is written by hand; of the migrations and the README the generator printed the first."""


def sentence_of(app: Path) -> str:
    """Return the sentence that an application began with."""
    return re.findall(r"^> (.*)$", (app / DECISION).read_text(), re.MULTILINE)[0]


def printed(app: Path) -> dict[str, str]:
    """Return what the generator prints for an application, by path, without what it owns."""
    plan = plan_sentence(sentence_of(app))
    kernel = Kernel.installed()
    files = [
        *render_shell(plan, "features", directory=app, kernel=kernel),
        *render_features(plan, "features"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file in files:  # all: where an import comes from depends on which modules there are
            path = root / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
        for command in (("format",), ("check", "--fix", "--config", 'lint.fixable = ["I"]')):
            _ = subprocess.run(
                [sys.executable, "-m", "ruff", *command, "-q"], cwd=folder, check=True
            )
        kept = {file.path for file in files} - OWN[app.name] - {".env"}
        return {path: (root / path).read_text() for path in kept}


def main() -> None:
    for name in OWN:
        for path, text in printed(APPS / name).items():
            _ = (APPS / name / path).write_text(text)


if __name__ == "__main__":
    main()
