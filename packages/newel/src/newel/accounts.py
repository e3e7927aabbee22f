"""Accounts: registering, log-in, refresh, sessions and passwords, as a ready-made module.

    class User(Account):
        __tablename__ = "users"
        full_name: Mapped[str | None] = mapped_column(String(100), default=None)

    ROLES = {"user": frozenset({"agents:read", "agents:write"}), "admin": frozenset({"*"})}
    app = create_app(Settings(), accounts.module(User, roles=ROLES))

The routes lie under ``/auth``. With ``AUTH_COOKIES`` both tokens travel in cookies that no script
reads; else they are in the answer, for clients that are no browsers.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from fastapi import FastAPI
from pydantic import SecretStr, TypeAdapter, ValidationError

from newel.account_pages import login_router
from newel.account_routes import (
    REFRESH_COOKIE,
    SessionRead,
    TokenRead,
    account_router,
    directory_of,
    key_router,
    sessions_of,
)
from newel.db import Database
from newel.directory import AccountRead, Register, UserRegistered
from newel.entity import Tenanted
from newel.errors import ConfigurationError, FieldError, Invalid
from newel.identity import Account, AccountKind, AuthSession, Email
from newel.mail import send_mail
from newel.modules import Module
from newel.principal import ANYONE, grants
from newel.recovery import AccountMails, mail_reset, mail_verification, recovery_router, welcome
from newel.schemas import InputModel
from newel.sessions import SessionMemory, Sessions
from newel.tokens import RefreshTokens

__all__ = [
    "REFRESH_COOKIE",
    "Account",
    "AccountMails",
    "AccountRead",
    "AuthSession",
    "Register",
    "SessionRead",
    "TokenRead",
    "UserRegistered",
    "create_administrator",
    "module",
]

_SERVER_OWNED: Final = frozenset(
    {
        "created_at",
        "deleted_at",
        "email_verified_at",
        "epoch",
        "id",
        "is_active",
        "owner_id",
        "password_hash",
        "roles",
        "tenant_id",
        "updated_at",
        "version",
    }
)
"""What nobody may write about themselves."""

_GIVEN: Final = frozenset({"email", "password_hash", "roles", "tenant_id"})
"""What the directory fills in when it makes an account."""

_PERMISSION: Final = re.compile(r"\*|[^:\s]+:[^:\s]+")


def module(
    user: type[Account],
    *,
    roles: Mapping[str, frozenset[str]],
    default_role: str = "user",
    administrator_role: str = "admin",
    register: type[Register] = Register,
    read: type[AccountRead] = AccountRead,
    update: type[InputModel] | None = None,
    mails: AccountMails | None = None,
) -> Module:
    """Return the module with the routes of accounts, for ``create_app``.

    ``roles`` maps each role to its permissions (``resource:verb``, ``resource:*`` or ``*``). The
    fields that ``register`` adds to ``Register`` go into the account; ``update`` is the body of
    ``PATCH /auth/me``, which there is only with it. ``mails`` are the words that it mails. Raises
    ``ConfigurationError`` for what would let anybody become more than they should.
    """
    kind = AccountKind(
        user=user, roles=roles, default_role=default_role, administrator_role=administrator_role
    )
    _check_entity(user)
    _check_roles(kind)
    _check_register(user, register)
    if update is not None:
        _check_update(user, update)
    return Module(
        "auth",
        description="Accounts, log-in and sessions",
        routers=[account_router(register, read, update), recovery_router()],
        root_routers=[key_router, login_router],
        jobs=[send_mail, mail_reset, mail_verification],
        handlers=[welcome],
        authenticator=partial(_new_sessions, kind, mails or AccountMails()),
    )


async def create_administrator(
    app: FastAPI, *, email: str, password: str | SecretStr, **fields: Any
) -> UUID:
    """Add an account with the administrator's role; return its id.

    Works outside of a request; ``fields`` are the entity's own. Raises ``Duplicate`` when there is
    an account with this address, whatever its role, and ``Invalid``; nothing is changed then.
    """
    kind = sessions_of(app).kind
    if kind.administrator_role not in kind.roles:
        raise ConfigurationError(
            f"there is no role {kind.administrator_role!r} to give to an administrator",
            fix=f'add "{kind.administrator_role}": frozenset({{"*"}}) to the roles',
        )
    if missing := _required(kind.user) - fields.keys():
        raise ConfigurationError(
            f"an account needs {', '.join(sorted(missing))} too",
            fix=f"give the columns of {kind.user.__name__} a default",
        )
    try:
        address = TypeAdapter[str](Email).validate_python(email)
    except ValidationError:
        message = "This is not an e-mail address."
        field = FieldError(pointer="#/email", code="email", message=message)
        raise Invalid(message, errors=[field]) from None
    database: Database = app.state.database
    async with database.write(ANYONE) as work:
        directory = directory_of(app, work)
        account = await directory.add_administrator(email=address, password=password, **fields)
    return account.id


def _new_sessions(kind: AccountKind, mails: AccountMails, app: FastAPI) -> Sessions:
    state = app.state
    state.account_mails = mails
    state.has_login_page = True
    return Sessions(
        kind,
        database=state.database,
        access_tokens=state.access_tokens,
        refresh_tokens=RefreshTokens(state.keys),
        clock=state.clock,
        lifetime=timedelta(days=state.settings.refresh_token_expire_days),
        idle=timedelta(days=state.settings.refresh_token_idle_days),
        memory=SessionMemory(seconds=state.settings.session_memory_seconds),
    )


# ----------------------------------------------------------------------------------------- checks


def _check_entity(user: type[Account]) -> None:
    if user.__tablename__ != "users":
        raise ConfigurationError(
            f"the table of {user.__name__} is {user.__tablename__!r}, but rows that belong to "
            "somebody refer to users.id",
            fix=f'write __tablename__ = "users" in {user.__name__}',
        )
    order = user.__mro__
    if issubclass(user, Tenanted) and order.index(Tenanted) < order.index(Account):
        raise ConfigurationError(
            f"{user.__name__} hides itself from its holder, whose tenant nobody knows before",
            fix=f"name Account first: class {user.__name__}(Account, Tenanted)",
        )


def _check_roles(kind: AccountKind) -> None:
    for role, permissions in kind.roles.items():
        for permission in permissions:
            if not _PERMISSION.fullmatch(permission):
                raise ConfigurationError(
                    f"the role {role!r} has {permission!r}, which grants nothing",
                    fix="write resource:verb, resource:* or *",
                )
    if kind.default_role not in kind.roles:
        raise ConfigurationError(
            f"there is no role {kind.default_role!r} for those who register",
            fix="add it to the roles, or name another one as default_role",
        )
    given = kind.roles[kind.default_role]
    if kind.default_role == kind.administrator_role or grants(given, "users:all"):
        raise ConfigurationError(
            f"everybody who registers would be an administrator: {kind.default_role!r}",
            fix="name a role with fewer permissions as default_role",
        )


def _check_register(user: type[Account], register: type[Register]) -> None:
    fields = register.model_fields.keys() - {"email", "password"}
    _check_fields(user, register, fields)
    if missing := _required(user) - fields:
        raise ConfigurationError(
            f"{register.__name__} does not ask for {', '.join(sorted(missing))}, "
            f"which {user.__name__} needs",
            fix=f"add it to {register.__name__}, or give the column a default",
        )


def _check_update(user: type[Account], update: type[InputModel]) -> None:
    # The address is how a password is reset, so changing it takes more than an access token.
    if "email" in update.model_fields:
        raise ConfigurationError(
            f"{update.__name__} lets a borrowed device change the e-mail address",
            fix=f"take email out of {update.__name__}",
        )
    _check_fields(user, update, update.model_fields.keys())


def _check_fields(user: type[Account], schema: type[InputModel], fields: AbstractSet[str]) -> None:
    if schema.model_config.get("extra") != "forbid":
        raise ConfigurationError(
            f"{schema.__name__} lets clients write whatever they name",
            fix=f'leave extra="forbid" in the model_config of {schema.__name__}',
        )
    if owned := fields & _SERVER_OWNED:
        raise ConfigurationError(
            f"{schema.__name__} lets clients write {', '.join(sorted(owned))}",
            fix=f"take it out of {schema.__name__}",
        )
    if unknown := fields - inspect.signature(user).parameters.keys():
        raise ConfigurationError(
            f"{schema.__name__} asks for {', '.join(sorted(unknown))}, which {user.__name__} lacks",
            fix=f"add a column to {user.__name__}, or take it out of {schema.__name__}",
        )


def _required(user: type[Account]) -> AbstractSet[str]:
    """Return what an account cannot be made without, but for what the directory fills in."""
    needed = {
        name
        for name, parameter in inspect.signature(user).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return needed - _GIVEN
