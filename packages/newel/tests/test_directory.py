"""Log-in tells nothing, is slow to guess at, locks nobody out; passwords change safely."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import bcrypt
import httpx2
import pytest
from sample_accounts import AUTH, EMAIL, PASSWORD, Unlimited, World, open_world
from sample_entities import User
from sqlalchemy import select, text

from newel import directory
from newel.db import Database
from newel.errors import AppError, Conflict, Forbidden
from newel.limits import Rate
from newel.passwords import Passwords, Verified
from newel.principal import Principal
from newel.repository import Repository

pytestmark = pytest.mark.anyio

NEW_PASSWORD = "a quite different one"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path) as world:
        yield world


def words_of(answer: httpx2.Response) -> dict[str, Any]:
    varying = {"request_id", "timestamp"}
    return {name: value for name, value in answer.json().items() if name not in varying}


class TestLogIn:
    async def test_it_answers_with_tokens(self, world: World) -> None:
        await world.register()
        answer = await world.log_in()
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert body.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize("email", [EMAIL.upper(), f" {EMAIL}", "ann@EXAMPLE.com"])
    async def test_the_address_is_read_as_people_write_it(self, world: World, email: str) -> None:
        await world.register()
        expected = 401 if email.startswith(" ") else 200
        assert (await world.log_in(email)).status_code == expected

    async def test_wrong_unknown_and_inactive_are_one_answer(self, world: World) -> None:
        await world.register()
        wrong = await world.log_in(password="not the password", ip="192.0.2.1")
        unknown = await world.log_in("bob@example.com", ip="192.0.2.2")
        nonsense = await world.log_in("no address", ip="192.0.2.3")
        await world.change_user(is_active=False)
        inactive = await world.log_in(ip="192.0.2.4")
        assert {each.status_code for each in (wrong, unknown, nonsense, inactive)} == {401}
        assert words_of(wrong) == words_of(unknown) == words_of(nonsense) == words_of(inactive)
        assert wrong.headers["www-authenticate"] == "Bearer"
        assert await world.sessions() == []

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("username", "a" * 321),
            ("username", "ann\0@example.com"),
            ("username", ""),
            ("password", "x" * 1025),
            ("password", "with\0nul"),
            ("password", ""),
            ("grant_type", "client_credentials"),
            ("scope", "x" * 1025),
            ("client_id", "x" * 256),
            ("client_secret", "x" * 256),
        ],
    )
    async def test_what_is_out_of_bounds_is_refused(
        self, world: World, field: str, value: str
    ) -> None:
        client = await world.client()
        form = {"username": EMAIL, "password": PASSWORD, field: value}
        answer = await client.post(f"{AUTH}/login", data=form)
        assert answer.status_code == 422
        assert field in answer.json()["errors"][0]["pointer"]

    async def test_a_forgotten_token_in_the_header_does_not_matter(self, world: World) -> None:
        await world.register()
        client = await world.client(authorization="Bearer expired")
        form = {"username": EMAIL, "password": PASSWORD}
        assert (await client.post(f"{AUTH}/login", data=form)).status_code == 200

    async def test_an_old_hash_is_upgraded_when_the_password_is_right(self, world: World) -> None:
        await world.register()
        old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        await world.change_user(password_hash=old)
        assert (await world.log_in(password="not the password")).status_code == 401
        assert (await world.user()).password_hash == old
        assert (await world.log_in()).status_code == 200
        assert (await world.user()).password_hash.startswith("$argon2id$")
        assert (await world.log_in()).status_code == 200

    async def test_the_password_that_was_changed_meanwhile_opens_nothing(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The session of a log-in that overtakes a change of the password is born dead."""
        await world.register()
        verify = Passwords.verify

        async def change_meanwhile(self: Passwords, *arguments: Any) -> Verified:
            verified = await verify(self, *arguments)
            await world.change_user(epoch=1)
            return verified

        monkeypatch.setattr(Passwords, "verify", change_meanwhile)
        client = await world.logged_in()
        assert (await client.get(f"{AUTH}/me")).status_code == 401
        assert (await world.refresh(client.headers["x-refresh"])).status_code == 401


