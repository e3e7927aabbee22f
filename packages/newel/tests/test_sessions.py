"""A token is as good as its account and its session are now; a refresh token is good once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx2
import pytest
from sample_accounts import (
    AUTH,
    EMAIL,
    PASSWORD,
    Unlimited,
    World,
    open_world,
)
from sample_entities import User
from sample_valkey import Valkey, until
from sqlalchemy import delete, event, update
from structlog.testing import capture_logs

from newel import sessions
from newel.db import Database
from newel.errors import Unauthorized
from newel.principal import Principal
from newel.sessions import SessionMemory, Sessions
from newel.tokens import AccessClaims

pytestmark = pytest.mark.anyio

WHO = "/api/v1/agents/who"
MONTH = 30 * 86_400
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path) as world:
        yield world


async def deactivate(world: World) -> None:
    await world.change_user(is_active=False)


async def move_epoch(world: World) -> None:
    await world.change_user(epoch=1)


async def revoke(world: World) -> None:
    other = await world.logged_in()
    mine, *_ = (await other.get(f"{AUTH}/sessions")).json()["items"][::-1]
    assert (await other.delete(f"{AUTH}/sessions/{mine['id']}")).status_code == 204


async def delete_user(world: World) -> None:
    async with world.database.write(None) as work, work.as_system("arrange"):
        await work.session.execute(delete(User))


async def expire_token(world: World) -> None:
    world.wait(15 * 60)


ENDS: dict[str, Callable[[World], Awaitable[None]]] = {
    "inactive account": deactivate,
    "another epoch": move_epoch,
    "revoked session": revoke,
    "deleted account": delete_user,
}


def claims_of(session_id: UUID, *, sub: UUID | None = None, epoch: int = 0) -> AccessClaims:
    return AccessClaims(
        sub=sub or uuid4(), sid=session_id, epoch=epoch, jti=uuid4(), iat=NOW, exp=NOW
    )


class TestMemory:
    """What is remembered of a caller, and when it is forgotten."""

    def test_a_change_while_the_query_runs_keeps_its_answer_out(self) -> None:
        memory, claims = SessionMemory(seconds=5), claims_of(uuid4())
        generation = memory.generation
        memory.forget([f"users:{claims.sub}"])  # committed after the query has read the row
        remember(memory, claims, generation)
        assert memory.find(claims, NOW) is None
        remember(memory, claims, memory.generation)
        assert memory.find(claims, NOW) == Principal(id=claims.sub)

    def test_it_is_good_for_this_user_and_this_epoch_alone(self) -> None:
        memory, claims = SessionMemory(seconds=5), claims_of(uuid4())
        remember(memory, claims, 0)
        assert memory.find(replace(claims, epoch=1), NOW) is None
        assert memory.find(replace(claims, sub=uuid4()), NOW) is None
        assert memory.find(replace(claims, sid=uuid4()), NOW) is None

    def test_it_does_not_outlive_the_session(self) -> None:
        memory, claims = SessionMemory(seconds=5), claims_of(uuid4())
        ends = NOW + timedelta(seconds=1)
        memory.store(claims, Principal(id=claims.sub), now=NOW, ends=ends, generation=0)
        assert memory.find(claims, NOW) is not None
        assert memory.find(claims, ends) is None

    def test_a_change_of_one_account_leaves_the_others(self) -> None:
        memory, user = SessionMemory(seconds=5), User(email=EMAIL)
        mine = [claims_of(uuid4(), sub=user.id) for _ in range(2)]
        other = claims_of(uuid4())
        for claims in (*mine, other):
            remember(memory, claims, 0)
        memory.forget(["users", f"users:{user.id}"])
        assert [memory.find(claims, NOW) for claims in mine] == [None, None]
        assert memory.find(other, NOW) is not None
        memory.forget([f"auth_sessions:{other.sid}"])
        assert memory.find(other, NOW) is None

    @pytest.mark.parametrize("everything", ["users:*", "auth_sessions:*", "*"])
    def test_everybody_is_forgotten_when_nobody_knows_who_was_changed(
        self, everything: str
    ) -> None:
        memory, claims = SessionMemory(seconds=5), claims_of(uuid4())
        remember(memory, claims, 0)
        memory.forget(["users", "agents:*", f"agents:{claims.sid}"])  # none of its business
        assert memory.find(claims, NOW) is not None
        memory.forget([everything])
        assert memory.find(claims, NOW) is None

    def test_it_is_bounded_and_the_oldest_goes_first(self) -> None:
        memory = SessionMemory(seconds=5, kept=2)
        claims = [claims_of(uuid4()) for _ in range(3)]
        for one in claims:
            remember(memory, one, 0)
        assert [memory.find(one, NOW) is not None for one in claims] == [False, True, True]


def remember(memory: SessionMemory, claims: AccessClaims, generation: int) -> None:
    principal, ends = Principal(id=claims.sub), NOW + timedelta(days=1)
    memory.store(claims, principal, now=NOW, ends=ends, generation=generation)


class TestAccess:
    async def test_the_caller_has_what_the_roles_grant(self, world: World) -> None:
        client = await world.member()
        body = (await client.get(WHO)).json()
        assert body["roles"] == ["user"]
        assert body["permissions"] == ["agents:read", "agents:write"]

    async def test_another_role_holds_at_once(self, world: World) -> None:
        client = await world.member()
        await world.change_user(roles=["reader", "of another release"])
        body = (await client.get(WHO)).json()
        assert body["roles"] == ["reader"]
        assert body["permissions"] == ["agents:read"]
        assert (await client.post("/api/v1/agents")).status_code == 403

    @pytest.mark.parametrize("end", [*ENDS.values(), expire_token], ids=[*ENDS, "expired"])
    async def test_a_token_dies_at_once_and_in_the_same_words(
        self, world: World, end: Callable[[World], Awaitable[None]]
    ) -> None:
        client = await world.member()
        await end(world)
        answer = await client.get(WHO)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        forged = await (await world.client(authorization="Bearer a.b.c")).get(WHO)
        assert answer.json()["error"] == forged.json()["error"] == "unauthorized"
        assert answer.json()["detail"] == forged.json()["detail"]

    async def test_a_caller_is_looked_up_once_in_five_seconds(self, world: World) -> None:
        client = await world.member()
        seen: list[str] = []
        engine = world.database.reading_engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *sent: seen.append(sent[2]))
        for _ in range(3):
            await client.get(WHO)
        assert len(seen) == 1
        world.wait(5)
        await client.get(WHO)
        assert len(seen) == 2

    async def test_what_another_process_changes_holds_after_five_seconds(
        self, world: World
    ) -> None:
        client = await world.member()
        assert (await client.get(WHO)).status_code == 200
        other = Database(world.database.url)
        async with other.write(None) as work, work.as_system("another process"):
            await work.session.execute(delete(User))
        await other.close()
        world.wait(4.9)
        assert (await client.get(WHO)).status_code == 200
        world.wait(0.1)
        assert (await client.get(WHO)).status_code == 401

    async def test_a_commit_that_is_cut_off_is_forgotten_too(self, world: World) -> None:
        """Nobody knows whether it happened, so the caller is looked up again."""
        client = await world.member()
        assert (await client.get(WHO)).status_code == 200

        async def deactivate_and_hang_up() -> None:
            async with world.database.write(None) as work, work.as_system("an administrator"):
                await work.session.execute(update(User).values(is_active=False))
                session = work.session.sync_session
                event.listen(session, "before_commit", lambda _: task.cancel())

        task = asyncio.create_task(deactivate_and_hang_up())
        with pytest.raises(asyncio.CancelledError):
            await task
        happened = not (await world.user()).is_active
        assert (await client.get(WHO)).status_code == (401 if happened else 200)
        assert happened or not world.database.is_sqlite, "its thread commits whoever hangs up"

    @pytest.mark.parametrize("end", [*ENDS.values()], ids=[*ENDS])
    async def test_with_redis_it_holds_at_once_in_every_process(
        self,
        database_url: str,
        tmp_path: Path,
        valkey: Valkey,
        end: Callable[[World], Awaitable[None]],
    ) -> None:
        shared = {"redis_url": valkey.url, "service_name": f"sessions {uuid4()}"}
        async with (
            open_world(database_url, tmp_path, **shared) as here,
            open_world(database_url, tmp_path, **shared) as there,
        ):
            await until(lambda: all(w.database.cache.is_current for w in (here, there)))
            client = await here.member()
            elsewhere = await there.client(authorization=client.headers["authorization"])
            assert [(await one.get(WHO)).status_code for one in (client, elsewhere)] == [200, 200]
            await end(here)
            assert (await client.get(WHO)).status_code == 401
            async with asyncio.timeout(1):
                while (await elsewhere.get(WHO)).status_code != 401:
                    pass  # each request lets the message come through

    async def test_who_should_hear_of_others_and_does_not_looks_at_each_request(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path, redis_url="unix:///nowhere") as world:
            client = await world.member()
            assert (await client.get(WHO)).status_code == 200
            other = Database(world.database.url)
            async with other.write(None) as work, work.as_system("another process"):
                await work.session.execute(delete(User))
            await other.close()
            assert (await client.get(WHO)).status_code == 401

    async def test_a_log_in_leaves_the_others_remembered(self, world: World) -> None:
        await world.register("bob@example.com")
        client = await world.member()
        await client.get(WHO)
        seen: list[str] = []
        engine = world.database.reading_engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *sent: seen.append(sent[2]))
        bob = await world.logged_in("bob@example.com", ip="192.0.2.7")
        assert (await bob.delete(f"{AUTH}/sessions")).status_code == 204
        seen.clear()
        assert (await client.get(WHO)).status_code == 200
        assert seen == []

    async def test_nothing_is_remembered_in_strict_mode(self, world: World) -> None:
        memory = SessionMemory(seconds=0)
        now, claims = world.clock.now(), claims_of(uuid4())
        principal = Principal(id=claims.sub)
        memory.store(claims, principal, now=now, ends=now + timedelta(1), generation=0)
        assert memory.find(claims, now) is None

    @pytest.mark.parametrize("end", [deactivate, revoke])
    async def test_it_lives_on_when_the_session_is_not_looked_at(
        self,
        world: World,
        monkeypatch: pytest.MonkeyPatch,
        end: Callable[[World], Awaitable[None]],
    ) -> None:
        """The negative control."""
        client = await world.member()
        await end(world)
        monkeypatch.setattr(Sessions, "_is_live", lambda *_: True)
        assert (await client.get(WHO)).status_code == 200

    async def test_one_users_token_is_worth_nothing_in_anothers_session(self, world: World) -> None:
        await world.member(ip="192.0.2.2")
        await world.member("bob@example.com", ip="192.0.2.3")
        ann, bob = await world.users()
        [his] = [each for each in await world.sessions() if each.user_id == bob.id]
        token = world.app.state.access_tokens.issue(ann.id, sid=his.id, epoch=0)
        client = await world.client(authorization=f"Bearer {token}")
        assert (await client.get(WHO)).status_code == 401

    async def test_it_takes_one_query_and_no_log_line_of_the_system(self, world: World) -> None:
        client = await world.member()
        statements: list[str] = []

        def note(*arguments: Any) -> None:
            statements.append(arguments[2])

        engine = world.database._reader.sync_engine
        event.listen(engine, "before_cursor_execute", note)
        with capture_logs() as lines:
            assert (await client.get(WHO)).status_code == 200
        event.remove(engine, "before_cursor_execute", note)
        assert len(statements) == 1
        assert [line["event"] for line in lines if line["event"] == "system_scope"] == []


def token_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 200
    return answer.json()["refresh_token"]


class TestRefresh:
    @pytest.fixture
    async def first(self, world: World) -> str:
        """The refresh token of a log-in."""
        return (await world.member()).headers["x-refresh"]

    async def test_it_gives_new_tokens_that_work(self, world: World, first: str) -> None:
        answer = await world.refresh(first)
        assert answer.headers["cache-control"] == "no-store"
        assert token_of(answer) != first
        client = await world.client(authorization=f"Bearer {answer.json()['access_token']}")
        assert (await client.get(WHO)).status_code == 200

    async def test_each_token_works_once_in_a_chain(self, world: World, first: str) -> None:
        token = first
        for _ in range(5):
            world.wait(3600)
            token = token_of(await world.refresh(token))
        [session] = await world.sessions()
        assert session.refresh_counter == 5

    async def test_a_lost_answer_can_be_asked_for_again(self, world: World, first: str) -> None:
        successor = token_of(await world.refresh(first))
        world.wait(10)
        assert token_of(await world.refresh(first)) == successor
        assert token_of(await world.refresh(successor)) != successor

    async def test_a_used_token_ends_the_session_and_is_reported(
        self, world: World, first: str
    ) -> None:
        newest = token_of(await world.refresh(first))
        access = (await world.refresh(first)).json()["access_token"]
        world.wait(11)
        with capture_logs() as lines:
            stolen = await world.refresh(first)
        assert stolen.status_code == 401
        assert "refresh_token_reused" in [line["event"] for line in lines]
        [session] = await world.sessions()
        assert session.revoked_at == world.clock.now()
        assert (await world.refresh(newest)).status_code == 401
        client = await world.client(authorization=f"Bearer {access}")
        assert (await client.get(WHO)).status_code == 401

    async def test_the_victim_finds_out_when_the_thief_was_first(
        self, world: World, first: str
    ) -> None:
        stolen = token_of(await world.refresh(token_of(await world.refresh(first))))
        assert (await world.refresh(first)).status_code == 401  # two turns ago: at once
        assert (await world.refresh(stolen)).status_code == 401

    async def test_a_used_token_would_work_with_endless_grace(
        self, world: World, first: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        await world.refresh(first)
        world.wait(11)
        monkeypatch.setattr(sessions, "REFRESH_GRACE", timedelta(days=1))
        assert (await world.refresh(first)).status_code == 200

    async def test_twenty_at_once_leave_one_lineage(self, world: World, first: str) -> None:
        world.app.state.limiter = Unlimited()
        found: Counter[str] = Counter()

        async def refresh() -> None:
            found[token_of(await world.refresh(first))] += 1

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(refresh)
        [(successor, times)] = found.items()
        assert times == 20
        [session] = await world.sessions()
        assert (session.refresh_counter, session.revoked_at) == (1, None)
        assert (await world.refresh(successor)).status_code == 200

    async def test_the_loser_of_a_race_gets_the_winners_token(
        self, world: World, first: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both have seen the same turn; the compare-and-set lets one of them move it."""
        advance = Sessions._advance

        async def late(self: Sessions, *arguments: Any) -> bool:
            assert await advance(self, *arguments)  # somebody else
            return await advance(self, *arguments)

        monkeypatch.setattr(Sessions, "_advance", late)
        successor = token_of(await world.refresh(first))
        monkeypatch.undo()
        assert token_of(await world.refresh(first)) == successor

    async def test_the_loser_against_a_revocation_gets_nothing(
        self, world: World, first: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        advance = Sessions._advance

        async def late(self: Sessions, work: Any, session_id: Any, counter: int) -> bool:
            await self.revoke(work, session_id)
            return await advance(self, work, session_id, counter)

        monkeypatch.setattr(Sessions, "_advance", late)
        assert (await world.refresh(first)).status_code == 401

    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    async def test_it_is_dead_with_its_session(
        self, world: World, first: str, end: Callable[[World], Awaitable[None]]
    ) -> None:
        await end(world)
        answer = await world.refresh(first)
        assert answer.status_code == 401
        assert answer.json()["detail"] == sessions.REVOKED

    async def test_a_session_ends_when_it_is_not_used_for_a_week(
        self, world: World, first: str
    ) -> None:
        world.wait(7 * 86_400 - 1)
        token = token_of(await world.refresh(first))
        world.wait(7 * 86_400)
        assert (await world.refresh(token)).status_code == 401

    async def test_a_session_ends_after_a_month_however_busy(
        self, world: World, first: str
    ) -> None:
        token = first
        for _ in range(5):
            world.wait(6 * 86_400 - 1)
            token = token_of(await world.refresh(token))
        world.wait(5)
        assert (await world.refresh(token)).status_code == 401

    @pytest.mark.parametrize(
        "token", ["x", "a.b.c", f"{UUID(int=1).hex}.0.{'A' * 43}", "\0", "x" * 512]
    )
    async def test_what_is_not_ours_is_refused(self, world: World, token: str) -> None:
        assert (await world.refresh(token)).status_code == 401

    async def test_an_access_token_does_not_refresh(self, world: World, first: str) -> None:
        access = (await world.refresh(first)).json()["access_token"]
        assert (await world.refresh(access)).status_code in {401, 422}

    async def test_a_turn_of_the_future_changes_nothing(self, world: World, first: str) -> None:
        """As after the database was restored from a copy."""
        [session] = await world.sessions()
        ahead = world.app.state.authenticator._refresh_tokens.issue(session.id, 5)
        assert (await world.refresh(ahead)).status_code == 401
        assert (await world.refresh(first)).status_code == 200

    @pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": "x" * 513}])
    async def test_a_body_without_one_is_invalid(self, world: World, body: dict[str, str]) -> None:
        answer = await (await world.client()).post(f"{AUTH}/refresh", json=body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "#/refresh_token"

    async def test_who_sends_none_at_all_is_not_logged_in(self, world: World) -> None:
        answer = await (await world.client()).post(f"{AUTH}/refresh")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["detail"] == "Send the refresh token, or log in."


class TestRenewing:
    async def test_a_caller_without_a_session_has_nothing_to_renew(self, world: World) -> None:
        sessions_of_app: Sessions = world.app.state.authenticator
        caller = Principal(id=uuid4())
        async with world.database.write(caller) as work:
            with pytest.raises(Unauthorized):
                await sessions_of_app.renew(work, caller, epoch=1)


class TestOpening:
    async def test_a_session_says_where_it_comes_from(self, world: World) -> None:
        await world.register()
        client = await world.client("2001:db8::7", **{"user-agent": "x" * 300})
        await client.post(f"{AUTH}/login", data={"username": EMAIL, "password": PASSWORD})
        [session] = await world.sessions()
        assert session.ip == "2001:db8::/64"
        assert session.user_agent == "x" * 255
        assert session.expires_at == world.clock.now() + timedelta(seconds=MONTH)

    async def test_old_ones_are_forgotten(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.member()
        world.wait(MONTH)
        await world.log_in()
        assert len(await world.sessions()) == 1
        monkeypatch.setattr(sessions, "_SESSIONS_KEPT", 3)
        for _ in range(4):
            world.wait(60)
            newest = await world.logged_in()
        assert len(await world.sessions()) == 3
        assert (await newest.get(WHO)).status_code == 200
