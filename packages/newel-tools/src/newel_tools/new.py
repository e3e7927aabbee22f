"""``newel new``: the command that makes a service of a sentence or a plan."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from newel_tools.commands import plan_of
from newel_tools.errors import PlanError
from newel_tools.generator.generator import Result, create, missing_packages
from newel_tools.generator.layout import Layout
from newel_tools.generator.reports import ConsoleReport, SilentReport, show_plan, show_result
from newel_tools.generator.tree import TreeError
from newel_tools.plan.plan import Plan

__all__ = ["new"]

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def new(
    source: Annotated[str, typer.Argument(help="What to build, in a sentence, or a plan.yaml.")],
    directory: Annotated[
        Path | None, typer.Argument(help="Where; by default the service's name.")
    ] = None,
    *,
    layout: Annotated[
        Layout, typer.Option(help="A folder for each feature, or one for each layer.")
    ] = "features",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a service: write it, format it, migrate it, check its types and run its tests."""
    try:
        _ensure_installed()
        plan = plan_of(source)
        with _termination_interrupts():
            result = _make(plan, directory or Path(plan.service), layout=layout, as_json=as_json)
    except PlanError as error:
        if error.skeleton is not None and not as_json:
            typer.echo(error.skeleton, nl=False)
        message = str(error).partition("\n")[0]
        _refuse(message, error.fix, as_json=as_json, skeleton=error.skeleton)
    except TreeError as error:
        _refuse(error.message, error.fix, as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("Interrupted: nothing was written.", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if not result.ok:
        raise typer.Exit(_INTERRUPTED if result.interrupted else 1)


def _make(plan: Plan, directory: Path, *, layout: Layout, as_json: bool) -> Result:
    if as_json:
        result = create(plan, directory, layout=layout, report=SilentReport())
        said: dict[str, Any] = {"service": plan.service, "sentence": plan.sentence}
        said |= {"layout": layout, "assumed": plan.assumed}
        said |= {"not_understood": plan.not_understood}
        typer.echo(json.dumps(said | result.as_json(), indent=2))
        return result
    console = Console(soft_wrap=True)
    show_plan(console, plan, shown=_shown(directory), layout=layout)
    report = ConsoleReport(console, title=_shown(directory))
    try:
        result = create(plan, directory, layout=layout, report=report)
    finally:
        report.stop()
    show_result(console, result, shown=_shown(result.directory))
    return result


def _ensure_installed() -> None:
    if missing := missing_packages():
        raise TreeError(
            f"a service cannot be made and tested here without {', '.join(missing)}",
            fix=f"uv pip install {' '.join(repr(package) for package in missing)}",
        )


@contextmanager
def _termination_interrupts() -> Generator[None]:
    """Treat the end of a supervisor or a terminal like Ctrl-C, so that nothing is left behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _shown(directory: Path) -> str:
    """Return the directory as one would type it from here."""
    path = os.path.relpath(directory)
    return str(directory) if path.startswith("..") else path


def _refuse(message: str, fix: str, *, as_json: bool, skeleton: str | None = None) -> NoReturn:
    typer.echo(f"{message}\n  fix: {fix}", err=True)
    if as_json:
        below = {} if skeleton is None else {"skeleton": skeleton}
        typer.echo(json.dumps({"ok": False, "error": message, "fix": fix} | below))
    raise typer.Exit(2)
