"""The directory of accounts: registering, proving a password, and changing it.

Whether an address has an account shows neither in the words, nor in the work, nor in the limits of
a log-in. Passwords are hashed while no transaction is open.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Form
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import Field, SecretStr
from sqlalchemy import Row, Select, bindparam, exists, select, update

from newel.db import Database, Work
from newel.errors import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    StaleVersion,
    TooManyRequests,
    Unauthorized,
)
from newel.events import Event
from newel.identity import EMAIL_CHARACTERS, Account, AccountKind, AuthSession, Email, normal_email
from newel.limits import Limiter, Rate
from newel.passwords import NewPassword, Passwords, check_strength
from newel.principal import ANYONE, Principal
from newel.repository import Repository
from newel.schemas import EntityRead, InputModel, Text
from newel.sessions import Origin, Sessions, TokenPair

__all__ = [
    "WRONG",
    "AccountRead",
    "AccountRepository",
    "Directory",
    "LoginForm",
    "PasswordChange",
    "Register",
    "Throttle",
    "UserRegistered",
    "refuse_lockout",
]

A = TypeVar("A", bound=Account)

WRONG: Final = "The e-mail address or the password is wrong."
"""What a log-in says that failed, whyever."""

_PASSWORD_CHARACTERS: Final = 1024
"""An account from elsewhere may have a longer password than may be set here."""

_ACCOUNT_RATES: Final = (Rate(5, 5), Rate(7, 28), Rate(9, 144), Rate(11, 660))
"""Attempts at one account: five at once, then one each 1, 4, 16, and at most 60 seconds.

They are asked in this order, because an attempt that the quick one refuses must not use up the
slow ones.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRegistered(Event):
    """Somebody has an account; ``id`` is the account's."""


class Register(InputModel):
    """What registering takes. A service that wants more makes a subclass."""

    email: Email
    password: NewPassword


class AccountRead(EntityRead):
    """An account as its holder sees it. A service that shows more makes a subclass."""

    email: str
    email_verified_at: datetime | None
    roles: list[str]
    is_active: bool


class PasswordChange(InputModel):
    """The present password, so that a borrowed device is not enough, and the new one."""

    current_password: Annotated[SecretStr, Field(min_length=1, max_length=_PASSWORD_CHARACTERS)]
    new_password: NewPassword


class LoginForm(OAuth2PasswordRequestForm):
    """OAuth2's password form with bounds; ``username`` is the e-mail address."""

    def __init__(
        self,
        *,
        grant_type: Annotated[Literal["password"] | None, Form()] = None,
        username: Annotated[Text, Form(max_length=EMAIL_CHARACTERS)],
        password: Annotated[
            Text, Form(max_length=_PASSWORD_CHARACTERS, json_schema_extra={"format": "password"})
        ],
        scope: Annotated[str, Form(max_length=1024)] = "",
        client_id: Annotated[str | None, Form(max_length=255)] = None,
        client_secret: Annotated[
            str | None, Form(max_length=255, json_schema_extra={"format": "password"})
        ] = None,
    ) -> None:
        super().__init__(
            grant_type=grant_type,
            username=username,
            password=password,
            scope=scope,
            client_id=client_id,
            client_secret=client_secret,
        )


class Throttle:
    """Slows guessing down, and locks nobody out: the longest wait is a minute.

    ``address_rate`` holds for everything from one network address.
    """

    def __init__(self, limiter: Limiter, *, address_rate: Rate) -> None:
        self._limiter = limiter
        self._address_rate = address_rate

    async def pass_address(self, ip: str) -> None:
        """Count an attempt from ``ip``; raises ``TooManyRequests``."""
        await self._pass(f"login:ip:{ip}", self._address_rate)

    async def pass_account(self, name: str) -> None:
        """Count an attempt at the account ``name``, existing or not; raises ``TooManyRequests``."""
        for rate in _ACCOUNT_RATES:
            await self._pass(_account_key(name), rate)

    async def forget_account(self, name: str) -> None:
        """Start afresh with ``name``: the password was right."""
        await self._limiter.reset(_account_key(name))

    async def _pass(self, key: str, rate: Rate) -> None:
        decision = await self._limiter.hit(key, rate)
        if not decision.allowed:
            raise TooManyRequests(
                retry_after_seconds=decision.retry_after_seconds,
                headers=decision.headers(policy="login"),
            )


def _account_key(name: str) -> str:
    # A digest, because addresses do not belong into whatever the limiter keeps its counters in.
    return f"login:account:{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:32]}"


class AccountRepository(Repository[Account]):
    """The accounts of a service, whatever their entity is called."""

    def __init__(self, work: Work, kind: AccountKind) -> None:
        super().__init__(work)
        self.entity: type[Account] = kind.user


async def refuse_lockout(users: Repository[A], caller: Principal, account: A) -> None:
    """Let administrators take rights from others only, and only while they have theirs.

    So one is left: two who deactivate each other in the same instant come one after the other,
    because both rows are locked until the unit of work ends. Raises ``Conflict`` for the caller's
    own account, ``Forbidden`` when the caller was deactivated, deleted or given other roles since
    the request was let in.
    """
    if account.id == caller.id:
        raise Conflict("Another administrator has to do this to your account.")
    kind = users.entity
    rows = await users.session.execute(
        select(kind.id, kind.roles, kind.is_active)
        .where(kind.id.in_([caller.user_id, account.id]))
        .order_by(kind.id)  # in one order, or two could wait for each other
        .with_for_update(key_share=True)
    )
    held = next((row.roles for row in rows if row.id == caller.id and row.is_active), ())
    if not caller.roles.issubset(held):
        raise Forbidden("Your own rights were changed meanwhile.")


