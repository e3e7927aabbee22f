"""Addresses are stored in one way; accounts and sessions are their holders'."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sample_entities import User
from sqlalchemy import ColumnElement, select, update

from newel.clock import utc_now
from newel.db import Database
from newel.entity import Entity, Tenanted
from newel.errors import Forbidden
from newel.identity import Account, AccountKind, AuthSession, normal_email
from newel.principal import ANYONE, Principal

pytestmark = pytest.mark.anyio

SUPPORT = frozenset({"users:all"})
TENANT, OTHER_TENANT = uuid4(), uuid4()


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("JOSE\u0301@example.com", "jos\u00e9@example.com"),
        ("ann@xn--mnchen-3ya.de", "ann@m\u00fcnchen.de"),
        ("stra\u00dfe@example.com", "stra\u00dfe@example.com"),  # not strasse@: another mailbox
        ("ann+lists@example.com", "ann+lists@example.com"),
        ("No Address", "no address"),
        ("", ""),
    ],
)
async def test_an_address_is_stored_in_one_way(written: str, stored: str) -> None:
    assert normal_email(written) == stored
    assert normal_email(stored) == stored
    assert User(email=written).email == stored


@pytest.fixture
async def people(database: Database) -> tuple[User, User]:
    ann, bob = User(email="ann@example.com"), User(email="bob@example.com")
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all([ann, bob])
        await work.flush()
        work.session.add_all([session_of(ann), session_of(bob)])
    return ann, bob


def session_of(user: User) -> AuthSession:
    now = utc_now()
    return AuthSession(
        user_id=user.id,
        epoch=0,
        ip="192.0.2.1",
        user_agent="",
        last_used_at=now,
        rotated_at=now,
        expires_at=now + timedelta(days=1),
    )


async def seen_by(database: Database, caller: Principal) -> tuple[set[UUID], set[UUID]]:
    """Return the accounts, and the users of the sessions, that ``caller`` sees."""
    async with database.read(caller) as work:
        users = set(await work.session.scalars(select(User.id)))
        return users, set(await work.session.scalars(select(AuthSession.user_id)))


class TestScope:
    async def test_people_see_themselves(
        self, database: Database, people: tuple[User, User]
    ) -> None:
        ann, _ = people
        assert await seen_by(database, Principal(id=ann.id)) == ({ann.id}, {ann.id})

    async def test_strangers_see_nobody(
        self, database: Database, people: tuple[User, User]
    ) -> None:
        assert await seen_by(database, ANYONE) == (set(), set())

    async def test_support_sees_all_accounts_and_nobodys_sessions(
        self, database: Database, people: tuple[User, User]
    ) -> None:
        ann, bob = people
        support = Principal(id=uuid4(), permissions=SUPPORT)
        assert await seen_by(database, support) == ({ann.id, bob.id}, set())

    async def test_a_session_cannot_be_opened_for_another(
        self, database: Database, people: tuple[User, User]
    ) -> None:
        ann, bob = people
        async with database.write(Principal(id=ann.id)) as work:
            work.session.add(session_of(ann))
        with pytest.raises(Forbidden):
            async with database.write(Principal(id=ann.id)) as work:
                work.session.add(session_of(bob))

    async def test_an_update_reaches_only_what_is_ones_own(
        self, database: Database, people: tuple[User, User]
    ) -> None:
        ann, bob = people
        async with database.write(Principal(id=ann.id)) as work:
            await work.session.execute(update(User).values(full_name="x"))
            await work.session.execute(update(AuthSession).values(user_agent="x"))
        async with database.read(None) as work, work.as_system("look"):
            assert (await work.session.get_one(User, bob.id)).full_name is None
            agents = select(AuthSession.user_agent).where(AuthSession.user_id == bob.id)
            assert await work.session.scalar(agents) == ""

    @pytest.mark.parametrize(
        ("field", "value"), [("roles", ["admin"]), ("is_active", False), ("full_name", "Ann")]
    )
    async def test_nobody_grants_themselves_anything(
        self, database: Database, people: tuple[User, User], field: str, value: object
    ) -> None:
        async def change(caller: Principal) -> None:
            async with database.write(caller) as work:
                setattr(await work.session.get_one(User, people[0].id), field, value)

        if field == "full_name":
            await change(Principal(id=people[0].id))
        else:
            with pytest.raises(Forbidden):
                await change(Principal(id=people[0].id))
        await change(Principal(id=uuid4(), permissions=SUPPORT))


class Tenancy(Account, Tenanted):
    """The predicates of accounts with tenants; only ever asked, never stored."""

    __abstract__ = True


def sql(predicate: ColumnElement[bool] | None) -> str:
    return str(predicate)


class TestTenants:
    """Who logs in has no tenant yet, so the own account must be visible without one."""

    @pytest.fixture
    def member(self, monkeypatch: pytest.MonkeyPatch) -> type[User]:
        """The sample's user, as if it belonged to tenants: two tables ``users`` cannot be."""
        monkeypatch.setattr(
            Entity, "visible_to", classmethod(lambda _cls, _caller: User.epoch == 9)
        )
        monkeypatch.setattr(
            Entity, "changeable_by", classmethod(lambda _cls, _caller: User.epoch == 8)
        )
        monkeypatch.setattr(Entity, "is_changeable_by", lambda *_: False)
        return User

    async def test_the_own_account_is_visible_without_one(self, member: type[User]) -> None:
        ann = Principal(id=uuid4())
        assert "epoch" not in sql(member.visible_to(ann))
        assert "epoch" not in sql(member.changeable_by(ann))

    async def test_support_sees_accounts_of_its_tenant_only(self, member: type[User]) -> None:
        support = Principal(id=uuid4(), permissions=SUPPORT)
        assert "OR users.epoch = " in sql(member.visible_to(support))
        assert "OR users.epoch = " in sql(member.changeable_by(support))
        assert not member(email="ann@example.com").is_changeable_by(support)

    async def test_a_new_account_founds_a_tenant(self) -> None:
        made: dict[str, object] = {}

        class Member(Tenancy):
            __abstract__ = True

            def __init__(self, **fields: object) -> None:
                made.update(fields)

        kind = AccountKind(user=Member, roles={}, default_role="user", administrator_role="admin")
        kind.new(email="ann@example.com", password_hash="!", role="user")
        assert isinstance(made["tenant_id"], UUID)
