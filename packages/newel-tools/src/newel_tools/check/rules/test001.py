"""TEST001: a route that no test requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.suite import Suite
from newel_tools.facts.files import is_test, project_files
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_LISTED: Final = 20


def find(review: Review) -> Iterator[Finding]:
    """Find the routes of each file that no test names; without any test, say it once."""
    suite = Suite(review)
    if suite.is_whole or not review.http_routes:
        return
    if not suite.exists:
        if not _has_tests_elsewhere(review):
            file, line = review.application_place
            number = len(review.http_routes)
            yield RULE.found(f"there is no test, of {number} routes", file=file, line=line)
        return
    missing: dict[str, list[Route]] = {}
    for route in review.http_routes:
        file, _ = review.at(route)
        if route.in_schema and file is not None and not suite.requests(route):
            missing.setdefault(file, []).append(route)
    for file, routes in missing.items():
        yield _finding(review, file, routes)


def _finding(review: Review, file: str, routes: list[Route]) -> Finding:
    named = "a route" if len(routes) == 1 else f"{len(routes)} routes of this file"
    return RULE.found(
        f"no test requests {named}",
        file=file,
        line=min(review.at(route)[1] for route in routes),
        route=routes[0].label,
        also=[route.label for route in routes[1:_LISTED]],
        severity="note",
    )


def _has_tests_elsewhere(review: Review) -> bool:
    """Tell whether the repository has tests beside the folder under review."""
    boundary = review.project.boundary
    if boundary == review.project.root:
        return False
    return any(
        name.startswith("test_") and is_test((folder / name).relative_to(boundary))
        for folder, names in project_files(boundary)
        for name in names
    )


RULE = Rule(
    id="TEST001",
    title="No test requests a route",
    severity="change",
    how="import",
    why="Whatever breaks it is found by its users: nothing else has ever called it.",
    fix="request it as a client would, with a test database: what it answers, what it refuses",
    seed='003 "Tests included (>80% coverage)", "Skip tests"',
    expected="paths that are put together and may be the route's, names given to `url_path_for`, "
    "suites that go over every route (schemathesis, `app.routes`, `openapi()`), hidden routes. "
    "Single routes are notes.",
    bad="""
# file: main.py
from fastapi import FastAPI

app = FastAPI()


@app.get("/notes")
def read_notes() -> list[str]:
    return []


@app.post("/notes")
def write_note(text: str) -> None:  # finding
    return None


@app.delete("/notes/{note_id}")
def remove_note(note_id: int) -> None:
    return None
# file: tests/test_notes.py
from fastapi.testclient import TestClient

from main import app

client = TestClient(app)


def test_there_are_none():
    assert client.get("/notes").json() == []
""",
    good="""
# file: main.py
from fastapi import APIRouter, FastAPI

app = FastAPI()
router = APIRouter(prefix="/api/v1/notes")


@router.get("")
def read_notes() -> list[str]:
    return []


@router.post("")
def write_note(text: str) -> None:
    return None


@router.get("/{note_id}")
def read_note(note_id: int) -> str:
    return ""


@router.get("/{note_id}/pages/{page}")
def read_page(note_id: int, page: int) -> str:
    return ""


@router.put("/{note_id}")
def replace_note(note_id: int) -> None:
    return None


@router.delete("/{note_id}")
def remove_note(note_id: int) -> None:
    return None


@app.get("/metrics", include_in_schema=False)
def metrics() -> str:
    return ""


app.include_router(router)
# file: tests/test_notes.py
import pytest
from fastapi.testclient import TestClient

from main import app

client = TestClient(app, base_url="http://test/api/v1")
NOTES = "/api/v1/notes"


def test_there_are_none():
    assert client.get(NOTES).json() == []
    assert client.request("POST", "/notes", params={"text": "a"}).status_code == 200


def test_one():
    note_id = 1
    assert client.get(f"{NOTES}/{note_id}").status_code == 200
    assert client.get(f"/notes/{note_id}/pages/2?wide=1").status_code == 200
    assert client.put(app.url_path_for("replace_note", note_id=1)).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("delete", NOTES + "/1")])
def test_each(method, path):
    assert client.request(method, path).status_code == 200
""",
    find=find,
)
