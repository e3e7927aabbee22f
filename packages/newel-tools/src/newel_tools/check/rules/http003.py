"""HTTP003: a path that says what is done, or names one thing where there are many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_VERBS: Final = re.compile(
    r"^(get|fetch|list|create|add|insert|update|edit|modify|delete|remove|destroy)([-_][a-z]|[A-Z]|$)"
)
_UNCOUNTABLE: Final = re.compile(
    r"(s|data|media|info|information|equipment|news|staff|content|feedback|history|stock|inventory|metadata"
    r"|people|children|police|software|hardware|storage)$"
)


def find(review: Review) -> Iterator[Finding]:
    """Find segments that begin with a verb of CRUD, and `/user/{user_id}`."""
    for route in review.http_routes:
        if not route.in_schema or "JSON" not in (route.response.answer or ""):
            continue  # pages for people have addresses of their own kind
        segments = [part for part in route.path.split("/") if part]
        for segment, following in pairwise([*segments, ""]):
            said = _fault(segment, following)
            if said is not None:
                file, line = review.at(route)
                yield RULE.found(said, file=file, line=line, route=route.label)


def _fault(segment: str, following: str) -> str | None:
    if _VERBS.match(segment):
        return f"the path says what is done: `/{segment}`"
    singular = segment.lower().replace("-", "_")
    names_one = following in (f"{{{singular}_id}}", f"{{{singular}_uid}}", f"{{{singular}_uuid}}")
    if names_one and not _UNCOUNTABLE.search(singular):
        return f"the path names one thing where there are many: `/{segment}/{following}`"
    return None


RULE = Rule(
    id="HTTP003",
    title="A path has a verb, or a singular noun",
    severity="note",
    how="import",
    why="The method says what is done, the path to what: with both in one place, every client has "
    "to learn each path by heart.",
    fix="`POST /notes`, `GET /notes/{note_id}`, `DELETE /notes/{note_id}`",
    seed='003 "RESTful patterns"',
    expected="actions that are no CRUD (`/activate`), nouns without a plural, singletons such as "
    "`/me`, pages of HTML, hidden routes.",
    bad="""
from fastapi import FastAPI

app = FastAPI()


@app.post("/create-note")
def create() -> int:  # finding
    return 1


@app.get("/notes/getAll")
def listed() -> int:  # finding
    return 1


@app.get("/note/{note_id}")
def read(note_id: int) -> int:  # finding
    return note_id
""",
    good="""
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

app = FastAPI()


@app.get("/")
def root() -> int:
    return 1


@app.get("/notes/edit", response_class=HTMLResponse)
def edit() -> str:
    return "<form></form>"


@app.post("/notes")
def create() -> int:
    return 1


@app.get("/notes/{note_id}")
def read(note_id: int) -> int:
    return note_id


@app.post("/notes/{note_id}/activate")
def activate(note_id: int) -> int:
    return note_id


@app.get("/equipment/{equipment_id}")
def equipment(equipment_id: int) -> int:
    return equipment_id


@app.get("/addresses/me")
def me() -> int:
    return 1
""",
    find=find,
    is_habit=True,
)
