"""AUTH003: the one route of its file that asks nobody."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access, is_public
from newel_tools.check.database import writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_EFFECT: Final = re.compile(
    r"^(add|append|archive|cancel|commit|create|delete|discard|edit|insert|pop|publish|put|push|remove|replace"
    r"|save|send|set|store|submit|update|upload|upsert|write)(_|$)"
)
_KEY: Final = re.compile(
    r"(^|[_-])(token|signature|sig|hmac|secret|api_key|ticket)$", re.IGNORECASE
)
_OTHERS: Final = 3  # protected routes of the same kind that make the last one an exception


def find(review: Review) -> Iterator[Finding]:
    """Find single unprotected routes among protected ones that do the same to the same things."""
    access = Access(review)
    if access.guarding_middleware:
        return
    for routes in _by_file(review).values():
        reads = [route for route in routes if not (route.writes or is_public(review, route))]
        is_open = 2 * sum(not access.is_protected(route) for route in reads) >= len(reads) > 0
        for writes in (False, True):
            alike = [route for route in routes if route.writes is writes]
            outside = [route for route in alike if not access.is_protected(route)]
            if len(outside) != 1 or len(alike) <= _OTHERS or _is_meant(review, outside[0]):
                continue
            # Where anybody may read, a POST that reads (by many ids, say) is one more of these.
            reads_by_post = is_open and outside[0].methods == ("POST",)
            if not reads_by_post or _has_effect(review, outside[0]):
                yield _finding(review, outside[0], len(alike) - 1)


def _by_file(review: Review) -> dict[str, list[Route]]:
    found: dict[str, list[Route]] = {}
    for route in review.http_routes:
        file, _ = review.at(route)
        found.setdefault(file or "", []).append(route)
    return found


def _has_effect(review: Review, route: Route) -> bool:
    """Tell whether a route calls what by its name changes something, in a database or elsewhere."""
    function = review.function(route.endpoint)
    if function is None:
        return False
    calls = (call for inner in review.calls.reached(function) for call in review.calls.of(inner))
    return any(writes_rows(call) or _EFFECT.search(_called(call)) for call in calls)


def _called(call: Call) -> str:
    callee = call.node.func
    return callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")


def _is_meant(review: Review, route: Route) -> bool:
    """Tell whether a route is public by its name, asks for a key of its own, or is AUTH001's."""
    function = review.function(route.endpoint)
    if function is None or is_public(review, route):
        return True
    if any(_KEY.search(param.name) for param in route.params):
        return True
    reached = review.calls.reached(function)
    changes = any(writes_rows(call) for inner in reached for call in review.calls.of(inner))
    return route.writes and changes


def _finding(review: Review, route: Route, others: int) -> Finding:
    file, line = review.at(route)
    return RULE.found(
        f"it asks nobody who is calling; the {others} others like it in this file do",
        file=file,
        line=line,
        route=route.label,
    )


RULE = Rule(
    id="AUTH003",
    title="One route of a file asks nobody",
    severity="change",
    how="import",
    why="Where every other route of its kind is protected, the exception is rarely meant: a "
    "parameter was "
    "forgotten.",
    fix="give it what the others depend on; better, put it into the router: "
    "`APIRouter(dependencies=[...])`",
    seed='003 "Dependency injection for auth"',
    expected="files with two exceptions or with fewer than three protected routes that read, or "
    "write, as this one does; a POST that only reads where reading is public; log-in, webhooks, "
    "health and the like by their path; a signature or a token among its parameters.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
Token = Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="login"))]


@app.get("/notes")
def notes(token: Token) -> list[str]:
    return [token]


@app.get("/notes/recent")
def recent(token: Token) -> list[str]:
    return [token]


@app.get("/notes/{note_id}")
def note(note_id: int, token: Token) -> str:
    return f"{note_id} {token}"


@app.get("/notes/{note_id}/versions")
def versions(note_id: int) -> list[int]:  # finding
    return [note_id]
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
Token = Annotated[str, Depends(OAuth2PasswordBearer(tokenUrl="login"))]


@app.get("/notes")
def notes(token: Token) -> list[str]:
    return [token]


@app.get("/notes/recent")
def recent(token: Token) -> list[str]:
    return [token]


@app.get("/notes/{note_id}")
def note(note_id: int, token: Token) -> str:
    return f"{note_id} {token}"


@app.get("/public/notes/{note_id}")
def shown(note_id: int) -> int:
    return note_id


@app.post("/notes")
def create(token: Token) -> str:
    return token


@app.post("/notes/preview")
def preview(text: str) -> str:
    return text
""",
    find=find,
)
