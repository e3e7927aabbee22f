"""DOC003: operation ids that change with the path."""

from __future__ import annotations

import re
from collections.abc import Iterator

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find applications whose operation ids are FastAPI's own, and ids that are used twice."""
    routes = [route for route in review.http_routes if route.in_schema]
    computed = [route for route in routes if _is_computed(route)]
    if computed:
        file, line = review.application_place
        yield RULE.found(
            f"{len(computed)} operation ids are made of the path", file=file, line=line
        )
    first: dict[str, Route] = {}
    for route in routes:
        name = route.operation_id or route.unique_id
        other = first.setdefault(name, route)
        if other is not route and name:
            file, line = review.at(route)
            yield RULE.found(
                f"the operation id `{name}` is {other.label}'s too",
                file=file,
                line=line,
                route=route.label,
            )


def _is_computed(route: Route) -> bool:
    """Tell whether an id is the default: name, path and method."""
    if route.operation_id is not None:
        return False
    made = re.sub(r"\W", "_", f"{route.name}{route.path}")
    return route.unique_id in {f"{made}_{method.lower()}" for method in route.methods}


RULE = Rule(
    id="DOC003",
    title="Operation ids change with the path",
    severity="note",
    how="import",
    why="Generated clients name their methods after them: moving a route renames the method in "
    "every client, and one id for two operations loses one.",
    fix='`FastAPI(generate_unique_id_function=lambda route: f"{route.tags[0]}-{route.name}")`, and '
    "names that are used once",
    seed='"OpenAPI docs complete"',
    expected="ids that are given, or made by a function of the project; hidden routes.",
    bad="""
from fastapi import FastAPI

app = FastAPI()  # finding


@app.get("/notes")
def notes() -> list[int]:
    return []


@app.get("/one", operation_id="one")
def one() -> int:
    return 1


@app.get("/other", operation_id="one")
def other() -> int:  # finding
    return 1
""",
    good="""
from fastapi import FastAPI
from fastapi.routing import APIRoute


def named(route: APIRoute) -> str:
    return route.name


app = FastAPI(generate_unique_id_function=named)


@app.get("/notes")
def notes() -> list[int]:
    return []


@app.get("/one", operation_id="one")
def one() -> int:
    return 1
""",
    find=find,
    is_habit=True,
)
