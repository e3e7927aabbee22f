"""``newel migrate`` and ``newel routes``: what is done to one service from outside."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from newel.app import access_of
from newel.entity import Entity
from newel.errors import ConfigurationError
from newel.migrations import Migrations
from newel.project import Project
from newel.settings import Settings

__all__ = ["Route", "migrate", "routes", "routes_of"]

migrate: typer.Typer = typer.Typer()


def _migrations() -> Migrations:
    # The application is imported so that every model is known.
    settings: Settings = Project.find().load_app().state.settings
    return Migrations(
        settings.database_url, directory=settings.migrations, metadata=Entity.metadata
    )


@migrate.command("up")
def up(revision: Annotated[str, typer.Argument(help="How far to go.")] = "head") -> None:
    """Apply the missing migrations."""
    done = asyncio.run(_migrations().up(revision))
    typer.echo(f"applied {', '.join(done)}" if done else "nothing to apply")


@migrate.command("down", context_settings={"ignore_unknown_options": True})
def down(
    revision: Annotated[str, typer.Argument(help="Down to here; -1 is the last one.")] = "-1",
) -> None:
    """Take back migrations; the rows they hold are lost."""
    done = asyncio.run(_migrations().down(revision))
    typer.echo(f"took back {', '.join(done)}" if done else "nothing to take back")


@migrate.command("stamp")
def stamp(
    revision: Annotated[str, typer.Argument(help="Where the database is; base forgets it.")],
) -> None:
    """Note where a database is that got its tables otherwise; changes no table."""
    at = asyncio.run(_migrations().stamp(revision))
    typer.echo(f"the database counts as being at {at or 'base'}; `newel migrate check` compares it")


@migrate.command("new")
def new(
    message: Annotated[str, typer.Argument(help="What changes, in a few words.")],
    *,
    empty: Annotated[bool, typer.Option("--empty", help="Without operations, for data.")] = False,
) -> None:
    """Write the migration from the present schema to the models; read it before you use it."""
    path = asyncio.run(_migrations().new(message, empty=empty))
    typer.echo("models and migrations agree: nothing to write" if path is None else str(path))
    for line in path.read_text(encoding="utf-8").splitlines() if path else ():
        if line.startswith("    # "):  # what the file notes of itself
            typer.echo(f"note:  {line.strip(' #')}: in the model and in this file", err=True)


@migrate.command("check")
def check() -> None:
    """Fail when the models and the migrations differ."""
    differences = asyncio.run(_migrations().check())
    if not differences:
        typer.echo("models and migrations agree")
        return
    for line in differences:
        typer.echo(f"  {line}")
    raise ConfigurationError(
        f"Models and migrations differ in {len(differences)} point(s)",
        fix='run `newel migrate new "what changed"`',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route: ``access`` is ``public``, the permissions it asks for, or ``-`` for the docs."""

    method: str
    path: str
    access: str
    name: str


def routes_of(app: FastAPI) -> list[Route]:
    """Return the routes of ``app``, by path and method; a websocket's method is ``WS``."""
    found: list[Route] = []
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        access = None if dependant is None else access_of(dependant)
        said = "-" if access is None else ", ".join(access) or "public"
        methods = sorted((getattr(context, "methods", None) or {"WS"}) - {"HEAD"})
        path, name = getattr(context, "path", "?"), getattr(context, "name", "")
        found += [Route(method=method, path=path, access=said, name=name) for method in methods]
    return sorted(found, key=lambda route: (route.path, route.method))


def routes(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List every route with the permissions it asks for."""
    found = routes_of(Project.find().load_app())
    if as_json:
        typer.echo(json.dumps([asdict(route) for route in found], indent=2))
        return
    rows = [("METHOD", "PATH", "ACCESS", "NAME")]
    rows += [(route.method, route.path, route.access, route.name) for route in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *cells, last in rows:
        typer.echo("  ".join((*map(str.ljust, cells, widths), last)))
