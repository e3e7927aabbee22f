"""The page of jobs: readable, harmless, and only for operators."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from uuid import uuid4

import pytest
from fastapi import FastAPI
from sample_jobs import ann as somebody
from sample_jobs import drain, execute, row
from sample_operators import ANN, browser, build, client, enqueue

from newel.db import Database
from newel.jobs import GiveUp, JobRun, job

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]

PAGE = "/admin/jobs"
OWN = {"Origin": "https://test"}


@job()
async def add(job: JobRun) -> str:
    return "<b>7</b>"


@job(retries=0)
async def fail(job: JobRun) -> None:
    raise GiveUp("<script>alert(1)</script>")


@pytest.fixture
def app(database: Database) -> FastAPI:
    return build(database, add, fail)


class Elements(HTMLParser):
    """What elements a page has, and what its cells say."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


async def show(app: FastAPI, query: str = "") -> str:
    async with browser(app, "operator") as found:
        answer = await found.get(f"{PAGE}{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return answer.text


async def test_it_shows_the_jobs_and_how_many_wait(app: FastAPI, database: Database) -> None:
    for one in (add, fail, add.after(hours=1)):
        await enqueue(database, ANN, one)
    await drain(app)
    await enqueue(database, ANN, add)
    text = await show(app)
    for said in ("scheduled 1", "ready 1", "running 0", "dead 1", "gave_up", ">done<"):
        assert said in text
    assert len(re.findall("<small class=id>", text)) == 4
    assert len(re.findall("<small class=id>", await show(app, "?state=dead"))) == 1
    assert "There is no such job" in await show(app, "?name=nothing")


async def test_what_jobs_say_is_text(app: FastAPI, database: Database) -> None:
    for one in (add, fail):
        await enqueue(database, ANN, one)
    await drain(app)
    text = await show(app)
    page = Elements(text)
    assert page.named("script") == []
    assert page.named("b") == []
    assert "&lt;script&gt;alert(1)" in text
    assert "&lt;b&gt;7" in text
    odd = await show(app, "?name=%22%3E%3Cscript%3E")
    assert Elements(odd).named("script") == []


async def test_it_has_pages(app: FastAPI, database: Database) -> None:
    async with database.write(somebody()) as work:
        for _ in range(60):
            work.enqueue(add)
    first = Elements(await show(app, "?state=ready"))
    [older] = [link["href"] for link in first.named("a") if link.get("rel") == "next"]
    assert older is not None
    assert older.startswith("/admin/jobs?state=ready&before=")
    second = Elements(await show(app, older.removeprefix(PAGE)))
    assert (len(first.named("small")), len(second.named("small"))) == (50, 10)


async def test_each_job_has_a_page(app: FastAPI, database: Database) -> None:
    done, dead = [await enqueue(database, ANN, one) for one in (add, fail)]
    before = await show(app, f"/{done}")
    assert "<h1>add</h1>" in before
    assert 'http-equiv="refresh" content="2"' in before
    assert "href='?watch=false'" in before
    assert "http-equiv" not in await show(app, f"/{done}?watch=false")
    await drain(app)
    ended = await show(app, f"/{done}")
    assert "http-equiv" not in ended, "nothing will change any more"
    assert ("&lt;b&gt;7" in ended, "1 of 6" in ended, str(ANN.id) in ended) == (True, True, True)
    text = await show(app, f"/{dead}")
    assert "gave_up: newel.jobs.GiveUp: &lt;script&gt;" in text
    assert f"/admin/jobs/{dead}/discard?next=%2Fadmin%2Fjobs%2F{dead}" in text
    async with browser(app, "operator") as found:
        assert (await found.get(f"{PAGE}/{uuid4()}")).status_code == 404


async def test_it_says_how_far_a_running_job_is(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, add)
    far = "progress = 0.25, note = '<i>page 1', cancel_requested = true"
    await execute(database, f"UPDATE jobs SET state = 'running', {far}")
    for path in ("", f"/{id}"):
        text = await show(app, path)
        assert '<progress aria-label="progress" max="1" value="0.250"></progress> 25%' in text
        assert "&lt;i&gt;page 1" in text
    assert "(asked to end)" in text
    await execute(database, "UPDATE jobs SET state = 'cancelled', finished_at = created_at")
    assert "25% &lt;i&gt;page 1" in await show(app), "how far it came"
    await execute(database, "UPDATE jobs SET state = 'done'")
    assert "25%" not in await show(app)


@pytest.mark.parametrize(("name", "status"), [("ann", 403), ("nobody", 401)])
async def test_only_operators_see_it(app: FastAPI, name: str, status: int) -> None:
    async with client(app, name) as found:
        assert (await found.get(PAGE)).status_code == status


async def test_its_buttons_work(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, fail)
    async with browser(app, "operator") as operator:
        for expected, action in (("ready", "cancel"), ("cancelled", "retry"), ("dead", "retry")):
            assert (await row(database, id)).state == expected
            page = Elements((await operator.get(PAGE)).text)
            targets = [form["action"] for form in page.named("form") if "action" in form]
            target = f"{PAGE}/{id}/{action}?next=%2Fadmin%2Fjobs"
            assert target in targets
            done = await operator.post(target, headers=OWN)
            assert (done.status_code, done.headers["location"]) == (303, PAGE)
            if action == "retry":
                await drain(app)
        await operator.post(f"{PAGE}/{id}/discard", headers=OWN)
    assert (await row(database, id)).state == "cancelled"


async def test_another_sites_page_cannot_press_them(app: FastAPI, database: Database) -> None:
    id = await enqueue(database, ANN, add)
    async with browser(app, "operator") as operator:
        for headers in ({}, {"Origin": "https://evil.example"}):
            answer = await operator.post(f"{PAGE}/{id}/cancel", headers=headers)
            assert answer.status_code == 403
    assert (await row(database, id)).state == "ready"


async def test_it_is_not_part_of_the_api(app: FastAPI) -> None:
    assert not [path for path in app.openapi()["paths"] if "admin" in path]
    assert "/api/v1/jobs/{job_id}" in app.openapi()["paths"]
