"""The command line: ``newel serve``, ``worker``, ``migrate``, ``routes``, ``doctor`` and others.

Other packages add commands by the entry points group ``newel.commands``: a name, and a function or
a ``typer.Typer``. Of two of one name, ours answers in the folder of a service, theirs elsewhere.

Whatever goes wrong on the user's side ends with two lines, what and how to mend it, and exit code
1; wrong usage ends with exit code 2.
"""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from newel import __version__
from newel.errors import AppError, ConfigurationError

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class _Command:
    """One word after ``newel``: what it does, and where its function or ``Typer`` is."""

    does: str
    place: str | EntryPoint = field(kw_only=True)

    def load(self) -> Any:
        if isinstance(self.place, EntryPoint):
            return self.place.load()
        module, _, name = self.place.partition(":")
        # Imported when it is used, here and nowhere else: together the commands need FastAPI,
        # uvicorn and Alembic, 1.3 s of imports; `newel keys new` needs none of them.
        return getattr(importlib.import_module(module), name)


_COMMANDS: dict[str, _Command] = {
    "serve": _Command("Run the service.", place="newel.serve:serve"),
    "worker": _Command("Run the service's jobs, without serving.", place="newel.serve:worker"),
    "migrate": _Command("Bring the database's schema up or down.", place="newel.commands:migrate"),
    "routes": _Command("List the routes and who may call them.", place="newel.commands:routes"),
    "doctor": _Command("Say what a service lacks, and the fix.", place="newel.doctor:doctor"),
    "admin": _Command("Create administrators.", place="newel.admin:admin"),
    "keys": _Command("Make and rotate secrets.", place="newel.keys:keys"),
}
_OF_TOOLS: dict[str, str] = {
    "auth": "Tell how to log in, and which routes ask for what.",
    "check": "Review any FastAPI project.",
    "client": "Write typed clients of an API.",
    "contract": "Find what breaks the clients of an API.",
    "mcp": "Serve these tools to coding assistants.",
    "new": "Make a service of a sentence or a plan.",
    "plan": "Show what would be made of a sentence.",
    "prove": "Start any FastAPI application and break it on purpose.",
    "routes": "List the routes and who may call them.",
    "schema": "Show one operation: what it takes and answers.",
}
"""What the commands of newel-tools do: to say it, they would have to be imported."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; ``arguments`` are those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    wanted = next((word for word in given if not word.startswith("-")), None)
    try:
        _program(wanted)(given)
    except AppError as error:
        _explain(error)
    raise SystemExit(1)


def _program(wanted: str | None) -> typer.Typer:
    """Return the program with the wanted command loaded, the others by name only."""
    program = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # they print local variables: secrets, in our case
        help="Production FastAPI, proven.",
    )
    program.callback()(_options)
    plugins = _plugins()
    commands = plugins | _COMMANDS if _in_service() else _COMMANDS | plugins
    if wanted in _OF_TOOLS and wanted not in commands:
        raise ConfigurationError(
            f"`newel {wanted}` comes with newel-tools, which is not installed here",
            fix=f"uv pip install newel-tools, or run uvx --with newel-tools newel {wanted}",
        )
    for name, command in commands.items():
        found = command.load() if name == wanted else _unloaded
        if isinstance(found, typer.Typer):
            program.add_typer(found, name=name, help=command.does, no_args_is_help=True)
        else:
            program.command(name, help=command.does)(cast("Callable[..., Any]", found))
    return program


def _plugins() -> dict[str, _Command]:
    return {
        entry.name: _Command(_words_of(entry), place=entry)
        for entry in sorted(entry_points(group="newel.commands"), key=lambda entry: entry.name)
    }


def _words_of(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "?"
    words = _OF_TOOLS if package == "newel-tools" else {}
    return words.get(entry.name, f"From {package}.")


def _in_service() -> bool:
    """Tell whether this is the folder of a service of the kernel's.

    There `newel routes` is ours, which knows each permission; elsewhere another package's command
    of the same name answers, for applications that never heard of us.
    """
    try:
        table: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    needed = table.get("project", {}).get("dependencies", [])
    return any(re.match(r"newel(?![\w.-])", str(name)) for name in needed)


def _unloaded() -> None:
    """Stand for a command in the list of ``newel --help``."""


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        typer.echo(f"newel {__version__}")
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Production FastAPI, proven."""


def _explain(error: AppError) -> None:
    fix = error.fix if isinstance(error, ConfigurationError) else "correct it and run it again"
    what = " ".join(field.message for field in error.errors) or error.detail
    typer.echo(f"error: {what}", err=True)
    typer.echo(f"fix:   {fix}", err=True)
