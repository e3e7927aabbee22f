"""The application is found by the entrypoint, and what is wrong with that is said."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from fastapi import FastAPI

from newel.errors import ConfigurationError
from newel.project import Project


@pytest.fixture(autouse=True)
def _clean_imports() -> Generator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def make(root: Path, entrypoint: str, source: str = "", *, src: bool = True) -> Path:
    (root / "pyproject.toml").write_text(f"[tool.fastapi]\nentrypoint = '{entrypoint}'\n")
    package = (root / "src" if src else root) / "project_under_test"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(source)
    return root


APP = "from fastapi import FastAPI\napp = FastAPI(title='found')\n"


@pytest.mark.parametrize("src", [True, False])
def test_the_application_is_found(tmp_path: Path, *, src: bool):
    project = Project.find(make(tmp_path, "project_under_test.main:app", APP, src=src))
    app = project.load_app()
    assert isinstance(app, FastAPI)
    assert app.title == "found"
    assert project.load_app() is app
    assert sys.path.count(str(tmp_path / "src" if src else tmp_path)) == 1


def test_the_working_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(make(tmp_path, "project_under_test.main:app", APP))
    assert Project.find().root == tmp_path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no pyproject.toml"),
        ("[tool.fastapi\n", "not valid TOML"),
        ("[project]\n", "does not say where the application is"),
        ("[tool.fastapi]\nentrypoint = 'main'\n", "not of the form module:name"),
        ("[tool.fastapi]\nentrypoint = ':app'\n", "not of the form module:name"),
        ("[tool.fastapi]\nentrypoint = 'main:create()'\n", "not of the form module:name"),
    ],
)
def test_a_wrong_pyproject_is_explained(tmp_path: Path, text: str | None, problem: str):
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Project.find(tmp_path)
    assert caught.value.fix


@pytest.mark.parametrize("module", ["nowhere", "project_under_test.nowhere"])
def test_a_module_that_is_not_there_is_explained(tmp_path: Path, module: str):
    project = Project.find(make(tmp_path, f"{module}:app"))
    with pytest.raises(ConfigurationError, match=f"module {module} is not below"):
        project.load_app()


@pytest.mark.parametrize("source", ["", "app = 'a string'"])
def test_what_is_no_application_is_explained(tmp_path: Path, source: str):
    project = Project.find(make(tmp_path, "project_under_test.main:app", source))
    with pytest.raises(ConfigurationError, match="is not a FastAPI application"):
        project.load_app()


def test_an_error_in_the_services_own_code_keeps_its_traceback(tmp_path: Path):
    project = Project.find(make(tmp_path, "project_under_test.main:app", "import not_installed"))
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        project.load_app()
