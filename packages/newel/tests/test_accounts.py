"""Registering, the own account, administrators, and what a service may not configure."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ConfigDict, SecretStr
from sample_accounts import (
    AUTH,
    EMAIL,
    PASSWORD,
    ROLES,
    SECRET,
    Unlimited,
    World,
    open_world,
)
from sample_entities import User
from sqlalchemy import event

from newel import accounts
from newel.app import create_app
from newel.entity import Tenanted
from newel.errors import ConfigurationError, Duplicate, Invalid, Unavailable
from newel.identity import Account
from newel.schemas import InputModel
from newel.settings import Settings

pytestmark = pytest.mark.anyio

FORBIDDEN = [
    *("id", "roles", "is_active", "epoch", "password_hash", "version", "created_at"),
    "email_verified_at",
]


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with open_world(database_url, tmp_path) as world:
        yield world


class TestRegister:
    async def test_it_answers_with_the_account_and_its_address(self, world: World) -> None:
        answer = await world.register(full_name="Ann")
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{AUTH}/me"
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        user = await world.user()
        assert body["id"] == str(user.id)
        assert body["email"] == EMAIL
        assert body["full_name"] == "Ann"
        assert body["roles"] == ["user"]
        assert body.keys() == {
            *("id", "created_at", "updated_at", "version"),
            *("email", "email_verified_at", "roles", "is_active", "full_name"),
        }

    async def test_only_a_hash_is_stored_and_nothing_shows_it(self, world: World) -> None:
        await world.register()
        user = await world.user()
        assert user.password_hash.startswith("$argon2id$")
        assert user.password_hash not in repr(user)

    async def test_it_is_told_as_an_event_of_the_same_transaction(self, world: World) -> None:
        await world.register()
        assert await world.events() == ["UserRegistered"]

    async def test_no_2xx_no_row_and_no_event_when_the_commit_fails(self, world: World) -> None:
        def fail(_connection: object) -> None:
            raise Unavailable

        event.listen(world.database.engine.sync_engine, "commit", fail)
        answer = await world.register()
        event.remove(world.database.engine.sync_engine, "commit", fail)
        assert answer.status_code == 503
        assert await world.users() == []
        assert await world.events() == []

    @pytest.mark.parametrize("field", FORBIDDEN)
    async def test_what_the_server_owns_cannot_be_sent(self, world: World, field: str) -> None:
        answer = await world.register(**{field: {"roles": ["admin"]}.get(field, 1)})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"#/{field}"
        assert await world.users() == []

    @pytest.mark.parametrize(
        "email",
        [
            *("", "ann", "ann@", "@example.com", "a b@example.com", "ann@example.com\0", None, 1),
            *("Ann <ann@example.com>", "ann@localhost", f"{'a' * 400}@example.com"),
        ],
    )
    async def test_what_is_no_address_is_refused(self, world: World, email: object) -> None:
        answer = await world.register(email=email)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "#/email"

    @pytest.mark.parametrize(
        ("password", "code"),
        [
            ("Q7zz!", "too_short"),
            ("x" * 257, "too_long"),
            ("with\0nul in it", "string_nul"),
            ("password123", "password_common"),
            ("ann.example!", "password_personal"),
        ],
    )
    async def test_a_bad_password_is_refused(self, world: World, password: str, code: str) -> None:
        answer = await world.register(email="ann.example@example.com", password=password)
        assert answer.status_code == 422
        [error] = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == ("#/password", code)
        assert password not in answer.text
        assert await world.users() == []

    async def test_twenty_at_once_with_one_address_make_one_account(self, world: World) -> None:
        world.app.state.limiter = Unlimited()
        statuses: list[int] = []

        async def register(number: int) -> None:
            email = EMAIL.upper() if number % 2 else EMAIL.title()
            statuses.append((await world.register(email)).status_code)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(register, number)
        assert sorted(statuses) == [201] + 19 * [409]
        assert [user.email for user in await world.users()] == [EMAIL]
        assert await world.events() == ["UserRegistered"]

    async def test_a_taken_address_names_the_field(self, world: World) -> None:
        await world.register()
        answer = await world.register()
        assert answer.json()["error"] == "duplicate"
        assert answer.json()["errors"][0]["pointer"] == "#/email"

    async def test_a_person_without_a_tenant_has_none(self, world: World) -> None:
        client = await world.member()
        assert (await client.get("/api/v1/agents/who")).json()["tenant_id"] is None


class TestOwnAccount:
    async def test_it_is_shown_to_its_holder(self, world: World) -> None:
        await world.member("bob@example.com", ip="192.0.2.2")
        client = await world.member()
        answer = await client.get(f"{AUTH}/me")
        assert answer.status_code == 200
        assert answer.json()["email"] == EMAIL
        assert answer.headers["cache-control"] == "no-store"

    async def test_nobody_else_sees_one(self, world: World) -> None:
        answer = await (await world.client()).get(f"{AUTH}/me")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"

    async def test_the_fields_of_the_service_can_be_changed(self, world: World) -> None:
        client = await world.member()
        answer = await client.patch(f"{AUTH}/me", json={"full_name": "Ann"})
        assert answer.status_code == 200
        assert answer.json()["full_name"] == "Ann"
        assert (await world.user()).full_name == "Ann"

    async def test_what_is_left_out_stays(self, world: World) -> None:
        client = await world.member()
        await client.patch(f"{AUTH}/me", json={"full_name": "Ann"})
        assert (await client.patch(f"{AUTH}/me", json={})).json()["full_name"] == "Ann"

    @pytest.mark.parametrize("field", [*FORBIDDEN, "email", "password"])
    async def test_nothing_else_can_be_changed(self, world: World, field: str) -> None:
        client = await world.member()
        before = await world.user()
        answer = await client.patch(f"{AUTH}/me", json={field: ["admin"]})
        assert answer.status_code == 422
        after = await world.user()
        assert (after.roles, after.version, after.email) == (["user"], before.version, EMAIL)


def module(**changes: Any) -> Any:
    return accounts.module(**{"user": User, "roles": ROLES, **changes})


class RolesInRegister(accounts.Register):
    roles: tuple[str, ...] = ()


class AgeInRegister(accounts.Register):
    age: int


class EmailInUpdate(InputModel):
    email: str


class ActiveInUpdate(InputModel):
    is_active: bool


class Loose(accounts.Register):
    model_config = ConfigDict(extra="allow")


UNSAFE = {
    "a default role that does not exist": ({"default_role": "guest"}, "no role 'guest'"),
    "the administrator's role": ({"default_role": "admin"}, "would be an administrator"),
    "a default role that may do all": (
        {"roles": {"user": frozenset({"*"})}, "administrator_role": "boss"},
        "would be an administrator",
    ),
    "a default role that sees all accounts": (
        {"roles": {"user": frozenset({"users:all"})}},
        "would be an administrator",
    ),
    "a permission that grants nothing": (
        {"roles": {"user": frozenset({"agents.read"})}},
        "'agents.read', which grants nothing",
    ),
    "roles that clients choose": ({"register": RolesInRegister}, "lets clients write roles"),
    "a field that no column takes": ({"register": AgeInRegister}, "age, which User lacks"),
    "any field at all": ({"register": Loose}, "whatever they name"),
    "an address that a borrowed device changes": ({"update": EmailInUpdate}, "borrowed device"),
    "accounts that unlock themselves": ({"update": ActiveInUpdate}, "lets clients write is_active"),
}


class HiddenFromItself(Tenanted, Account):
    __abstract__ = True
    __tablename__ = "users"


class TestTenants:
    async def test_people_log_in_and_see_their_own_tenant_only(self, tmp_path: Path) -> None:
        trial = str(Path(__file__).with_name("tenants_trial.py"))
        run = await anyio.run_process([sys.executable, trial, str(tmp_path)], check=False)
        assert run.returncode == 0, run.stderr.decode()
        registered, ann, bob = 201, "ann@example.com", "bob@example.com"
        seen = json.loads(run.stdout.splitlines()[-1])
        assert seen == [registered, ann, [ann], 200, bob, 403, 200]

    async def test_accounts_that_hide_from_their_holder_stop_the_start(self) -> None:
        with pytest.raises(ConfigurationError, match="hides itself") as refusal:
            module(user=HiddenFromItself)
        assert "(Account, Tenanted)" in refusal.value.fix


class TestConfiguration:
    @pytest.mark.parametrize(("changes", "words"), UNSAFE.values(), ids=UNSAFE)
    async def test_what_is_unsafe_stops_the_start(
        self, changes: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=words) as refusal:
            module(**changes)
        assert refusal.value.fix

    async def test_the_table_must_be_the_one_that_owners_are_in(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(User, "__tablename__", "members")
        with pytest.raises(ConfigurationError, match=r"'members'.*users\.id"):
            module()

    async def test_a_field_that_an_account_needs_has_to_be_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def needs_more(self: User, *, email: str, password_hash: str, nickname: str) -> None: ...

        monkeypatch.setattr(User, "__init__", needs_more)
        with pytest.raises(ConfigurationError, match="does not ask for nickname"):
            module()

    async def test_without_the_checks_a_client_writes_what_it_likes(
        self, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The negative control of the checks and of ``extra="forbid"``."""
        monkeypatch.setattr(accounts, "_check_fields", lambda *_: None)
        async with open_world(database_url, tmp_path, register=Loose) as world:
            await world.register(epoch=7)
            assert (await world.user()).epoch == 7

    async def test_without_an_update_there_is_no_patch(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path, update=None) as world:
            client = await world.member()
            assert (await client.patch(f"{AUTH}/me", json={})).status_code == 405