class TestHashing:
    @pytest.fixture
    def seen(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
        """For each hash: whether it ran on the loop's thread, and the connections in use."""
        seen: list[tuple[bool, int]] = []
        loop_thread = threading.get_ident()
        hasher = world.app.state.passwords._argon2
        pools = {world.database._writer.pool, world.database._reader.pool}

        def watch(work: Callable[..., Any]) -> Callable[..., Any]:
            def watched(*arguments: Any) -> Any:
                in_use = sum(pool.checkedout() for pool in pools)
                seen.append((threading.get_ident() == loop_thread, in_use))
                return work(*arguments)

            return watched

        monkeypatch.setattr(hasher, "hash", watch(hasher.hash))
        monkeypatch.setattr(hasher, "verify", watch(hasher.verify))
        return seen

    async def test_it_runs_in_another_thread_and_outside_of_a_transaction(
        self, world: World, seen: list[tuple[bool, int]]
    ) -> None:
        client = await world.member()
        await world.log_in("bob@example.com")
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        assert (await client.post(f"{AUTH}/password", json=body)).status_code == 204
        assert seen == 5 * [(False, 0)]  # register, two log-ins, prove, set

    async def test_the_loop_goes_on_while_passwords_are_verified(self, world: World) -> None:
        """Requests come through between log-ins; that they are quick, benchmarks say."""
        await world.register()
        world.app.state.limiter = Unlimited()
        client = await world.client()
        order: list[str] = []

        async def log_in() -> None:
            await world.log_in()
            order.append("log-in")

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(log_in)
            await anyio.lowlevel.checkpoint()
            assert (await client.get("/health")).status_code == 200
            order.append("health")
        assert order.index("health") < 9


async def ratio_of_times(world: World, *, pairs: int) -> float:
    """Return the median time of a log-in without an account by that of one with the wrong password.

    The pairs are interleaved, so that what else the machine does hits both.
    """
    await world.register()
    world.app.state.limiter = Unlimited()
    known, unknown = [], []
    for _ in range(pairs):
        for times, email in ((known, EMAIL), (unknown, "bob@example.com")):
            client = await world.client()
            form = {"username": email, "password": "not the password"}
            began = time.perf_counter()
            await client.post(f"{AUTH}/login", data=form)
            times.append(time.perf_counter() - began)
    return statistics.median(unknown) / statistics.median(known)


class TestTime:
    async def test_it_does_not_tell_who_has_an_account(self, world: World) -> None:
        # A busy machine spoils a measurement now and then; a leak spoils every one of them.
        ratios = [await ratio_of_times(world, pairs=20)]
        while not 1 / 1.1 <= ratios[-1] <= 1.1 and len(ratios) < 5:
            ratios.append(await ratio_of_times(world, pairs=20))
        assert 1 / 1.1 <= ratios[-1] <= 1.1, ratios

    async def test_it_would_if_nothing_were_verified_for_strangers(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        verify = Passwords.verify

        async def hasty(self: Passwords, password: str, hashed: str | None) -> Verified:
            return Verified(ok=False) if hashed is None else await verify(self, password, hashed)

        monkeypatch.setattr(Passwords, "verify", hasty)
        assert await ratio_of_times(world, pairs=10) < 1 / 1.1


async def guess(world: World, email: str = EMAIL, *, ip: str = "198.51.100.1") -> httpx2.Response:
    return await world.log_in(email, "not the password", ip=ip)


async def waits_of_a_botnet(world: World, email: str, *, attempts: int) -> list[int]:
    """Guess from new addresses, as soon as it is allowed; return the seconds before each guess."""
    waits = [0] * attempts
    for number in range(attempts):
        answer = await guess(world, email, ip=f"198.51.{number}.1")
        while answer.status_code == 429:
            seconds = int(answer.headers["retry-after"])
            waits[number] += seconds
            world.wait(seconds)
            answer = await guess(world, email, ip=f"198.51.{number}.2")
        assert answer.status_code == 401
    return waits


class TestThrottle:
    async def test_the_sixth_within_a_minute_is_refused(self, world: World) -> None:
        await world.register()
        answers = [await guess(world) for _ in range(6)]
        assert [answer.status_code for answer in answers] == 5 * [401] + [429]
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
        assert (await world.log_in(ip="198.51.100.1")).status_code == 429
        world.wait(12)
        assert (await guess(world)).status_code == 401

    async def test_many_accounts_from_one_address_count_together(self, world: World) -> None:
        answers = [await guess(world, f"user{number}@example.com") for number in range(6)]
        assert answers[-1].status_code == 429

    async def test_a_client_cannot_choose_its_address(self, world: World) -> None:
        for number in range(6):
            client = await world.client(**{"x-forwarded-for": f"203.0.113.{number}"})
            form = {"username": EMAIL, "password": "not the password"}
            answer = await client.post(f"{AUTH}/login", data=form)
        assert answer.status_code == 429

    async def test_the_rate_is_the_settings(self, database_url: str, tmp_path: Path) -> None:
        async with open_world(database_url, tmp_path, login_limit="2/minute") as world:
            assert [(await guess(world)).status_code for _ in range(3)] == [401, 401, 429]

    async def test_without_a_limiter_nothing_is_refused(self, world: World) -> None:
        """The negative control: it is the limiter that refuses."""
        world.app.state.limiter = Unlimited()
        assert {(await guess(world)).status_code for _ in range(8)} == {401}

    async def test_guessing_from_many_addresses_gets_slower_up_to_a_minute(
        self, world: World
    ) -> None:
        await world.register()
        waits = await waits_of_a_botnet(world, EMAIL, attempts=24)
        assert waits[:5] == 5 * [0]
        assert max(waits[5:7]) <= 2
        assert 1 < statistics.mean(waits[7:11]) < statistics.mean(waits[11:13])
        assert {50 <= wait <= 61 for wait in waits[-6:]} == {True}
        assert max(waits) <= 61

    async def test_an_account_that_does_not_exist_gets_slower_alike(self, world: World) -> None:
        await world.register()
        known = await waits_of_a_botnet(world, EMAIL, attempts=10)
        assert await waits_of_a_botnet(world, "bob@example.com", attempts=10) == known

    async def test_without_the_delay_a_botnet_is_never_slow(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control."""
        monkeypatch.setattr(directory, "_ACCOUNT_RATES", (Rate(1000, 1),))
        assert await waits_of_a_botnet(world, EMAIL, attempts=12) == 12 * [0]

    async def test_the_right_password_gets_in_from_elsewhere_after_the_delay(
        self, world: World
    ) -> None:
        await world.register()
        await waits_of_a_botnet(world, EMAIL, attempts=14)
        refused = await world.log_in()
        assert refused.status_code == 429
        world.wait(int(refused.headers["retry-after"]))
        assert (await world.log_in()).status_code == 200

    async def test_the_delay_is_over_after_a_success(self, world: World) -> None:
        await world.register()
        for number in range(5):
            await guess(world, ip=f"198.51.{number}.1")
        world.wait(1)
        assert (await world.log_in()).status_code == 200
        for number in range(5):
            answer = await guess(world, ip=f"203.0.{number}.1")
            assert answer.status_code == 401

    async def test_strangers_cannot_keep_the_holder_waiting(self, world: World) -> None:
        """From an address that the account was used from, only that address's rate holds."""
        await world.register()
        await world.log_in(ip="192.0.2.7")
        await waits_of_a_botnet(world, EMAIL, attempts=14)
        assert (await world.log_in(ip="192.0.2.8")).status_code == 429
        assert (await world.log_in(ip="192.0.2.7")).status_code == 200


async def change(client: httpx2.AsyncClient, **fields: str) -> httpx2.Response:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD, **fields}
    return await client.post(f"{AUTH}/password", json=body)


class TestPassword:
    async def test_the_new_one_holds_and_the_old_one_does_not(self, world: World) -> None:
        client = await world.member()
        answer = await change(client)
        assert answer.status_code == 204
        assert answer.content == b""
        assert (await world.log_in()).status_code == 401
        assert (await world.log_in(password=NEW_PASSWORD)).status_code == 200

    async def test_everything_else_that_was_issued_is_dead(self, world: World) -> None:
        client = await world.member()
        other = await world.logged_in()
        await change(client)
        assert (await other.get(f"{AUTH}/me")).status_code == 401
        assert (await world.refresh(other.headers["x-refresh"])).status_code == 401
        assert (await client.get(f"{AUTH}/me")).status_code == 401

    async def test_the_session_that_changed_it_goes_on_by_a_refresh(self, world: World) -> None:
        client = await world.member()
        await change(client)
        answer = await world.refresh(client.headers["x-refresh"])
        assert answer.status_code == 200
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        assert (await client.get(f"{AUTH}/me")).status_code == 200

    async def test_the_present_one_is_needed(self, world: World) -> None:
        client = await world.member()
        answer = await change(client, current_password="not the password")
        assert answer.status_code == 422
        [error] = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == ("#/current_password", "password_wrong")
        assert (await world.log_in()).status_code == 200

    @pytest.mark.parametrize("password", ["password123", "short", "x" * 257, "nul \0 inside"])
    async def test_a_weak_one_is_refused(self, world: World, password: str) -> None:
        client = await world.member()
        answer = await change(client, new_password=password)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "#/new_password"
        assert (await world.log_in()).status_code == 200

    async def test_the_settings_may_ask_for_kinds_of_letters(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path, password_composition=True) as world:
            answer = await world.register()
            assert answer.json()["errors"][0]["code"] == "password_composition"
            assert (await world.register(password=f"{PASSWORD} A1")).status_code == 201

    async def test_a_stolen_token_cannot_be_used_to_guess(self, world: World) -> None:
        client = await world.member()
        wrong = {"current_password": "not the password"}
        answers = [await change(client, **wrong) for _ in range(6)]
        assert [answer.status_code for answer in answers] == 5 * [422] + [429]
        assert (await world.log_in()).status_code == 200

    async def test_one_of_two_changes_at_once_loses(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await world.member()
        hash_password = Passwords.hash

        async def change_meanwhile(self: Passwords, *arguments: Any) -> str:
            await world.change_user(password_hash="$another")
            return await hash_password(self, *arguments)

        monkeypatch.setattr(Passwords, "hash", change_meanwhile)
        answer = await change(client)
        assert answer.status_code == 409
        assert answer.json()["error"] == "stale_version"
        assert (await world.user()).password_hash == "$another"


class UserRepository(Repository[User]):
    entity = User


class TestLockout:
    @pytest.fixture
    async def pair(self, database: Database) -> tuple[User, User]:
        ann, bob = (User(email=f"{name}@example.com", roles=["admin"]) for name in ("ann", "bob"))
        async with database.write(None) as work, work.as_system("arrange"):
            work.session.add_all([ann, bob])
        return ann, bob

    @staticmethod
    async def take(database: Database, by: User, of: User, how: str = "deactivate") -> None:
        """Take the rights of one as the other, who was let in while both had theirs."""
        caller = Principal(id=by.id, roles=frozenset({"admin"}), permissions=frozenset({"*"}))
        async with database.write(caller) as work:
            users = UserRepository(work)
            account = await users.get(of.id)
            await directory.refuse_lockout(users, caller, account)
            if how == "delete":
                await users.delete(account)
            else:
                change = {"deactivate": {"is_active": False}, "demote": {"roles": ["user"]}}[how]
                await users.update(account, change)

    @staticmethod
    async def administrators(database: Database) -> list[str]:
        async with database.read(None) as work, work.as_system("look"):
            found = await work.session.scalars(select(User).where(User.is_active))
            return [user.email for user in found if "admin" in user.roles]

    @pytest.mark.parametrize("how", ["deactivate", "demote", "delete"])
    async def test_two_who_lock_each_other_out_leave_one(
        self, database: Database, pair: tuple[User, User], how: str
    ) -> None:
        refused: list[type[AppError]] = []

        async def take(by: User, of: User) -> None:
            try:
                await self.take(database, by, of, how)
            except AppError as error:
                refused.append(type(error))

        async with anyio.create_task_group() as group:
            for by, of in (pair, pair[::-1]):
                group.start_soon(take, by, of)
        # NotFound and Unavailable: who comes second may find nobody, or a deadlock undone
        assert len(refused) == 1
        assert len(await self.administrators(database)) == 1

    async def test_the_second_waits_for_the_first(
        self, database: Database, pair: tuple[User, User]
    ) -> None:
        """Not only by luck: the first has not committed when the second asks."""
        ann, bob = pair
        caller = Principal(id=ann.id, roles=frozenset({"admin"}), permissions=frozenset({"*"}))
        ended: list[type[BaseException] | None] = []

        async def second() -> None:
            try:
                await self.take(database, bob, ann)
            except AppError as error:
                ended.append(type(error))

        async with anyio.create_task_group() as group, database.write(caller) as work:
            users = UserRepository(work)
            account = await users.get(bob.id)
            await directory.refuse_lockout(users, caller, account)
            group.start_soon(second)
            if not database.is_sqlite:  # there the second waits for the one connection
                await self.somebody_waits(database)
            await users.update(account, {"is_active": False})
            assert ended == []
        assert ended == [Forbidden]
        assert await self.administrators(database) == [ann.email]

    @staticmethod
    async def somebody_waits(database: Database) -> None:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with anyio.fail_after(10):
            while True:
                async with database.reading_engine.connect() as connection:
                    if await connection.scalar(waiting):
                        return
                await anyio.sleep(0.01)

    async def test_nobody_takes_their_own_rights(
        self, database: Database, pair: tuple[User, User]
    ) -> None:
        with pytest.raises(Conflict, match="Another administrator"):
            await self.take(database, pair[0], pair[0])

    async def test_who_is_no_account_takes_nothing(
        self, database: Database, pair: tuple[User, User]
    ) -> None:
        with pytest.raises(Forbidden):
            await self.take(database, User(email="gone@example.com"), pair[0])
