"""``newel plan``: the plan of a sentence or a file, shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.syntax import Syntax

from newel_tools.errors import PlanError
from newel_tools.plan.fields import refusal
from newel_tools.plan.plan import Plan
from newel_tools.plan.text import read_plan, write_plan
from newel_tools.planner.planner import plan_sentence

__all__ = ["plan", "plan_of"]


def plan_of(source: str) -> Plan:
    """Return the plan that a sentence asks for, or that a ``.yaml``, ``.yml`` or ``.json`` file is.

    Raises ``PlanError``.
    """
    if not source.endswith((".yaml", ".yml", ".json")) or "\n" in source:
        return plan_sentence(source)
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise PlanError(
            f"{source} cannot be read: {reason}", fix="name an existing plan, or write a sentence"
        ) from None
    if not source.endswith(".json"):
        return read_plan(text)
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        raise refusal(error) from None


def plan(
    sentence: Annotated[str, typer.Argument(help="What to build, or a plan.yaml to check.")] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print a plan's JSON schema.")] = False,
) -> None:
    """Plan a service from one sentence, and say what was assumed and what not understood."""
    if schema:
        typer.echo(json.dumps(Plan.model_json_schema(), indent=2))
        return
    try:
        made = plan_of(sentence)
    except PlanError as error:
        _refuse(error, as_json=as_json)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        _show(write_plan(made))


def _show(text: str) -> None:
    """Print YAML, in colour on a terminal."""
    console = Console()
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:
        typer.echo(text, nl=False)


def _refuse(error: PlanError, *, as_json: bool) -> NoReturn:
    """Say in two lines what is wrong and how to mend it; a skeleton goes to stdout."""
    typer.echo(str(error), err=True)
    if as_json:
        said = {"error": error.message, "fix": error.fix, "line": error.line}
        typer.echo(json.dumps(said | {"skeleton": error.skeleton}))
    elif error.skeleton is not None:
        _show(error.skeleton)
    raise typer.Exit(2)