class TestAdministrators:
    async def test_one_is_made_outside_of_a_request(self, world: World) -> None:
        made = await accounts.create_administrator(world.app, email=EMAIL, password=PASSWORD)
        user = await world.user()
        assert (user.id, user.roles, user.email) == (made, ["admin"], EMAIL)
        client = await world.logged_in()
        assert (await client.get("/api/v1/agents/who")).json()["permissions"] == ["*"]

    async def test_a_second_time_changes_nothing(self, world: World) -> None:
        await world.register()
        with pytest.raises(Duplicate):
            await accounts.create_administrator(
                world.app, email=EMAIL.upper(), password=SecretStr("another password")
            )
        assert (await world.user()).roles == ["user"]
        assert (await world.log_in()).status_code == 200

    @pytest.mark.parametrize(
        ("email", "password", "pointer"),
        [("ann", PASSWORD, "#/email"), (EMAIL, "password", "#/password")],
    )
    async def test_it_obeys_the_same_rules(
        self, world: World, email: str, password: str, pointer: str
    ) -> None:
        with pytest.raises(Invalid) as refusal:
            await accounts.create_administrator(world.app, email=email, password=password)
        assert refusal.value.errors[0].pointer == pointer
        assert await world.users() == []

    async def test_the_fields_of_the_service_can_be_given(self, world: World) -> None:
        await accounts.create_administrator(
            world.app, email=EMAIL, password=PASSWORD, full_name="Ann"
        )
        assert (await world.user()).full_name == "Ann"

    async def test_a_service_without_accounts_says_so(self, tmp_path: Path) -> None:
        settings = Settings(_env_file=None, secret_key=SecretStr(SECRET), migrations=tmp_path)
        with pytest.raises(ConfigurationError, match="has no accounts"):
            await accounts.create_administrator(
                create_app(settings), email=EMAIL, password=PASSWORD
            )

    async def test_a_service_without_the_role_says_so(
        self, database_url: str, tmp_path: Path
    ) -> None:
        async with open_world(database_url, tmp_path, administrator_role="boss") as world:
            with pytest.raises(ConfigurationError, match="no role 'boss'"):
                await accounts.create_administrator(world.app, email=EMAIL, password=PASSWORD)

    async def test_a_field_that_is_missing_is_named(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(accounts, "_required", lambda _: {"nickname"})
        with pytest.raises(ConfigurationError, match="needs nickname too"):
            await accounts.create_administrator(world.app, email=EMAIL, password=PASSWORD)
