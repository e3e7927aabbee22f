"""RATE001: nothing limits how often a client calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.limits import limits_all, limits_route
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_MOST: Final = 0.5  # of the routes: a limit that more have was put into the routers


def find(review: Review) -> Iterator[Finding]:
    """Find an application without a limit by default; one finding."""
    routes = review.http_routes
    if not routes or limits_all(review):
        return
    limited = [route for route in routes if limits_route(review, route)]
    if len(limited) < _MOST * len(routes):
        file, line = review.application_place
        yield RULE.found(
            f"no limit by default: {len(routes) - len(limited)} of {len(routes)} routes answer as "
            "often as they are asked",
            file=file,
            line=line,
        )


RULE = Rule(
    id="RATE001",
    title="Nothing limits how often a client calls",
    severity="note",
    how="import",
    why="One client in a loop, by mistake or on purpose, takes the service from everybody else.",
    fix="count by user, or by address where there is none, in a middleware: 100 a minute, 429 with "
    "`Retry-After`",
    seed='003 "API endpoints: 100/minute per user", 004 Rate Limiting',
    expected="a limit in a middleware, or in at least half of the routes. A limit in a gateway "
    "cannot be seen: "
    "allow it here and say so.",
    bad="""
from fastapi import FastAPI

app = FastAPI()  # finding


@app.get("/notes")
def notes() -> list[str]:
    return []
""",
    good="""
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()
calls: dict[str, int] = {}


@app.middleware("http")
async def count(request: Request, call_next):
    host = request.client.host if request.client else ""
    calls[host] = calls.get(host, 0) + 1
    if calls[host] > 100:
        return JSONResponse({"detail": "later"}, status_code=429)
    return await call_next(request)


@app.get("/notes")
def notes() -> list[str]:
    return []
""",
    find=find,
)
