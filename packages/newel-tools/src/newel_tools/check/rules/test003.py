"""TEST003: tests of nothing but what goes well."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.suite import Suite

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find applications whose tests expect no failure of any kind."""
    suite = Suite(review)
    requested = [route for route in review.http_routes if suite.requests(route)]
    if not requested or suite.is_whole or suite.expects_failures:
        return
    file, line = review.at(requested[0])
    yield RULE.found(
        f"{len(requested)} routes are tested, and no test expects that anything is refused",
        file=file,
        line=line,
        route=requested[0].label,
    )


RULE = Rule(
    id="TEST003",
    title="No test expects a failure",
    severity="change",
    how="import",
    why="What a service refuses is half of what it promises; nobody notices when it starts to "
    "accept everything, or to answer 500.",
    fix="for each route a request that is wrong, one for what is not there, one that comes twice: "
    "422, 404, 409",
    seed='003 "Cover success and error cases"',
    expected="any test that names a status from 400 on, `pytest.raises`, suites that go over every "
    "route, projects without tests (TEST001).",
    bad="""
# file: main.py
from fastapi import FastAPI

app = FastAPI()


@app.get("/notes/{note_id}")
def read_note(note_id: int) -> int:  # finding
    return note_id
# file: tests/test_notes.py
from fastapi.testclient import TestClient

from main import app


def test_it_is_read():
    assert TestClient(app).get("/notes/1").status_code == 200
""",
    good="""
# file: main.py
from fastapi import FastAPI

app = FastAPI()


@app.get("/notes/{note_id}")
def read_note(note_id: int) -> int:
    return note_id
# file: tests/test_notes.py
from fastapi.testclient import TestClient

from main import app


def test_it_is_read():
    assert TestClient(app).get("/notes/1").status_code == 200


def test_a_word_is_no_number():
    assert TestClient(app).get("/notes/one").status_code == 422
""",
    find=find,
)
