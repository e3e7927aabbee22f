"""What is said of an interpreter that cannot import a project."""

import sys
from pathlib import Path

import pytest

from newel_tools.facts.interpreter import interpreter_advice
from newel_tools.facts.project import Project, find_project

APP = "from fastapi import FastAPI\n\napp = FastAPI()\n"


def project(root: Path, *, asked: str, version: str) -> Project:
    """Return a project that asks for a Python, with an environment that says which it is."""
    (root / "main.py").write_text(APP)
    (root / "pyproject.toml").write_text(asked)
    program = root / ".venv/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    (root / ".venv/pyvenv.cfg").write_text(f"home = /usr/bin\n{version}\n")
    return find_project(root)


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ('[project]\nrequires-python = ">=3.13"\n', "version = 3.11.7"),
        ('[project]\nrequires-python = "==3.14.*"\n', "version_info = 3.13.0"),
        ('[tool.poetry.dependencies]\npython = "^3.12"\n', "version = 3.9.18"),
    ],
)
def test_a_python_that_is_too_old_is_named(tmp_path, asked, version):
    advice = interpreter_advice(project(tmp_path, asked=asked, version=version), error="Any")

    assert advice is not None
    assert "the project is for Python 3.1" in advice
    assert "--python" in advice


@pytest.mark.parametrize(
    "asked",
    ['[project]\nrequires-python = ">=3.10,<3.15"\n', "[tool.other]\n", "no toml", "[project]\n"],
)
def test_a_python_that_will_do_is_not_blamed(tmp_path, asked):
    found = project(tmp_path, asked=asked, version="version = 3.11.7")

    assert interpreter_advice(found, error="ValueError") is None
    missing = interpreter_advice(found, error="ModuleNotFoundError")
    assert missing == "install the project into its .venv, or name its interpreter with --python"
