"""``newel routes``, ``newel schema METHOD PATH`` and ``newel auth``: questions about any API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from newel_tools.application import (
    AppName,
    AppPython,
    AsJson,
    ProjectFolder,
    document_of,
    read_application,
)
from newel_tools.consult.access import access_of
from newel_tools.consult.login import Login, login_of
from newel_tools.consult.operation import Described, describe, find_operation
from newel_tools.consult.pages import show_login, show_operation
from newel_tools.consult.routes import routes_of, show_routes
from newel_tools.facts.facts import Facts
from newel_tools.facts.project import ProjectError
from newel_tools.openapi.document import Document, Operation
from newel_tools.refusal import refused

__all__ = ["auth", "auth_of", "routes", "schema", "schema_of"]


def routes(
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    as_json: AsJson = False,
) -> None:
    """List every route and what it asks of its callers."""
    with refused(as_json=as_json):
        rows = routes_of(read_application(project, name=app, python=python))
        if as_json:
            typer.echo(json.dumps([row.as_json() for row in rows], indent=2))
        else:
            show_routes(Console(soft_wrap=True), rows)


def schema(
    method: Annotated[str, typer.Argument(help="GET, POST, ...")],
    path: Annotated[str, typer.Argument(help="The path: /agents/{id}, /agents/42, or its end.")],
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    as_json: AsJson = False,
) -> None:
    """Show what one operation takes and answers, with examples."""
    with refused(as_json=as_json):
        found = schema_of(read_application(project, name=app, python=python), method, path)
        if as_json:
            typer.echo(json.dumps(found.as_json(), indent=2))
        else:
            show_operation(Console(soft_wrap=True), found)


def auth(
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    as_json: AsJson = False,
) -> None:
    """Explain how clients log in, and what the routes ask for."""
    with refused(as_json=as_json):
        found = auth_of(read_application(project, name=app, python=python))
        if as_json:
            typer.echo(json.dumps(found.as_json(), indent=2))
        else:
            show_login(Console(soft_wrap=True), found)


def schema_of(facts: Facts, method: str, path: str) -> Described:
    """Return one operation of an application; raises ``ProjectError`` when there is no such."""
    document = Document(document_of(facts))
    found = find_operation(document, method, path)
    if not isinstance(found, Operation):
        hint = f"is it one of: {'; '.join(found)}" if found else "`newel routes` lists them"
        raise ProjectError(
            f"the API's document has no single operation {method.upper()} {path}", fix=hint
        )
    return describe(document, found, needs=_needs(facts).get(found.name, "open"))


def auth_of(facts: Facts) -> Login:
    """Return how clients of an application log in; raises ``ProjectError``."""
    return login_of(facts, Document(document_of(facts)))


def _needs(facts: Facts) -> Mapping[str, str]:
    found: dict[str, Any] = {}
    for route in facts.http_routes:
        for method in route.methods:
            # The document drops what converters say: `{path:path}`.
            path = route.path.replace(":path}", "}")
            found[f"{method} {path}"] = str(access_of(route))
    return found
