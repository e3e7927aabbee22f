"""Finding a project: its root, its interpreter, its application, its environment."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.facts.application import Application, find_applications, locate
from newel_tools.facts.environment import environment_of, installed_packages
from newel_tools.facts.files import python_files, read_text

__all__ = ["Project", "ProjectError", "find_project", "refuse_unwritable"]

_ENVIRONMENTS: Final = (".venv", "venv", "env", ".env")
_MOST_FILES: Final = 20_000
_MARKERS: Final = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", ".git")


class ProjectError(ValueError):
    """A project that cannot be reviewed.

    ``message`` says what is wrong in one line, ``fix`` how to mend it in one line.
    """

    def __init__(self, message: str, *, fix: str) -> None:
        self.message = message
        self.fix = fix
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}"


@dataclass(frozen=True, slots=True)
class Project:
    """A FastAPI project as it lies on the disk; nothing of it has been imported.

    ``root`` is the folder under review (absolute), ``boundary`` the folder that the project ends
    at (its repository; ``root`` itself if there is none). ``python`` is the interpreter that has
    the project's dependencies, as far as is known. ``application`` is what servers start;
    ``others`` are further candidates. ``files`` are the Python files, tests included.
    ``import_paths`` come first on the path. ``environment`` holds the variables for the
    application: values of `.env.example` and the like, dummies where the code asks for more.
    """

    root: Path
    boundary: Path
    python: Path
    application: Application
    others: tuple[Application, ...]
    files: tuple[Path, ...]
    import_paths: tuple[Path, ...]
    environment: Mapping[str, str]

    @property
    def around(self) -> tuple[Path, ...]:
        """The application's folder and those above it, up to the end of the project."""
        parents = self.application.file.parents
        return tuple(folder for folder in parents if folder.is_relative_to(self.boundary))

    def relative(self, path: Path) -> str:
        """Return a path below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def using(self, *, environment: Mapping[str, str]) -> Project:
        """Return the same project with more variables."""
        return replace(self, environment={**self.environment, **environment})


def refuse_unwritable(path: Path | None) -> None:
    """Raise ``ProjectError`` when there is no such folder to write a report to, before the work."""
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise ProjectError(f"{path} cannot be written", fix="name a file in a folder that is there")


def find_project(
    path: Path, *, application: str | None = None, python: Path | None = None
) -> Project:
    """Find the project in a folder, or around a Python file that holds the application.

    ``application`` names it as `pkg.mod:name` (or `pkg.mod:create()`); without it the likeliest is
    taken, see `newel_tools.facts.application`. ``python`` is the interpreter to import it with;
    without it `.venv` and the like in the project, then `VIRTUAL_ENV`, then our own.

    Raises ``ProjectError``.
    """
    root = _root(path)
    files = python_files(root)
    if not files:
        raise ProjectError(
            f"{path} holds no Python file", fix="name the folder of a FastAPI project"
        )
    if len(files) > _MOST_FILES:
        raise ProjectError(
            f"{path} holds {len(files):,} Python files, which is more than one project",
            fix="name the folder of the project itself",
        )
    found, others = _application(root, files, path=path, name=application)
    boundary = _boundary(root)
    interpreter = _interpreter(python, found, boundary)
    paths = dict.fromkeys([found.import_root, *_further_paths(root, found)])
    return Project(
        root=root,
        boundary=boundary,
        python=interpreter,
        application=found,
        others=tuple(others),
        files=files,
        import_paths=tuple(paths),
        environment=environment_of(
            found.import_root, files, boundary=boundary, packages=installed_packages(interpreter)
        )
        | _said_to_start_it(found, boundary),
    )


def _said_to_start_it(app: Application, boundary: Path) -> dict[str, str]:
    """Return the variables of the nearest `[tool.newel.prove]`: an import needs them as well."""
    for folder in app.file.parents:
        if not folder.is_relative_to(boundary):
            break
        try:
            data: Any = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
            said = data["tool"]["newel"]["prove"]["env"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(said, dict):
            return {str(name): str(value) for name, value in cast("Any", said).items()}
    return {}


def _root(path: Path) -> Path:
    if not path.exists():
        raise ProjectError(f"{path} does not exist", fix="name the folder of a FastAPI project")
    path = path.resolve()
    if path.is_dir():
        return path
    folders = [path.parent, *path.parent.parents]
    marked = (folder for folder in folders if any((folder / name).exists() for name in _MARKERS))
    return next(marked, path.parent)


def _application(
    root: Path, files: tuple[Path, ...], *, path: Path, name: str | None
) -> tuple[Application, list[Application]]:
    if name is not None:
        found = locate(name, root, files)
        if found is None:
            raise ProjectError(
                f"there is no module for {name} below {root}",
                fix="name it as servers do, package.module:attribute",
            )
        return found, []
    applications = find_applications(root, files)
    if path.is_file():
        applications = [app for app in applications if app.file == path.resolve()]
    if not applications:
        texts = (read_text(file) for file in files)
        other = any(text is not None and "Starlette(" in text for text in texts)
        only = ", only one of Starlette, which says too little of itself" if other else ""
        raise ProjectError(
            f"no FastAPI application was found in {path}{only}",
            fix="name the folder of a FastAPI project, or the application with --app "
            "package.module:attribute",
        )
    return applications[0], applications[1:]


def _boundary(root: Path) -> Path:
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)


def _interpreter(named: Path | None, app: Application, boundary: Path) -> Path:
    if named is not None:
        if not (named.is_file() and os.access(named, os.X_OK)):
            raise ProjectError(f"{named} is no program", fix="name a Python interpreter")
        return named.absolute()
    return next(_interpreters(app, boundary), Path(sys.executable))


def _interpreters(app: Application, boundary: Path) -> Iterator[Path]:
    prefixes = [
        folder / name
        for folder in app.file.parents
        if folder.is_relative_to(boundary)
        for name in _ENVIRONMENTS
    ]
    if active := os.environ.get("VIRTUAL_ENV"):
        prefixes.append(Path(active))
    for prefix in prefixes:
        for program in (prefix / "bin/python", prefix / "Scripts/python.exe"):
            if (prefix / "pyvenv.cfg").is_file() and program.exists():
                yield program


def _further_paths(root: Path, app: Application) -> Iterator[Path]:
    """Yield the project's folders that modules are commonly imported from besides the first."""
    for folder in app.file.parents:
        if folder.is_relative_to(root) and not (folder / "__init__.py").exists():
            yield folder
            if (folder / "src").is_dir():
                yield folder / "src"
