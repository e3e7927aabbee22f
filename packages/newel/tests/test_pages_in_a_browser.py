"""The pages for people in a real Chromium: by keyboard, on a telephone, nothing from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import pytest
from fastapi import FastAPI
from sample_accounts import ROLES
from sample_browser import Tab, chromium, served
from sample_entities import User
from sample_jobs import QUICK, row, running, until

from newel import accounts, console, job_pages, job_routes
from newel.app import create_app
from newel.auth import ACCESS_COOKIE
from newel.db import Database
from newel.jobs import Job, JobRun, job
from newel.mail import Mail, send_mail
from newel.modules import Module
from newel.settings import Settings
from newel.testing import PASSWORD, make_user

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("log_lines"),
]

ADMIN, ANN = "admin@example.com", "ann@example.com"
TELEPHONE = 390
PATIENT = replace(QUICK, lease_seconds=30.0)  # a browser may take both processors for a while


@dataclass
class Site:
    """A service with jobs, on SQLite, and a tab of a browser that looks at it."""

    app: FastAPI
    url: str
    tab: Tab
    gate: asyncio.Event
    jobs: dict[str, Job[[], None]] = field(default_factory=dict[str, Job[[], None]])

    @property
    def database(self) -> Database:
        return self.app.state.database

    async def enqueue(self, name: str) -> UUID:
        async with self.database.write(None) as work:
            return work.enqueue(self.jobs[name])

    async def ended(self, id: UUID, state: str) -> None:
        async def has() -> bool:
            return (await row(self.database, id)).state == state

        await until(has)

    async def log_in(self, email: str = ADMIN) -> None:
        """Log in with the keyboard alone: the first field has the focus."""
        await self.tab.open(f"{self.url}/admin/jobs")
        await self.fill_in(email, PASSWORD)

    async def fill_in(self, email: str, password: str) -> None:
        await self.tab.has_focus_on("username")
        await self.tab.type(email)
        await self.tab.press("Tab")
        await self.tab.type(password)
        await self.tab.press_and_load("Enter")


def build(directory: Path, gate: asyncio.Event) -> tuple[FastAPI, dict[str, Job[[], None]]]:
    @job()
    async def quick(job: JobRun) -> None: ...

    @job(retries=0)
    async def fail(job: JobRun) -> None:
        raise KeyError("<img src=https://evil.example/x.png>")

    @job()
    async def load(job: JobRun) -> None:
        for page in range(1, 5):
            job.report(page / 4, f"page {page} of 4")
            await gate.wait()
            gate.clear()

    directory.joinpath("migrations").mkdir()
    settings = Settings(
        _env_file=None,
        secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ",
        database_url=f"sqlite+aiosqlite:///{directory}/data.db",
        migrations=directory / "migrations",
        service_name="Shop",
        role="web",  # the tests run the worker when they want to
        login_limit="1000/minute",
        api_limit="10000/minute",
    )
    work = Module("work", jobs=[quick, fail, load, send_mail])
    app = create_app(settings, accounts.module(User, roles=ROLES), job_routes.module(), work)
    app.state.checks = {"database": app.state.database.ping}
    return app, {"quick": quick, "fail": fail, "load": load}


@pytest.fixture
async def site(tmp_path: Path, prepare_database: Callable[[str], None]) -> AsyncGenerator[Site]:
    gate = asyncio.Event()
    app, jobs = build(tmp_path, gate)
    prepare_database(app.state.settings.database_url)
    async with served(app) as url, chromium() as tab:
        await make_user(app, email=ADMIN, password=PASSWORD, roles=["admin"])
        await make_user(app, email=ANN, password=PASSWORD)
        yield Site(app, url, tab, gate, jobs)
        tab.errors = [one for one in tab.errors if "status of 4" not in one]  # asked for by a test
        assert tab.errors == []
        foreign = [one for one in tab.requests if not one.startswith((url, "data:,"))]
        assert foreign == [], "everything comes from the service itself"


async def test_an_operator_works_with_the_keyboard_alone(site: Site) -> None:
    tab = site.tab
    dead, waiting = await site.enqueue("fail"), await site.enqueue("quick")
    async with running(site.app, PATIENT):
        await site.ended(dead, "dead")
        await site.ended(waiting, "done")
    later = await site.enqueue("quick")
    await site.log_in()
    assert await tab.path() == "/admin/jobs"
    assert "server_error" in await tab.text()

    await tab.tab_to("dead 1")  # the filter by state
    await tab.press_and_load("Enter")
    assert await tab.path() == "/admin/jobs?state=dead"
    assert "quick" not in await tab.text()
    await tab.tab_to("fail")  # one job
    await tab.press_and_load("Enter")
    assert await tab.path() == f"/admin/jobs/{dead}"
    assert "KeyError: '<img src=https://evil.example/x.png>'" in await tab.text()
    await tab.tab_to("retry fail")
    await tab.press_and_load("Enter")
    assert await tab.path() == f"/admin/jobs/{dead}"
    assert (await row(site.database, dead)).state == "ready"
    async with running(site.app, PATIENT):
        await site.ended(dead, "dead")
        await site.ended(later, "done")
    await tab.open(f"{site.url}/admin/jobs?state=dead")
    await tab.tab_to("discard fail")
    await tab.press_and_load("Space")
    assert await tab.path() == "/admin/jobs?state=dead", "back where the button was"
    assert "There is no such job." in await tab.text()
    assert (await row(site.database, dead)).state == "cancelled"

    last = await site.enqueue("quick")
    await tab.open(f"{site.url}/admin/jobs")
    await tab.tab_to("Name")  # the filter by name
    await tab.type("quick")
    await tab.press_and_load("Enter")
    assert "name=quick" in await tab.path()
    assert "fail" not in await tab.text()
    await tab.tab_to("cancel quick")
    await tab.press_and_load("Enter")
    assert (await row(site.database, last)).state == "cancelled"


async def test_a_running_job_is_watched_and_stopped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_pages, "_RELOAD_SECONDS", 1)
    tab = site.tab
    id = await site.enqueue("load")
    async with running(site.app, PATIENT):
        await site.ended(id, "running")
        await site.log_in()
        await tab.open(f"{site.url}/admin/jobs/{id}")
        for page in (1, 2):
            await tab.shows(f"page {page} of 4")  # without a hand on it
            await tab.becomes(f"document.querySelector('progress').value === {page / 4}")
            site.gate.set()
        await tab.shows("page 3 of 4")
        await tab.becomes("location.search === '?watch=false'", press="Enter")
        assert await tab.evaluate("document.querySelector('meta[http-equiv]')") is None
        await tab.tab_to("cancel load")
        await tab.press_and_load("Enter")
        await tab.shows("cancelled")
    assert (await row(site.database, id)).state == "cancelled"
    assert await tab.evaluate("document.querySelector('meta[http-equiv]')") is None, "it has ended"


async def test_it_fits_on_a_telephone(site: Site) -> None:
    tab = site.tab
    dead = await site.enqueue("fail")
    async with running(site.app, PATIENT):
        await site.ended(dead, "dead")
    await site.enqueue("quick")
    await tab.resize(TELEPHONE)
    await tab.open(f"{site.url}/admin/jobs")
    assert await tab.fits()
    await site.log_in()
    assert await tab.fits()
    await tab.evaluate("document.querySelector('details').open = true")
    assert await tab.fits()
    await tab.open(f"{site.url}/admin/jobs/{dead}")
    assert await tab.fits()
    small = "[...document.querySelectorAll('button')].filter(b => b.offsetHeight < 24).length"
    assert await tab.evaluate(small) == 0, "a finger has to hit it"


async def test_a_wrong_password_is_said_and_a_log_out_is_one(site: Site) -> None:
    tab = site.tab
    await tab.open(f"{site.url}/admin/jobs")
    await site.fill_in(ADMIN, "not my password")
    assert "The e-mail address or the password is wrong." in await tab.text()
    await site.log_in()
    assert "Log out" in await tab.text()
    cookies = await tab.cookies()
    assert all(one["httpOnly"] and one["secure"] for one in cookies.values())
    assert await tab.evaluate("document.cookie") == ""
    await tab.ask("Network.deleteCookies", name=ACCESS_COOKIE, url=site.url)
    await tab.open(f"{site.url}/admin/jobs")
    assert await tab.path() == "/admin/jobs", "the refresh token has fetched another one"
    await tab.tab_to("Log out")
    await tab.press_and_load("Enter")
    assert await tab.path() == "/admin/login"
    assert await tab.cookies() == {}
    await tab.open(f"{site.url}/admin/jobs")
    assert (await tab.path()).startswith("/admin/login?next=")


async def test_who_may_not_see_it_reads_why(site: Site) -> None:
    await site.log_in(ANN)
    assert "This needs the permission jobs:all." in await site.tab.text()
    await site.tab.tab_to("Log in as somebody else")
    await site.tab.press_and_load("Enter")
    assert (await site.tab.path()).startswith("/admin/login")


async def test_another_sites_page_presses_no_button(site: Site, tmp_path: Path) -> None:
    """localhost is another site than 127.0.0.1; the control is the same page on our own."""
    id = await site.enqueue("quick")
    await site.log_in()
    action = f"{site.url}/admin/jobs/{id}/cancel"
    other = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    async with served(other) as elsewhere:
        await site.tab.open(elsewhere.replace("127.0.0.1", "localhost"))
        await site.tab.evaluate(_submit(action))
        await until(lambda: action in site.tab.requests)
        await site.tab.shows("Password")  # SameSite keeps the cookies away: who are you?
        assert (await row(site.database, id)).state == "ready"
        site.tab.requests = [one for one in site.tab.requests if one.startswith(site.url)]
    await site.tab.open(f"{site.url}/admin/jobs")
    await site.tab.tab_to("cancel quick")
    await site.tab.press_and_load("Enter")
    assert (await row(site.database, id)).state == "cancelled"


def _submit(action: str) -> str:
    return (
        "document.body.innerHTML = '<form method=post></form>';"
        f"document.forms[0].action = '{action}'; document.forms[0].submit()"
    )


async def test_with_the_referrer_policy_of_the_api_the_buttons_would_be_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser says ``Origin: null`` then, even in forms of our own."""
    id = await site.enqueue("quick")
    await site.log_in()
    headers = {**console._HEADERS, "Referrer-Policy": "no-referrer"}
    monkeypatch.setattr(console, "_HEADERS", headers)
    await site.tab.open(f"{site.url}/admin/jobs")
    await site.tab.tab_to("cancel quick")
    await site.tab.press_and_load("Enter")
    assert "accepted from this service's own pages only" in await site.tab.text()
    assert (await row(site.database, id)).state == "ready"


async def test_the_mails_of_development_can_be_looked_at(site: Site) -> None:
    html = '<b id="m">Hello</b><script>document.title = "stolen"</script>'
    mail = Mail(to=ANN, subject="Your order", text="Hello", html=html)
    async with site.database.write(None) as work:
        work.enqueue(send_mail, mail)
    async with running(site.app, PATIENT):
        await until(lambda: site.app.state.mailer._recent)
    tab = site.tab
    await tab.open(f"{site.url}/dev/mail")
    await tab.tab_to("Your order")
    await tab.press_and_load("Enter")
    assert await tab.path() == "/dev/mail/0"
    assert "To ann@example.com" in await tab.text()
    assert await tab.evaluate("document.title") == "Mail"
    tab.errors = [one for one in tab.errors if "Blocked script execution" not in one]  # as it must
