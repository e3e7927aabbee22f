"""RATE002: limits by default that most routes never hear of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_NESTED_SINCE: Final = (0, 137)  # FastAPI: an included router is one route with others inside
_MIDDLEWARE: Final = re.compile(r"SlowAPI(ASGI)?Middleware$")


def find(review: Review) -> Iterator[Finding]:
    """Find limiters whose middleware looks for the endpoint among the application's own routes."""
    if not any(_MIDDLEWARE.search(item.class_) for item in review.facts.middleware):
        return
    if _version(review.facts.versions.get("fastapi", "")) < _NESTED_SINCE:
        return
    counting = any(item.default_limits or item.application_limits for item in review.facts.limiters)
    included = _included(review)
    if counting and included is not None:
        yield RULE.found(
            "the limiter's default limits do not hold for the routes of included routers",
            file=included[0],
            line=included[1],
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _included(review: Review) -> tuple[str, int] | None:
    """Return where the first router is included in an application."""
    for module in review.source.own_modules():
        for node in module.nodes if "include_router" in module.text else ():
            match node:
                case ast.Call(func=ast.Attribute(attr="include_router"), lineno=line):
                    return module.file, line
                case _:
                    pass
    return None


RULE = Rule(
    id="RATE002",
    title="Default limits pass included routers by",
    severity="block",
    how="import",
    why="Since FastAPI 0.137 an included router is one route without an endpoint: a middleware "
    "that "
    "looks for the endpoint finds none and lets the request through.",
    fix="limit each route with `@limiter.limit(...)`, or use a middleware that does not look for "
    "the endpoint",
    seed='003 "Use slowapi or Redis-based limiter"; 003 "Rate Limiting"',
    expected="FastAPI before 0.137, limiters without default limits, applications without "
    "included routers, "
    "routes that are decorated themselves.",
    bad="""
from fastapi import APIRouter, FastAPI
from slowapi import Limiter
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address, default_limits=["100/minute"])
router = APIRouter()
app = FastAPI()
app.state.limiter = limiter
app.add_middleware(SlowAPIMiddleware)


@router.get("/notes")
def notes() -> list[str]:
    return []


app.include_router(router)  # finding
""",
    good="""
from fastapi import APIRouter, FastAPI, Request
from slowapi import Limiter
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address)
router = APIRouter()
app = FastAPI()
app.state.limiter = limiter
app.add_middleware(SlowAPIMiddleware)


@router.get("/notes")
@limiter.limit("100/minute")
def notes(request: Request) -> list[str]:
    return []


app.include_router(router)
""",
    find=find,
)
