"""HTTP005: an interface without a version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_VERSION: Final = re.compile(
    r"/v\d+(\.\d+)*(/|$)|/\d{4}-\d{2}(-\d{2})?(/|$)|\{version\}", re.IGNORECASE
)
_TECHNICAL: Final = re.compile(
    r"^/?$|health|ready|live|ping|metrics|status|docs|openapi|favicon|static|version|robots|\.well-known",
    re.IGNORECASE,
)
_VERSIONING: Final = frozenset({"fastapi-versioning", "fastapi-versionizer", "cadwyn"})


def find(review: Review) -> Iterator[Finding]:
    """Find applications in which no path has a version."""
    paths = [route.path for route in review.http_routes if not _TECHNICAL.search(route.path)]
    application = review.facts.application or {}
    prefix = str(application.get("root_path") or "")
    versioned = any(_VERSION.search(prefix + path) for path in paths)
    if paths and not versioned and _VERSIONING.isdisjoint(review.facts.versions):
        file, line = review.application_place
        yield RULE.found(f"none of {len(paths)} paths has a version", file=file, line=line)


RULE = Rule(
    id="HTTP005",
    title="The interface has no version",
    severity="note",
    how="import",
    why="The first change that breaks a client has nowhere to go but over all clients at once.",
    fix='`APIRouter(prefix="/v1")` around the routes',
    seed="versioning",
    expected="health checks, metrics and documentation; versions in the root path, as a date, or "
    "by a library. Nothing is said about single routes.",
    bad="""
from fastapi import FastAPI

app = FastAPI()  # finding


@app.get("/notes")
def notes() -> list[int]:
    return []


@app.get("/health")
def health() -> int:
    return 1
""",
    good="""
from fastapi import APIRouter, FastAPI

app = FastAPI()
router = APIRouter(prefix="/api/v1")


@router.get("/notes")
def notes() -> list[int]:
    return []


@app.get("/health")
def health() -> int:
    return 1


app.include_router(router)
""",
    find=find,
)
