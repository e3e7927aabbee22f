"""The reference applications: what the generator prints, with features of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.apps import APPS, OWN, printed

from newel_tools.generator.steps import clean_environment

pytestmark = pytest.mark.timeout(300)

every_app = pytest.mark.parametrize("app", [APPS / name for name in OWN], ids=lambda app: app.name)


def run(app: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", *command],
        cwd=app,
        env=clean_environment(app) | {"SECRET_KEY": "", "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def committed(app: Path) -> set[str]:
    listed = subprocess.check_output(["git", "ls-files", "."], cwd=app, text=True)
    return set(listed.split())


@every_app
def test_it_is_what_the_generator_prints_and_its_own(app: Path) -> None:
    expected = printed(app)

    assert committed(app) == {*expected, *OWN[app.name]}
    changed = [path for path, text in expected.items() if (app / path).read_text() != text]
    assert changed == [], "after a change of the generator: .venv/bin/python scripts/apps.py"


@every_app
def test_its_tests_are_green(app: Path) -> None:
    done = run(app, "pytest", "-q", "-p", "no:cacheprovider")

    assert done.returncode == 0, done.stdout[-4_000:]
    assert "skipped" not in done.stdout
    assert "xfailed" not in done.stdout


@every_app
def test_its_types_hold(app: Path) -> None:
    done = run(app, "pyright", "--pythonpath", sys.executable)

    assert done.returncode == 0, done.stdout[-4_000:]


@every_app
def test_the_reviewer_finds_nothing(app: Path) -> None:
    done = run(app, "newel", "check", ".", "--json")

    assert json.loads(done.stdout)["findings"] == []
    assert done.returncode == 0
