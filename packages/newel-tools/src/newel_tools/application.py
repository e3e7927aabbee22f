"""The application that a command is about: found, imported in its own interpreter, described."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from newel_tools.facts.facts import Facts, load_facts
from newel_tools.facts.interpreter import interpreter_advice
from newel_tools.facts.project import ProjectError, find_project

__all__ = ["AppName", "AppPython", "AsJson", "ProjectFolder", "document_of", "read_application"]

ProjectFolder: TypeAlias = Annotated[
    Path, typer.Argument(help="The project's folder, or its main file.")
]
AppName: TypeAlias = Annotated[
    str | None, typer.Option("--app", help="The application, package.module:name.", metavar="NAME")
]
AppPython: TypeAlias = Annotated[
    Path | None, typer.Option("--python", help="The project's interpreter; by default its .venv's.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="For programs.")]


def read_application(path: Path, *, name: str | None = None, python: Path | None = None) -> Facts:
    """Return the facts of the application in ``path``; ``name`` is its `package.module:attribute`.

    ``python`` is the interpreter that has what the project needs; by default its .venv's.
    Raises ``ProjectError`` when there is none or it cannot be imported.
    """
    project = find_project(path, application=name, python=python)
    facts = load_facts(project)
    if not facts.is_imported:
        reason = str(facts.failures[0]) if facts.failures else "the import said nothing"
        error = facts.failures[0].class_ if facts.failures else ""
        raise ProjectError(
            f"{project.application.name} cannot be imported: {_line(reason)}",
            fix=interpreter_advice(project, error=error)
            or f"make `python -c 'import {project.application.module}'` work in {project.root},"
            " or put the missing settings into .env.example",
        )
    return facts


def document_of(facts: Facts) -> dict[str, object]:
    """Return the OpenAPI document; raises ``ProjectError`` when the application cannot make it."""
    if facts.openapi is not None:
        return facts.openapi
    reason = next((str(failure) for failure in facts.failures if failure.stage == "openapi"), "")
    raise ProjectError(
        f"the application makes no OpenAPI document{': ' if reason else ''}{_line(reason)}",
        fix="make `app.openapi()` work",
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
