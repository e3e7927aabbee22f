"""``newel prove``: break an application on purpose, and say what gave way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console

from newel_tools.check.finding import Verdict
from newel_tools.facts.project import Project, ProjectError, find_project, refuse_unwritable
from newel_tools.prove.errors import ProveError
from newel_tools.prove.page import write_page
from newel_tools.prove.probe import Probe, load_probes
from newel_tools.prove.run import Report, prove_project
from newel_tools.prove.settings import Settings, read_settings
from newel_tools.prove.text import explain, progress, show_report

__all__ = ["chosen_probes", "project_of", "prove"]

_CODES: Final[dict[Verdict, int]] = {"APPROVE": 0, "REQUEST CHANGES": 1, "BLOCK": 2}
_REFUSED: Final = 3  # nothing was tried: unlike a verdict, this is about how it was called


def prove(
    path: Annotated[Path, typer.Argument(help="The project's folder, or its main file.")] = Path(),
    *,
    app: Annotated[
        str | None, typer.Option(help="The application, package.module:name.", metavar="NAME")
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="The project's interpreter; by default its .venv's.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Make only this probe; may be repeated.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report for the browser.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    probe: Annotated[
        str | None, typer.Option("--explain", help="Explain a probe and end.", metavar="PROBE")
    ] = None,
) -> None:
    """Break a FastAPI application on purpose; ends with 0 (approve), 1 (change) or 2 (block)."""
    try:
        if probe is not None:
            explain(Console(highlight=False), *chosen_probes([probe]))
            return
        probes = chosen_probes(only)
        refuse_unwritable(html)
        project, settings = project_of(path, app=app, python=python)
        report = _made(project, settings, probes, as_json=as_json)
    except (ProjectError, ProveError) as error:
        _refuse(error, as_json=as_json)
    if html is not None:
        write_page(report, html)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        show_report(Console(highlight=False), report)
    if code := _CODES[report.verdict]:
        raise typer.Exit(code)


def project_of(
    path: Path, *, app: str | None = None, python: Path | None = None
) -> tuple[Project, Settings]:
    """Find a project and what its `[tool.newel.prove]` says.

    Raises ``ProjectError`` or ``ProveError``, which say how to mend it.
    """
    folder = path.resolve()
    settings = read_settings((folder, *folder.parents[:1]))
    project = find_project(path, application=app or settings.app, python=python)
    start = project.application.import_root
    inside = [f for f in (start, *start.parents) if f.is_relative_to(project.root)]
    return project, read_settings((project.root, *inside))


def _made(project: Project, settings: Settings, probes: list[Probe], *, as_json: bool) -> Report:
    if as_json:
        return prove_project(project, settings, probes, progress=lambda _: None)
    with progress(Console(highlight=False, stderr=True)) as report:
        return prove_project(project, settings, probes, progress=report)


def chosen_probes(names: list[str] | None) -> list[Probe]:
    """Return the probes of these names, all of them for none; raises ``ProveError``."""
    known = load_probes()
    wanted = [name.upper() for name in names or known]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ProveError(f"there is no probe {unknown[0]}", fix=f"one of {', '.join(known)}")
    return [known[name] for name in wanted]


def _refuse(error: ProjectError | ProveError, *, as_json: bool) -> NoReturn:
    typer.echo(str(error), err=True)
    if as_json:
        typer.echo(json.dumps({"error": error.message, "fix": error.fix}))
    raise typer.Exit(_REFUSED)
