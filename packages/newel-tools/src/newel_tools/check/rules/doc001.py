"""DOC001: routes that nobody explains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_FILES: Final = 5  # more of them are one finding
_LISTED: Final = 20


def find(review: Review) -> Iterator[Finding]:
    """Find routes without description or summary, or without tags: one finding for each file.

    If many files have some, it is one finding for all.
    """
    by_file: dict[str, list[Route]] = {}
    for route in review.http_routes:
        file, _ = review.at(route)
        if route.in_schema and file is not None and _lacks(route):
            by_file.setdefault(file, []).append(route)
    if len(by_file) > _FILES:
        routes = [route for found in by_file.values() for route in found]
        yield _finding(review, routes, f"in {len(by_file)} files")
        return
    for routes in by_file.values():
        yield _finding(review, routes, "in this file")


def _finding(review: Review, routes: list[Route], where: str) -> Finding:
    file, line = min((review.at(route) for route in routes), key=lambda place: str(place[0]))
    line = min(review.at(route)[1] for route in routes if review.at(route)[0] == file)
    lacking = sorted({word for route in routes for word in _lacks(route)})
    return RULE.found(
        f"without {' or '.join(lacking)}: {len(routes)} of the routes {where}",
        file=file,
        line=line,
        also=[route.label for route in routes[:_LISTED]],
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
