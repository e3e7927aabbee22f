"""TEST002: nobody has ever tried the door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access, is_public
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.suite import Suite

__all__ = ["RULE"]

_LISTED: Final = 20


def find(review: Review) -> Iterator[Finding]:
    """Find protected routes whose tests expect no 401 or 403; if no test does, say it once."""
    access, suite = Access(review), Suite(review)
    protected = [
        route
        for route in review.http_routes
        if access.is_protected(route) and not is_public(review, route)
    ]
    if not suite.exists or suite.is_whole or not protected:
        return
    open_ = [route for route in protected if suite.requests(route) and not suite.refuses(route)]
    if not open_:
        return
    file, line = review.at(open_[0])
    everything = not suite.expects_refusals
    yield RULE.found(
        f"no test shows that {'anybody is refused' if everything else 'strangers are refused'}: "
        f"{len(open_)} of {len(protected)} protected routes",
        file=file,
        line=line,
        route=open_[0].label,
        also=[route.label for route in open_[1:_LISTED]],
        severity=None if everything else "note",
    )


RULE = Rule(
    id="TEST002",
    title="No test shows that strangers are refused",
    severity="change",
    how="import",
    why="A dependency that somebody drops is missed by every test that logs in first.",
    fix="request each protected route without credentials, and as a user who may not: 401, 403",
    seed='003 "Test authentication/authorization", "Security validated"',
    expected="files of tests that expect 401 or 403 anywhere, suites that go over every route, "
    "projects without tests (TEST001). Where other tests expect refusals it is a note.",
    bad="""
# file: main.py
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

app = FastAPI()
bearer = HTTPBearer()


@app.get("/notes", dependencies=[Depends(bearer)])
def read_notes() -> list[str]:  # finding
    return []
# file: tests/test_notes.py
from fastapi.testclient import TestClient

from main import app

client = TestClient(app, headers={"Authorization": "Bearer x"})


def test_there_are_none():
    assert client.get("/notes").status_code == 200
""",
    good="""
# file: main.py
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

app = FastAPI()
bearer = HTTPBearer()


@app.get("/notes", dependencies=[Depends(bearer)])
def read_notes() -> list[str]:
    return []


@app.get("/public")
def read_public() -> list[str]:
    return []
# file: tests/test_notes.py
from fastapi.testclient import TestClient

from main import app


def test_there_are_none():
    client = TestClient(app, headers={"Authorization": "Bearer x"})
    assert client.get("/notes").status_code == 200


def test_strangers_are_refused():
    assert TestClient(app).get("/notes").status_code == 401
""",
    find=find,
)