class Directory:
    """The rules of accounts, for one unit of work."""

    def __init__(
        self,
        kind: AccountKind,
        *,
        work: Work,
        database: Database,
        sessions: Sessions,
        passwords: Passwords,
        throttle: Throttle,
        composition: bool,
    ) -> None:
        self._kind = kind
        self._work = work
        self._database = database
        self._sessions = sessions
        self._passwords = passwords
        self._throttle = throttle
        self._composition = composition

    async def register(self, data: Register) -> Account:
        """Add an account with the default role; raises ``Duplicate`` or ``Invalid``."""
        fields = data.model_dump(exclude={"email", "password"})
        return await self._add(
            data.email, data.password, role=self._kind.default_role, reason="register", **fields
        )

    async def add_administrator(
        self, *, email: str, password: str | SecretStr, **fields: Any
    ) -> Account:
        """Add an account with the administrator's role; raises ``Duplicate`` or ``Invalid``."""
        role = self._kind.administrator_role
        return await self._add(email, password, role=role, reason="add an administrator", **fields)

    async def _add(
        self, email: str, password: str | SecretStr, *, role: str, reason: str, **fields: Any
    ) -> Account:
        check_strength(password, composition=self._composition, personal=[email])
        password_hash = await self._passwords.hash(password)
        account = self._kind.new(email=email, password_hash=password_hash, role=role, **fields)
        async with self._work.as_system(reason):
            self._work.session.add(account)
            self._work.publish(UserRegistered(id=account.id))
        return account

    async def log_in(self, form: LoginForm, *, origin: Origin) -> TokenPair:
        """Open a session; raises ``Unauthorized`` in the same words for whatever is wrong.

        An address from which the account was used before is held to its own rate only, so that
        strangers who guess cannot keep the holder waiting.
        """
        await self._throttle.pass_address(origin.ip)
        email = normal_email(form.username)
        found = await self._look_up(email, origin.ip)
        if found is None or not found.is_known_address:
            await self._throttle.pass_account(email)
        hashed = None if found is None else found.password_hash
        verified = await self._passwords.verify(form.password, hashed)
        if found is None or not found.is_active or not verified.ok:
            raise Unauthorized(WRONG)
        await self._throttle.forget_account(email)
        self._work.caller = Principal(id=found.id)
        if verified.rehash is not None:
            await self._upgrade(found, verified.rehash)
        return await self._sessions.open(self._work, found.id, epoch=found.epoch, origin=origin)

    async def change_password(self, caller: Principal, data: PasswordChange) -> str:
        """Set a new password and end the caller's other sessions; return a new access token.

        Everything issued before is worthless then, but for the refresh token of this session.
        """
        before = await self._prove(caller, data.current_password)
        check_strength(
            data.new_password,
            composition=self._composition,
            personal=[before.email],
            pointer="#/new_password",
        )
        password_hash = await self._passwords.hash(data.new_password)
        account = await self._repository().get(caller.user_id)
        if account.password_hash != before.password_hash:
            raise StaleVersion  # somebody has changed it since it was proved
        account.password_hash = password_hash
        epoch = await self._next_epoch(account)
        await self._sessions.revoke_all(self._work, account.id, but=caller.session_id)
        return await self._sessions.renew(self._work, caller, epoch=epoch)

    async def log_out_everywhere(self, caller: Principal) -> None:
        """End all sessions of the caller, this one too."""
        account = await self._repository().get(caller.user_id)
        await self._next_epoch(account)
        await self._sessions.revoke_all(self._work, account.id)

    async def _look_up(self, email: str, ip: str) -> Row[*tuple[Any, ...]] | None:
        async with self._database.read(ANYONE) as work, work.as_system("look up who logs in"):
            rows = await work.session.execute(
                _by_email(self._kind.user), {"email": email, "ip": ip}
            )
            return rows.one_or_none()

    async def _upgrade(self, found: Row[*tuple[Any, ...]], password_hash: str) -> None:
        """Store a better hash of the same password, unless somebody has changed it meanwhile."""
        user = self._kind.user
        await self._work.session.execute(
            update(user)
            .where(user.id == found.id, user.password_hash == found.password_hash)
            .values(password_hash=password_hash)
            .execution_options(synchronize_session=False)
        )

    async def _prove(self, caller: Principal, password: SecretStr) -> Row[*tuple[Any, ...]]:
        """Return the caller's account after checking its password; raises ``Invalid``."""
        user = self._kind.user
        await self._throttle.pass_account(f"password of {caller.user_id}")
        async with self._database.read(caller) as work:
            query = select(user.email, user.password_hash).where(user.id == caller.user_id)
            found = (await work.session.execute(query)).one()
        verified = await self._passwords.verify(password, found.password_hash)
        if not verified.ok:
            message = "This is not your present password."
            field = FieldError(pointer="#/current_password", code="password_wrong", message=message)
            raise Invalid(message, errors=[field])
        await self._throttle.forget_account(f"password of {caller.user_id}")
        return found

    async def _next_epoch(self, account: Account) -> int:
        account.epoch += 1
        await self._work.flush()
        return account.epoch

    def _repository(self) -> AccountRepository:
        return AccountRepository(self._work, self._kind)


def _by_email(user: type[Account]) -> Select[*tuple[Any, ...]]:
    """Return the query of an account, and of whether it was used from an address before."""
    used_before = exists().where(AuthSession.user_id == user.id, AuthSession.ip == bindparam("ip"))
    return select(
        user.id,
        user.password_hash,
        user.epoch,
        user.is_active,
        used_before.label("is_known_address"),
    ).where(user.email == bindparam("email"))
