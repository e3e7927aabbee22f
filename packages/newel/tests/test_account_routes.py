"""Tokens in bodies and cookies, the list of sessions, logging out, public keys, the API docs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from sample_accounts import AUTH, EMAIL, PASSWORD, World, open_world

from newel import account_routes, auth
from newel.account_routes import REFRESH_COOKIE
from newel.auth import ACCESS_COOKIE

pytestmark = pytest.mark.anyio

OWN = {"origin": "https://test"}
FRIEND = "https://app.example.com"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path) as world:
        yield world


@pytest.fixture
async def cookies(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    choices: dict[str, Any] = {"auth_cookies": True, "cors_origins": (FRIEND,)}
    async with open_world(database_url, tmp_path, **choices) as world:
        yield world


@pytest.fixture
async def browser(cookies: World) -> httpx2.AsyncClient:
    """A client that has logged in and keeps what it was given in its jar."""
    await cookies.register()
    client = await cookies.client()
    form = {"username": EMAIL, "password": PASSWORD}
    assert (await client.post(f"{AUTH}/login", data=form, headers=OWN)).status_code == 200
    return client


async def dead(client: httpx2.AsyncClient) -> bool:
    return (await client.get(f"{AUTH}/me")).status_code == 401


class TestSessionList:
    async def test_it_shows_the_callers_live_ones(self, world: World) -> None:
        await world.member("bob@example.com", ip="192.0.2.2")
        gone = await world.member(ip="192.0.2.3")
        await gone.post(f"{AUTH}/logout")
        await world.logged_in(ip="192.0.2.4")
        client = await world.logged_in(ip="192.0.2.5")
        body = (await client.get(f"{AUTH}/sessions")).json()
        assert body["total"] == 2
        assert [(each["ip"], each["is_current"]) for each in body["items"]] == [
            ("192.0.2.5", True),
            ("192.0.2.4", False),
        ]
        assert body["items"][0].keys() == {
            *("id", "created_at", "last_used_at", "expires_at"),
            *("ip", "user_agent", "is_current"),
        }

    async def test_it_comes_in_pages(self, world: World) -> None:
        client = await world.member()
        await world.log_in()
        body = (await client.get(f"{AUTH}/sessions?page_size=1&page=2")).json()
        assert (len(body["items"]), body["pages"]) == (1, 2)
        assert (await client.get(f"{AUTH}/sessions?page_size=101")).status_code == 422

    async def test_one_can_be_ended(self, world: World) -> None:
        client = await world.member()
        other = await world.logged_in()
        theirs = (await client.get(f"{AUTH}/sessions")).json()["items"][0]["id"]
        assert (await client.delete(f"{AUTH}/sessions/{theirs}")).status_code == 204
        assert await dead(other)
        assert (await world.refresh(other.headers["x-refresh"])).status_code == 401
        assert not await dead(client)
        assert (await client.delete(f"{AUTH}/sessions/{theirs}")).status_code == 404

    async def test_anothers_cannot_be_ended(self, world: World) -> None:
        bob = await world.member("bob@example.com", ip="192.0.2.2")
        [his] = (await bob.get(f"{AUTH}/sessions")).json()["items"]
        ann = await world.member()
        for unknown in (his["id"], uuid4()):
            assert (await ann.delete(f"{AUTH}/sessions/{unknown}")).status_code == 404
        assert not await dead(bob)

    async def test_all_can_be_ended(self, world: World) -> None:
        client = await world.member()
        other = await world.logged_in()
        bob = await world.member("bob@example.com", ip="192.0.2.2")
        assert (await client.delete(f"{AUTH}/sessions")).status_code == 204
        for each in (client, other):
            assert await dead(each)
            assert (await world.refresh(each.headers["x-refresh"])).status_code == 401
        assert not await dead(bob)
        assert not await dead(await world.logged_in())

    async def test_who_is_not_logged_in_sees_nothing(self, world: World) -> None:
        client = await world.client()
        assert (await client.get(f"{AUTH}/sessions")).status_code == 401
        assert (await client.delete(f"{AUTH}/sessions")).status_code == 401
        assert (await client.delete(f"{AUTH}/sessions/{uuid4()}")).status_code == 401


class TestLogOut:
    async def test_it_ends_the_session(self, world: World) -> None:
        client = await world.member()
        assert (await client.post(f"{AUTH}/logout")).status_code == 204
        assert await dead(client)
        assert (await world.refresh(client.headers["x-refresh"])).status_code == 401

    async def test_the_refresh_token_is_enough(self, world: World) -> None:
        """Also when the access token has expired meanwhile."""
        client = await world.member()
        body = {"refresh_token": client.headers["x-refresh"]}
        world.wait(20 * 60)
        assert (await client.post(f"{AUTH}/logout", json=body)).status_code == 204
        assert (await world.refresh(body["refresh_token"])).status_code == 401

    @pytest.mark.parametrize("body", [None, {"refresh_token": "not ours"}])
    async def test_without_a_session_it_does_nothing(
        self, world: World, body: dict[str, str] | None
    ) -> None:
        member = await world.member()
        answer = await (await world.client()).post(f"{AUTH}/logout", json=body)
        assert answer.status_code == 204
        assert not await dead(member)


class TestCookies:
    async def test_a_log_in_sets_them_out_of_reach_of_scripts(self, cookies: World) -> None:
        await cookies.register()
        answer = await cookies.log_in()
        assert "refresh_token" not in answer.json()
        jar: dict[str, Any] = {}
        for line in answer.headers.get_list("set-cookie"):
            jar.update(SimpleCookie(line))
        assert jar.keys() == {ACCESS_COOKIE, REFRESH_COOKIE}
        for morsel in jar.values():
            assert (morsel["path"], morsel["domain"]) == ("/", "")
            assert morsel["httponly"]
            assert morsel["secure"]
            assert morsel["samesite"].lower() == "lax"
        assert jar[ACCESS_COOKIE]["max-age"] == "900"
        assert jar[REFRESH_COOKIE]["max-age"] == str(7 * 86_400)

    async def test_they_last_no_longer_than_the_session(self, cookies: World) -> None:
        await cookies.register()
        client = await cookies.client()
        form = {"username": EMAIL, "password": PASSWORD}
        await client.post(f"{AUTH}/login", data=form, headers=OWN)
        for _ in range(4):
            cookies.wait(6 * 86_400)
            answer = await client.post(f"{AUTH}/refresh", headers=OWN)
        assert f"{REFRESH_COOKIE}=" in answer.headers.get_list("set-cookie")[1]
        assert f"Max-Age={6 * 86_400}" in answer.headers.get_list("set-cookie")[1]

    async def test_they_log_in(self, browser: httpx2.AsyncClient) -> None:
        assert (await browser.get(f"{AUTH}/me")).json()["email"] == EMAIL
        answer = await browser.patch(f"{AUTH}/me", json={"full_name": "A"}, headers=OWN)
        assert answer.status_code == 200

    async def test_a_listed_origin_may_use_them(self, browser: httpx2.AsyncClient) -> None:
        answer = await browser.post("/api/v1/agents", headers={"origin": FRIEND})
        assert answer.status_code == 200

    async def test_they_are_refreshed(self, browser: httpx2.AsyncClient) -> None:
        before = dict(browser.cookies)
        answer = await browser.post(f"{AUTH}/refresh", headers=OWN)
        assert answer.status_code == 200
        assert "refresh_token" not in answer.json()
        after = dict(browser.cookies)
        assert after[REFRESH_COOKIE] != before[REFRESH_COOKIE]
        assert (await browser.get(f"{AUTH}/me")).status_code == 200

    async def test_a_client_without_one_is_not_refreshed(self, cookies: World) -> None:
        answer = await (await cookies.client()).post(f"{AUTH}/refresh", headers=OWN)
        assert answer.status_code == 401

    async def test_logging_out_takes_them_back(self, browser: httpx2.AsyncClient) -> None:
        kept = dict(browser.cookies)
        assert (await browser.post(f"{AUTH}/logout", headers=OWN)).status_code == 204
        assert dict(browser.cookies) == {}
        browser.cookies.update(kept)
        assert await dead(browser)

    async def test_logging_out_works_when_the_access_cookie_has_expired(
        self, cookies: World, browser: httpx2.AsyncClient
    ) -> None:
        cookies.wait(20 * 60)
        assert (await browser.post(f"{AUTH}/logout", headers=OWN)).status_code == 204
        [session] = await cookies.sessions()
        assert session.revoked_at is not None

    async def test_logging_out_everywhere_takes_them_back(
        self, browser: httpx2.AsyncClient
    ) -> None:
        assert (await browser.delete(f"{AUTH}/sessions", headers=OWN)).status_code == 204
        assert dict(browser.cookies) == {}

    async def test_a_new_password_keeps_this_browser_logged_in(
        self, browser: httpx2.AsyncClient
    ) -> None:
        body = {"current_password": PASSWORD, "new_password": "a quite different one"}
        answer = await browser.post(f"{AUTH}/password", json=body, headers=OWN)
        assert answer.status_code == 204
        assert not await dead(browser)

    async def test_they_mean_nothing_unless_they_are_switched_on(self, world: World) -> None:
        member = await world.member()
        token = member.headers["authorization"].partition(" ")[2]
        client = await world.client()
        client.cookies.set(ACCESS_COOKIE, token)
        client.cookies.set(REFRESH_COOKIE, member.headers["x-refresh"])
        assert await dead(client)
        assert (await client.post(f"{AUTH}/refresh", headers=OWN)).status_code == 401


FOREIGN = {
    "another site": {"origin": "https://evil.example"},
    "a longer name": {"origin": "https://test.evil.example"},
    "no origin": {},
    "an opaque origin": {"origin": "null"},
    "an origin that is none": {"origin": "http://["},
    "another scheme": {"origin": "file://test"},
    "two": {"origin": "https://test https://evil.example"},
}
ATTACKS = [
    ("POST", "/api/v1/agents"),
    ("PATCH", f"{AUTH}/me"),
    ("POST", f"{AUTH}/refresh"),
    ("POST", f"{AUTH}/logout"),
    ("DELETE", f"{AUTH}/sessions"),
]


class TestForgery:
    @pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
    async def test_other_sites_cannot_use_the_cookies(
        self, browser: httpx2.AsyncClient, headers: dict[str, str]
    ) -> None:
        for method, path in ATTACKS:
            answer = await browser.request(method, path, headers=headers)
            assert answer.status_code == 403, path
            assert "set-cookie" not in answer.headers
        assert not await dead(browser)

    async def test_they_could_if_the_origin_were_not_looked_at(
        self, browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        monkeypatch.setattr(auth, "refuse_cross_site", lambda _: None)
        monkeypatch.setattr(account_routes, "refuse_cross_site", lambda _: None)
        evil = FOREIGN["another site"]
        assert (await browser.post("/api/v1/agents", headers=evil)).status_code == 200
        assert (await browser.post(f"{AUTH}/refresh", headers=evil)).status_code == 200

    async def test_other_sites_cannot_log_a_browser_in(self, cookies: World) -> None:
        """Else a visitor would work, and leave data, in the account of an attacker."""
        await cookies.register()
        client = await cookies.client(origin="https://evil.example")
        form = {"username": EMAIL, "password": PASSWORD}
        answer = await client.post(f"{AUTH}/login", data=form)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    async def test_a_token_in_the_header_needs_no_origin(self, world: World) -> None:
        client = await world.member()
        evil = FOREIGN["another site"]
        assert (await client.post("/api/v1/agents", headers=evil)).status_code == 200


class TestPublicKeys:
    async def test_they_verify_what_is_issued(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path, token_algorithm="EdDSA") as world:
            client = await world.member()
            answer = await (await world.client()).get("/.well-known/jwks.json")
            token = client.headers["authorization"].partition(" ")[2]
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=300"
        key = jwt.PyJWKSet.from_dict(answer.json())[jwt.get_unverified_header(token)["kid"]]
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        assert jwt.decode(token, key, algorithms=["EdDSA"], options=options)["type"] == "access"
        assert "d" not in answer.text.split('"')

    async def test_there_are_none_for_a_shared_secret(self, world: World) -> None:
        answer = await (await world.client()).get("/.well-known/jwks.json")
        assert answer.status_code == 404


class TestDocumentation:
    @pytest.fixture
    def schema(self, world: World) -> dict[str, Any]:
        return world.app.openapi()

    def operations(self, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            f"{method.upper()} {path}": operation
            for path, methods in schema["paths"].items()
            for method, operation in methods.items()
            if "auth" in operation.get("tags", ())
        }

    async def test_every_route_says_what_it_does(self, schema: dict[str, Any]) -> None:
        operations = self.operations(schema)
        assert operations.keys() == {
            f"POST {AUTH}/register",
            f"POST {AUTH}/login",
            f"POST {AUTH}/refresh",
            f"POST {AUTH}/logout",
            f"GET {AUTH}/me",
            f"PATCH {AUTH}/me",
            f"GET {AUTH}/sessions",
            f"DELETE {AUTH}/sessions",
            f"DELETE {AUTH}/sessions/{{session_id}}",
            f"POST {AUTH}/password",
            f"POST {AUTH}/password/forgot",
            f"POST {AUTH}/password/reset",
            f"POST {AUTH}/email/verify",
            f"POST {AUTH}/email/resend",
            "GET /.well-known/jwks.json",
        }
        for name, operation in operations.items():
            good = next(each for status, each in operation["responses"].items() if status < "3")
            assert operation["summary"], name
            assert operation["description"], name
            assert good["description"] != "Successful Response", name

    async def test_who_has_to_log_in_is_documented(self, schema: dict[str, Any]) -> None:
        operations = self.operations(schema)
        assert "401" in operations[f"GET {AUTH}/me"]["responses"]
        assert "401" in operations[f"POST {AUTH}/login"]["responses"]
        assert operations[f"GET {AUTH}/me"]["security"] == [{"BearerAuth": []}]
        assert "security" not in operations[f"POST {AUTH}/login"]

    async def test_no_answer_holds_a_secret(self, schema: dict[str, Any]) -> None:
        shown = ("UserRead", "SessionRead", "TokenRead")
        fields = {
            field for name in shown for field in schema["components"]["schemas"][name]["properties"]
        }
        secret = {"password", "password_hash", "epoch", "refresh_counter", "revoked_at"}
        assert not fields & secret

    async def test_passwords_are_marked_as_such(self, schema: dict[str, Any]) -> None:
        schemas = schema["components"]["schemas"]
        assert schemas["NewUser"]["properties"]["password"]["writeOnly"] is True
        assert schemas["NewUser"]["properties"]["email"]["format"] == "email"
