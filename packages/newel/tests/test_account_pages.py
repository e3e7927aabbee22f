"""A person logs in with a browser: the same limits and words as everywhere, and nobody for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from sample_accounts import AUTH, EMAIL, PASSWORD, World, open_world

from newel.account_routes import REFRESH_COOKIE
from newel.auth import ACCESS_COOKIE

pytestmark = pytest.mark.anyio

LOGIN = "/admin/login"
HOME = "/admin/jobs"
OWN = {"Origin": "https://test"}
FORM = {"username": EMAIL, "password": PASSWORD}
WHO = "/api/v1/agents/who"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path, pages=True) as world:
        await world.register()
        yield world


@pytest.fixture
async def browser(world: World) -> httpx2.AsyncClient:
    return await world.client(accept="text/html")


async def log_in(browser: httpx2.AsyncClient, path: str = LOGIN) -> httpx2.Response:
    return await browser.post(path, data=FORM, headers=OWN)


class TestLogIn:
    async def test_who_is_not_logged_in_is_asked_and_comes_back(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        asked = await browser.get(f"{HOME}?state=dead&name=a%20b")
        assert asked.status_code == 303
        assert asked.headers["location"] == (
            "/admin/login?next=%2Fadmin%2Fjobs%3Fstate%3Ddead%26name%3Da%2520b"
        )
        form = await browser.get(asked.headers["location"])
        assert form.status_code == 200
        assert f'action="{asked.headers["location"]}"' in form.text
        done = await log_in(browser, asked.headers["location"])
        assert (done.status_code, done.headers["location"]) == (
            303,
            f"{HOME}?state=dead&name=a%20b",
        )

    async def test_the_cookies_are_for_pages_and_for_no_script(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        done = await log_in(browser)
        assert (done.status_code, done.headers["location"]) == (303, HOME)
        set_cookies = done.headers.get_list("set-cookie")
        assert {one.partition("=")[0] for one in set_cookies} == {ACCESS_COOKIE, REFRESH_COOKIE}
        for one in set_cookies:
            for wanted in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
                assert wanted in one
        assert (await browser.get(HOME)).status_code == 403, "known, and without the permission"
        assert (await browser.get(WHO)).status_code == 401, "AUTH_COOKIES is off"

    async def test_an_administrator_sees_the_page(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await world.change_user(roles=["admin"])
        await log_in(browser)
        shown = await browser.get(HOME)
        assert (shown.status_code, "<h1>Jobs</h1>" in shown.text) == (200, True)
        assert 'action="/admin/logout"' in shown.text

    async def test_the_words_of_a_failure_are_the_same_for_every_address(
        self, browser: httpx2.AsyncClient
    ) -> None:
        said = set()
        for form in (FORM | {"password": "wrong"}, FORM | {"username": "nobody@example.com"}):
            answer = await browser.post(LOGIN, data=form, headers=OWN)
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            said.add(answer.text)
        [text] = said
        assert "The e-mail address or the password is wrong." in text

    async def test_it_has_the_limits_of_every_log_in(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        for _ in range(5):
            await browser.post(LOGIN, data=FORM | {"password": "wrong"}, headers=OWN)
        refused = await log_in(browser)
        assert refused.status_code == 429
        assert f"Try again in {refused.headers['retry-after']} seconds." in refused.text
        assert (await world.log_in()).status_code == 429, "one limit, whatever the way"
        world.wait(61)
        assert (await log_in(browser)).status_code == 303

    @pytest.mark.parametrize("origin", [None, "null", "https://evil.example"])
    async def test_another_sites_page_logs_nobody_in_or_out(
        self, world: World, browser: httpx2.AsyncClient, origin: str | None
    ) -> None:
        headers = {} if origin is None else {"Origin": origin}
        refused = await browser.post(LOGIN, data=FORM, headers=headers)
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
        await log_in(browser)
        assert (await browser.post("/admin/logout", headers=headers)).status_code == 403
        assert (await browser.get(HOME)).status_code == 403, "still logged in"

    async def test_it_leads_to_our_own_pages_only(self, browser: httpx2.AsyncClient) -> None:
        for next in ("https://evil.example/admin/", "//evil.example", "/api/v1/agents"):
            path = f"{LOGIN}?next={next}"
            assert (await browser.get(path)).status_code == 422
            assert (await log_in(browser, path)).status_code == 422

    async def test_a_form_that_is_not_filled_in(self, browser: httpx2.AsyncClient) -> None:
        answer = await browser.post(LOGIN, data={"username": EMAIL}, headers=OWN)
        assert (answer.status_code, "Validation failed" in answer.text) == (422, True)


class TestStaying:
    async def test_a_new_access_token_is_fetched_on_the_way(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await log_in(browser)
        world.wait(16 * 60)
        asked = await browser.get(HOME)
        assert asked.status_code == 303
        renewed = await browser.get(asked.headers["location"])
        assert (renewed.status_code, renewed.headers["location"]) == (303, HOME)
        assert (await browser.get(HOME)).status_code == 403, "known again"

    async def test_when_the_session_is_over_the_password_is_asked_for(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await log_in(browser)
        world.wait(8 * 86_400)
        form = await browser.get(LOGIN)
        assert (form.status_code, "Password" in form.text) == (200, True)
        assert dict(browser.cookies) == {}, "a dead token is not offered again"

    async def test_after_a_form_the_page_comes_anew(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await log_in(browser)
        world.wait(16 * 60)
        pressed = await browser.post(f"{HOME}/{(await world.user()).id}/retry", headers=OWN)
        assert (pressed.status_code, pressed.headers["location"]) == (
            303,
            "/admin/login?next=%2Fadmin%2Fjobs",
        )

    async def test_who_is_logged_in_may_log_in_as_somebody_else(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await log_in(browser)
        refused = await browser.get(HOME)
        assert "Log in as somebody else" in refused.text
        assert (await browser.get(LOGIN)).status_code == 200
        await world.register("bob@example.com")
        other = await browser.post(LOGIN, data=FORM | {"username": "bob@example.com"}, headers=OWN)
        assert other.status_code == 303


class TestLogOut:
    async def test_it_ends_the_session_and_takes_the_cookies(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await log_in(browser)
        kept = dict(browser.cookies)
        done = await browser.post("/admin/logout", headers=OWN)
        assert (done.status_code, done.headers["location"]) == (303, LOGIN)
        assert dict(browser.cookies) == {}
        browser.cookies.update(kept)
        asked = await browser.get(HOME)
        assert asked.status_code == 303
        assert (await browser.get(LOGIN)).status_code == 200, "the refresh token is dead, too"

    async def test_with_the_refresh_token_alone(
        self, world: World, browser: httpx2.AsyncClient
    ) -> None:
        await log_in(browser)
        world.wait(16 * 60)
        await browser.post("/admin/logout", headers=OWN)
        assert all(one.revoked_at is not None for one in await world.sessions())


async def test_it_shares_the_session_of_a_front_end_with_cookies(
    database_url: str, tmp_path: Path
) -> None:
    async with open_world(database_url, tmp_path, pages=True, auth_cookies=True) as world:
        await world.register()
        browser = await world.client(accept="text/html")
        await browser.post(f"{AUTH}/login", data=FORM, headers=OWN)
        assert (await browser.get(HOME)).status_code == 403
        await browser.post("/admin/logout", headers=OWN)
        assert (await browser.get(WHO)).status_code == 401


async def test_it_is_not_part_of_the_api(world: World) -> None:
    assert not [path for path in world.app.openapi()["paths"] if "admin/" in path]
