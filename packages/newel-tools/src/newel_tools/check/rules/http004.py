"""HTTP004: statuses that are raised and not documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_NAMED: Final = re.compile(r"HTTP_(\d{3})_")
_BY_NAME: Final = {
    "BAD_REQUEST": 400,
    "CONFLICT": 409,
    "FORBIDDEN": 403,
    "GONE": 410,
    "NOT_FOUND": 404,
    "UNAUTHORIZED": 401,
}


def find(review: Review) -> Iterator[Finding]:
    """Find statuses of HTTPException that OpenAPI does not have; if it never does, say it once."""
    missing: list[tuple[Route, list[int]]] = []
    for route in review.http_routes:
        known = {int(code) for code in route.response.documented if code.isdigit()}
        raised = sorted(_raised(review, route) - known) if route.in_schema else []
        if raised and not {"4XX", "default"} & set(route.response.documented):
            missing.append((route, raised))
    if missing and not any(route.response.documented for route in review.http_routes):
        route, _ = missing[0]
        file, line = review.at(route)
        yield RULE.found(
            f"no route documents its errors, and {len(missing)} of them raise some",
            file=file,
            line=line,
            also=[route.label for route, _ in missing],
        )
        return
    for route, raised in missing:
        file, line = review.at(route)
        said = ", ".join(map(str, raised))
        yield RULE.found(
            f"{said} is raised and not documented",
            file=file,
            line=line,
            route=route.label,
        )


def _raised(review: Review, route: Route) -> set[int]:
    return {
        status
        for start in review.starts(route)
        for function in review.calls.reached(start)
        for status in _statuses(function)
    }


def _statuses(function: Function) -> Iterator[int]:
    """Yield the statuses that a function raises HTTPException with."""
    for node in function.nodes:
        call = node.exc if isinstance(node, ast.Raise) else None
        if not isinstance(call, ast.Call) or "HTTPException" not in ast.unparse(call.func):
            continue
        given = [item.value for item in call.keywords if item.arg == "status_code"]
        status = _status((given or call.args[:1] or [ast.Constant(None)])[0])
        if status is not None and status >= 400:
            yield status


def _status(value: ast.expr) -> int | None:
    match value:
        case ast.Constant(value=int(status)):
            return status
        case ast.Attribute(attr=name) | ast.Name(id=name):
            found = _NAMED.match(name)
            return int(found[1]) if found else _BY_NAME.get(name)
        case _:
            return None


RULE = Rule(
    id="HTTP004",
    title="A status is raised and not documented",
    severity="note",
    how="import",
    why="Generated clients have no type for the answer, and readers of the documentation believe "
    "that it cannot happen.",
    fix='`responses={404: {"model": Problem}}` at the route or its router',
    seed='"Document all status codes"',
    expected="statuses of the router and of `default`, hidden routes, statuses that are computed. "
    "If no route documents any, it is one finding.",
    bad="""
from fastapi import FastAPI, HTTPException, status

app = FastAPI()


def load(note_id: int) -> int:
    if note_id < 0:
        raise HTTPException(status_code=status.HTTP_404_NOT_FOUND)
    return note_id


@app.get("/notes/{note_id}", responses={404: {"description": "No such note"}})
def read(note_id: int) -> int:
    return load(note_id)


@app.delete("/notes/{note_id}", responses={404: {"description": "No such note"}})
def delete(note_id: int) -> int:  # finding
    if note_id == 1:
        raise HTTPException(409, "in use")
    return load(note_id)
""",
    good="""
from http import HTTPStatus

from fastapi import FastAPI, HTTPException

app = FastAPI(responses={404: {"description": "Not found"}})


class Locked(Exception):
    pass


@app.get("/notes/{note_id}")
def read(note_id: int) -> int:
    if note_id < 0:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    if note_id == 1:
        raise Locked
    if note_id == 2:
        raise HTTPException(status_code=400 + note_id)
    return note_id


@app.get("/any", responses={"4XX": {"description": "Problem"}})
def any_status() -> int:
    raise HTTPException(409)


@app.get("/hidden", include_in_schema=False)
def hidden() -> int:
    raise HTTPException(418)
""",
    find=find,
    is_habit=True,
)
