"""``newel check``: the review as a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import typer
from rich.console import Console

from newel_tools.check.check import Report, check_project
from newel_tools.check.finding import Verdict
from newel_tools.check.mend import mend
from newel_tools.check.rule import load_rules
from newel_tools.check.sarif import github_lines, sarif
from newel_tools.check.silence import read_baseline, write_baseline
from newel_tools.check.text import explain, show_report
from newel_tools.facts.project import ProjectError, find_project, refuse_unwritable

__all__ = ["check"]

Form = Literal["text", "json", "sarif", "github"]

_CODES: Final[dict[Verdict, int]] = {"APPROVE": 0, "REQUEST CHANGES": 1, "BLOCK": 2}
_REFUSED: Final = 3  # there was no review: unlike a verdict, this is about how it was called


def check(
    path: Annotated[Path, typer.Argument(help="The project's folder, or its main file.")] = Path(),
    *,
    app: Annotated[
        str | None, typer.Option(help="The application, package.module:name.", metavar="NAME")
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="The project's interpreter; by default its .venv's.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="What to print.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="Leave out the findings that this file lists.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write-baseline", help="Accept all findings of today.")
    ] = None,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout", help="Seconds for the import.", min=1)
    ] = 60.0,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend in the source what can be mended for certain.")
    ] = False,
    rule: Annotated[
        str | None, typer.Option("--explain", help="Explain a rule and end.", metavar="RULE")
    ] = None,
) -> None:
    """Review a FastAPI project; ends with 0 (approve), 1 (request changes) or 2 (block)."""
    if rule is not None:
        _explain(rule)
        return
    try:
        project = find_project(path, application=app, python=python)
        accepted: Mapping[str, int] = read_baseline(baseline) if baseline else {}
        refuse_unwritable(write)
    except ProjectError as error:
        _refuse(error, as_json=as_json or form == "json")
    report = check_project(project, timeout_seconds=timeout_seconds, baseline=accepted)
    mended = mend(project.root, report.findings, load_rules()) if fix else {}
    for file, number in mended.items():
        typer.echo(f"mended {number} in {file}", err=True)
    if fix and not mended:
        typer.echo("nothing here can be mended for certain", err=True)
    if mended:
        report = check_project(project, timeout_seconds=timeout_seconds, baseline=accepted)
    if write is not None:
        write_baseline(write, [*report.findings, *report.known])
    _print(report, "json" if as_json else form)
    if write is None and (code := _CODES[report.verdict]):
        raise typer.Exit(code)


def _print(report: Report, form: Form) -> None:
    if form == "json":
        typer.echo(json.dumps(report.as_json(), indent=2))
    elif form == "sarif":
        typer.echo(json.dumps(sarif(report), indent=2))
    elif form == "github":
        for line in github_lines(report):
            typer.echo(line)
    else:
        show_report(Console(highlight=False), report)


def _explain(name: str) -> None:
    rules = load_rules()
    known = rules.get(name.upper())
    if known is None:
        typer.echo(f"there is no rule {name}\n  fix: one of {', '.join(rules)}", err=True)
        raise typer.Exit(_REFUSED)
    explain(Console(highlight=False), known)


def _refuse(error: ProjectError, *, as_json: bool) -> NoReturn:
    typer.echo(str(error), err=True)
    if as_json:
        typer.echo(json.dumps({"error": error.message, "fix": error.fix}))
    raise typer.Exit(_REFUSED)
