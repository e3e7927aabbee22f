"""DOC001: routes that nobody explains."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find routes without description or summary, and without tags: one finding for each file."""
    by_file: dict[str, list[Route]] = {}
    for route in review.http_routes:
        file, _ = review.at(route)
        if route.in_schema and file is not None and _lacks(route):
            by_file.setdefault(file, []).append(route)
    for file, routes in by_file.items():
        first = min(routes, key=lambda route: review.at(route)[1])
        lacking = sorted({word for route in routes for word in _lacks(route)})
        yield RULE.found(
            f"without {' or '.join(lacking)}: {len(routes)} of the routes in this file",
            file=file,
            line=review.at(first)[1],
            also=[route.label for route in routes],
        )


def _lacks(route: Route) -> list[str]:
    lacks: list[str] = []
    if not route.description and not route.summary:
        lacks.append("description")
    if not route.tags:
        lacks.append("tag")
    return lacks


RULE = Rule(
    id="DOC001",
    title="Routes have no description or no tag",
    severity="note",
    how="import",
    why="The documentation says no more than the function's name, and lists everything under "
    '"default".',
    fix="write a docstring, and give the router `tags=[...]`",
    seed='"OpenAPI docs complete"',
    expected="routes with a docstring, a description or a summary; hidden routes.",
    bad="""
from fastapi import FastAPI

app = FastAPI()


@app.get("/notes", tags=["notes"])
def notes() -> list[int]:  # finding
    return []


@app.get("/tags")
def tags() -> list[int]:
    \"\"\"List the tags.\"\"\"
    return []
""",
    good="""
from fastapi import APIRouter, FastAPI

app = FastAPI()
router = APIRouter(tags=["notes"])


@router.get("/notes")
def notes() -> list[int]:
    \"\"\"List the notes.\"\"\"
    return []


@router.get("/titles", summary="List the titles")
def titles() -> list[int]:
    return []


@router.get("/hidden", include_in_schema=False)
def hidden() -> list[int]:
    return []


app.include_router(router)
""",
    find=find,
)
