"""What routes ask of their callers, over HTTP and on websockets, and how often they may call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sample_accounts import AUTH, EMAIL, PASSWORD, World, build, open_world
from starlette.testclient import TestClient, WebSocketDenialResponse

from newel import auth
from newel.auth import ACCESS_COOKIE, limit, public, require_role, requires
from newel.errors import Unauthorized
from newel.limits import Rate

pytestmark = pytest.mark.anyio

AGENTS = "/api/v1/agents"
SOCKET = f"{AGENTS}/socket"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path) as world:
        yield world


class TestRequires:
    async def test_nobody_is_401(self, world: World) -> None:
        answer = await (await world.client()).get(AGENTS)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        "header", ["Basic YTpi", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "token"]
    )
    async def test_what_is_no_token_is_401(self, world: World, header: str) -> None:
        answer = await (await world.client(authorization=header)).get(AGENTS)
        assert answer.status_code == 401

    async def test_the_scheme_may_be_written_in_any_case(self, world: World) -> None:
        member = await world.member()
        token = member.headers["authorization"].partition(" ")[2]
        client = await world.client(authorization=f"bEARER  {token} ")
        assert (await client.get(AGENTS)).status_code == 200

    async def test_a_missing_permission_is_403_and_named(self, world: World) -> None:
        client = await world.member()
        await world.change_user(roles=["reader"])
        assert (await client.get(AGENTS)).status_code == 200
        answer = await client.post(AGENTS)
        assert answer.status_code == 403
        assert answer.json()["permission"] == "agents:write"

    async def test_one_of_the_roles_is_enough(self, world: World) -> None:
        client = await world.member()
        answer = await client.get(f"{AGENTS}/admins")
        assert answer.status_code == 403
        assert "admin or reader" in answer.json()["detail"]
        await world.change_user(roles=["reader"])
        assert (await client.get(f"{AGENTS}/admins")).status_code == 200

    async def test_without_a_permission_any_caller_will_do(self, world: World) -> None:
        assert (await (await world.member()).get(f"{AGENTS}/who")).status_code == 200
        assert (await (await world.client()).get(f"{AGENTS}/who")).status_code == 401

    async def test_a_form_is_not_looked_at_before_its_sender(self, world: World) -> None:
        """FastAPI reads forms, and writes their files to the disk, before it asks a dependency."""
        broken = {"content-type": "multipart/form-data; boundary=x"}
        member, anyone = await world.member(), await world.client()

        async def offer(client: httpx2.AsyncClient) -> int:
            answer = await client.post(f"{AGENTS}/form", content=b"no form", headers=broken)
            return answer.status_code

        assert await offer(anyone) == 401
        assert await offer(member) == 400
        await world.change_user(roles=["reader"])
        assert await offer(await world.logged_in()) == 403

    @pytest.mark.parametrize("permission", ["agents", "agents:", ":read", ""])
    async def test_a_misspelt_permission_stops_the_start(self, permission: str) -> None:
        with pytest.raises(ValueError, match="resource:verb"):
            requires(permission)

    async def test_asking_for_a_log_in_is_not_public(self) -> None:
        """Else routes of ``requires()`` would be listed, and documented, as open."""
        assert requires().dependency.__newel_access__ == (auth.LOGGED_IN,)
        assert require_role("admin").dependency.__newel_access__ == ("role:admin",)
        assert public().dependency.__newel_access__ == ()


class TestPublic:
    @pytest.mark.parametrize("header", [{}, {"authorization": "Bearer expired"}])
    async def test_anyone_may_call(self, world: World, header: dict[str, str]) -> None:
        answer = await (await world.client(**header)).get(f"{AGENTS}/open")
        assert (answer.status_code, answer.json()) == (200, False)

    async def test_who_is_logged_in_is_known(self, world: World) -> None:
        assert (await (await world.member()).get(f"{AGENTS}/open")).json() is True

    async def test_the_authenticator_is_asked_once_a_request(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        async def count(token: str) -> Any:
            asked.append(token)
            raise Unauthorized

        monkeypatch.setattr(world.app.state.authenticator, "authenticate", count)
        client = await world.client(authorization="Bearer x")
        assert (await client.get(f"{AGENTS}/by-principal")).status_code == 200
        assert asked == ["x"]


class TestLimits:
    async def test_a_caller_has_a_limit_wherever_they_are(self, world: World) -> None:
        ann = await world.member()
        bob = await world.member("bob@example.com", ip="192.0.2.2")
        ann_elsewhere = await world.client("192.0.2.9", authorization=ann.headers["authorization"])
        answers = [await each.get(f"{AGENTS}/by-principal") for each in (ann, ann, ann_elsewhere)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[2].headers["retry-after"]) == 30
        assert answers[2].json()["error"] == "too_many_requests"
        assert (await bob.get(f"{AGENTS}/by-principal")).status_code == 200

    async def test_who_is_not_logged_in_is_limited_by_address(self, world: World) -> None:
        first = await world.client("192.0.2.1", authorization="Bearer expired")
        answers = [await first.get(f"{AGENTS}/by-principal") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        second = await world.client("192.0.2.2")
        assert (await second.get(f"{AGENTS}/by-principal")).status_code == 200

    async def test_an_address_has_a_limit_whoever_calls(self, world: World) -> None:
        ann, anyone = await world.member(), await world.client()
        answers = [await each.get(f"{AGENTS}/by-ip") for each in (ann, anyone, anyone)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]

    async def test_what_is_counted_may_be_taken_from_the_request(self, world: World) -> None:
        client = await world.client()
        statuses = [
            (await client.get(f"{AGENTS}/by-key", headers={"x-key": key})).status_code
            for key in ("a", "a", "a", "b")
        ]
        assert statuses == [200, 200, 429, 200]

    @pytest.mark.parametrize("cost", [0, 6])
    async def test_a_cost_that_is_never_allowed_stops_the_start(self, cost: int) -> None:
        with pytest.raises(ValueError, match="can never be allowed"):
            limit("5/minute", cost=cost)

    async def test_each_route_counts_apart(self, world: World) -> None:
        client = await world.client()
        for _ in range(3):
            last = await client.get(f"{AGENTS}/by-ip")
        assert last.status_code == 429
        assert (await client.get(f"{AGENTS}/by-ip-too")).status_code == 200

    async def test_each_limit_of_a_route_has_a_name_of_its_own(self, world: World) -> None:
        """Else a client could not tell which policy is which, and which of them is used up."""
        first, second = await world.client("192.0.2.1"), await world.client("192.0.2.2")
        answer = await first.get(f"{AGENTS}/by-two")
        assert answer.headers.get_list("ratelimit-policy") == [
            '"api";q=100;w=60',
            '"route";q=2;w=60',
            '"route-2";q=2;w=60',
        ]
        assert [said.partition(";")[0] for said in answer.headers.get_list("ratelimit")] == [
            '"api"',
            '"route"',
            '"route-2"',
        ]
        await second.get(f"{AGENTS}/by-two")
        refused = await second.get(f"{AGENTS}/by-two")
        assert refused.status_code == 429
        assert refused.headers["ratelimit-policy"] == '"route-2";q=2;w=60'

    async def test_a_call_counts_once_however_many_ask(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path, api_limit="10/minute") as world:
            await world.register()
            await world.change_user(roles=["reader"])
            member = await world.logged_in(ip="192.0.2.3")
            answer = await member.get(f"{AGENTS}/asked-twice")
        assert answer.status_code == 200
        assert answer.headers.get_list("ratelimit") == ['"api";r=9;t=6']

    async def test_the_limit_comes_back_with_time(self, world: World) -> None:
        client = await world.client()
        for _ in range(3):
            await client.get(f"{AGENTS}/by-ip")
        world.wait(30)
        assert (await client.get(f"{AGENTS}/by-ip")).status_code == 200

    async def test_the_api_limit_holds_everywhere(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path, api_limit="3/minute") as world:
            await world.register()
            client = await world.client("192.0.2.2")
            answers = [await client.get(f"{AGENTS}/open") for _ in range(4)]
            await world.change_user(roles=["reader"])
            member = await world.logged_in(ip="192.0.2.3")
            theirs = [await member.post(AGENTS) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"api";q=3;w=60'
        assert [answer.status_code for answer in theirs] == [403, 403, 403, 429]

    @pytest.mark.parametrize("token", [None, "a.b.c"])
    async def test_who_is_not_logged_in_is_limited_too(
        self, database_url: str, tmp_path: Path, token: str | None
    ) -> None:
        async with open_world(database_url, tmp_path, api_limit="3/minute") as world:
            client = await world.client("192.0.2.9")
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            answers = [await client.post(AGENTS, headers=headers) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]

    async def test_a_rate_that_cannot_be_read_stops_the_start(self) -> None:
        with pytest.raises(ValueError, match="not a rate"):
            limit("often")


@pytest.fixture
def sockets(database_url: str, tmp_path: Path) -> Generator[TestClient]:
    """A client for websockets of an application that also takes cookies."""
    app, _ = build(database_url, tmp_path, auth_cookies=True)
    with TestClient(app, base_url="https://test") as client:
        yield client


@pytest.fixture
def token(sockets: TestClient) -> str:
    """An access token; the client keeps no cookie."""
    sockets.post(f"{AUTH}/register", json={"email": EMAIL, "password": PASSWORD})
    answer = sockets.post(f"{AUTH}/login", data={"username": EMAIL, "password": PASSWORD})
    sockets.cookies.clear()
    return answer.json()["access_token"]


class TestWebsockets:
    def greeting(self, sockets: TestClient, **headers: str) -> str:
        with sockets.websocket_connect(SOCKET, headers=headers) as socket:
            return socket.receive_text()

    def status(self, sockets: TestClient, **headers: str) -> int:
        with pytest.raises(WebSocketDenialResponse) as refusal:
            self.greeting(sockets, **headers)
        return refusal.value.status_code

    def test_a_token_in_the_header_opens_one(self, sockets: TestClient, token: str) -> None:
        me = sockets.get(f"{AUTH}/me", headers={"authorization": f"Bearer {token}"}).json()
        assert self.greeting(sockets, authorization=f"Bearer {token}") == me["id"]

    def test_without_a_token_it_is_refused_before_it_opens(self, sockets: TestClient) -> None:
        assert self.status(sockets) == 401
        assert self.status(sockets, authorization="Bearer x") == 401

    def test_a_cookie_opens_one_from_our_own_pages(self, sockets: TestClient, token: str) -> None:
        sockets.cookies.set(ACCESS_COOKIE, token)
        assert self.greeting(sockets, origin="https://testserver")  # as the client calls it

    @pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}])
    def test_another_sites_page_cannot_use_the_cookie(
        self, sockets: TestClient, token: str, headers: dict[str, str]
    ) -> None:
        sockets.cookies.set(ACCESS_COOKIE, token)
        assert self.status(sockets, **headers) == 403

    def test_it_could_if_the_origin_were_not_looked_at(
        self, sockets: TestClient, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        monkeypatch.setattr(auth, "refuse_cross_site", lambda _: None)
        sockets.cookies.set(ACCESS_COOKIE, token)
        assert self.greeting(sockets, origin="https://evil.example")

    def test_the_api_limit_holds_here_too(self, sockets: TestClient, token: str) -> None:
        sockets.app.state.api_rate = Rate(2, 60)
        authorization = f"Bearer {token}"
        for _ in range(2):
            assert self.greeting(sockets, authorization=authorization)
        assert self.status(sockets, authorization=authorization) == 429
