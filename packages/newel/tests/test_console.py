"""Pages for people: log-in by cookie on them alone, readable errors, nothing from outside."""

from __future__ import annotations

from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import HTMLResponse
from sample_operators import build, client
from starlette.responses import Response

from newel.auth import ACCESS_COOKIE, limit, requires
from newel.console import PagePath, as_page, page, turn_to, url_of
from newel.db import Database
from newel.errors import NotFound
from newel.modules import Module

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]

PEOPLE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

router = APIRouter(prefix="/admin/reports", dependencies=[as_page()], include_in_schema=False)
api = APIRouter(prefix="/reports")


@router.get("", dependencies=[requires("jobs:all")])
async def show_reports(
    request: Request, next: Annotated[PagePath, Query()] = "/admin/x"
) -> Response:
    link = f'<a href="{url_of(request, next)}">next</a>'
    return page(request, "Reports <b>", link, reload_seconds=3)


@router.get("/lost", dependencies=[requires()])
async def show_nothing() -> HTMLResponse:
    raise NotFound("<script>report")


@router.get("/busy", dependencies=[requires(), limit("1/hour")])
async def show_once(request: Request) -> Response:
    return turn_to(request, "/admin/reports?a=1&b=2")


@router.post("", dependencies=[requires("jobs:all")])
async def change_reports(request: Request) -> Response:
    return turn_to(request, "/admin/reports")


@api.get("", dependencies=[requires("jobs:all")])
async def read_reports() -> str:
    return "reports"


@pytest.fixture
def app(database: Database) -> FastAPI:
    found = build(database, more=[Module("reports", routers=[api], root_routers=[router])])
    found.state.auth_cookies = False
    return found


def by_cookie(app: FastAPI, name: str, *, root: str = "") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, root_path=root)
    return httpx2.AsyncClient(
        transport=transport, base_url="https://test", cookies={ACCESS_COOKIE: name}, headers=PEOPLE
    )


async def test_a_page_takes_the_log_in_from_a_cookie_and_the_api_does_not(app: FastAPI) -> None:
    async with by_cookie(app, "operator") as operator:
        assert (await operator.get("/admin/reports")).status_code == 200
        assert (await operator.get("/api/v1/reports")).status_code == 401
        for origin, status in (("https://test", 303), ("https://evil.example", 403), ("null", 403)):
            answer = await operator.post("/admin/reports", headers={"Origin": origin})
            assert answer.status_code == status
        assert (await operator.post("/admin/reports")).status_code == 403


async def test_it_loads_nothing_and_runs_nothing(app: FastAPI) -> None:
    async with by_cookie(app, "operator") as operator:
        answer = await operator.get("/admin/reports")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "<h1>Reports &lt;b&gt;</h1>" in answer.text
    assert '<meta http-equiv="refresh" content="3">' in answer.text
    assert "http" not in answer.text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("name", "path", "status", "says"),
    [
        ("ann", "", 403, "This needs the permission jobs:all."),
        ("nobody", "", 401, "Log in"),
        ("operator", "/lost", 404, "There is no such &lt;script&gt;report."),
        ("operator", "?next=https://evil.example", 422, "Correct the named fields"),
    ],
)
async def test_errors_are_pages_for_people_and_problems_for_programs(
    app: FastAPI, name: str, path: str, status: int, says: str
) -> None:
    async with by_cookie(app, name) as person:
        shown = await person.get(f"/admin/reports{path}")
    assert (shown.status_code, shown.headers["content-type"]) == (
        status,
        "text/html; charset=utf-8",
    )
    assert says in shown.text
    assert "<script>" not in shown.text
    async with client(app, name) as program:
        told = await program.get(f"/admin/reports{path}")
        api = await program.get("/api/v1/reports", headers=PEOPLE)
    assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json")
    assert "html" not in api.headers["content-type"]


async def test_who_is_too_quick_is_told_when(app: FastAPI) -> None:
    async with by_cookie(app, "operator") as operator:
        first = await operator.get("/admin/reports/busy")
        again = await operator.get("/admin/reports/busy")
    assert (first.status_code, first.headers["location"]) == (303, "/admin/reports?a=1&b=2")
    assert (again.status_code, int(again.headers["retry-after"]) > 3000) == (429, True)
    assert f"Try again in {again.headers['retry-after']} seconds." in again.text


async def test_it_may_lie_below_a_path(app: FastAPI) -> None:
    async with by_cookie(app, "operator", root="/shop") as operator:
        shown = await operator.get("/shop/admin/reports?next=/admin/jobs%3Fstate=dead%26name=x")
        moved = await operator.get("/shop/admin/reports/busy")
    assert 'href="/shop/admin/jobs?state=dead&amp;name=x"' in shown.text
    assert moved.headers["location"] == "/shop/admin/reports?a=1&b=2"


ELSEWHERE = (
    *("https://evil.example/admin/", "//evil.example/admin/", "/\\evil.example", "/api/v1/x"),
    *("/admin", "/admin/../api", "/admin/x#y", "/admin/x?y=<script>", "javascript:alert(1)"),
    *("/admin/%2e%2e/", "/admin/x\n", "/admin//evil.example:80", "/admin/" + "a" * 2048),
)


async def test_another_address_is_no_page_of_ours(app: FastAPI) -> None:
    async with by_cookie(app, "operator") as operator:
        for address in ELSEWHERE:
            answer = await operator.get("/admin/reports", params={"next": address})
            assert (answer.status_code, "Reports" in answer.text) == (422, False), address
