"""The two tables behind log-in: accounts, and the sessions that were opened with them.

    class User(Account):
        __tablename__ = "users"
        full_name: Mapped[str | None] = mapped_column(String(100), default=None)

Nobody sees another's account without the permission ``users:all``, and nobody another's sessions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import JSON, ColumnElement, ForeignKey, String, false, inspect, or_
from sqlalchemy.orm import Mapped, mapped_column, validates

from newel.entity import Entity, Tenanted
from newel.ids import uuid7
from newel.principal import Principal
from newel.schemas import Text

__all__ = ["EMAIL_CHARACTERS", "Account", "AccountKind", "AuthSession", "Email", "normal_email"]

EMAIL_CHARACTERS: Final = 320
"""64 before the @, 255 behind it (RFC 5321)."""

SEE_ALL: Final = "users:all"
"""The permission that shows every account."""


def normal_email(text: str) -> str:
    """Return the one way an address is stored: Unicode in NFC, in lower case, the domain decoded.

    Two people never differ in case only, although RFC 5321 would allow it. Not ``casefold``: that
    makes one address of two ("ß" and "ss" are different letters in a mailbox). Of a text that is
    no address, only the case and the form change.
    """
    with suppress(EmailNotValidError):  # of no address: it is nobody's, so it finds nobody
        text = validate_email(text, check_deliverability=False).normalized
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def _valid_email(text: str) -> str:
    try:
        validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        raise PydanticCustomError("email", "This is not an e-mail address.") from None
    return normal_email(text)


Email = Annotated[
    Text,
    Field(max_length=EMAIL_CHARACTERS, json_schema_extra={"format": "email"}),
    AfterValidator(_valid_email),
]
"""An e-mail address in a schema, as ``normal_email`` writes it."""


class Account(Entity):
    """What can log in; a service's user is a subclass with the table ``users``.

    ``roles`` are names of sets of permissions. ``epoch`` counts the times that everything issued
    so far was made worthless (a new password, "log out everywhere"). ``email_verified_at`` is when
    the holder has proved to read the mail of their address; another address is not verified.
    """

    __abstract__ = True

    __guarding_columns__: ClassVar[frozenset[str]] = frozenset(
        {"roles", "is_active", "tenant_id", "email_verified_at"}
    )

    email: Mapped[str] = mapped_column(String(EMAIL_CHARACTERS), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255), repr=False)
    roles: Mapped[list[str]] = mapped_column(JSON, default_factory=list[str])
    is_active: Mapped[bool] = mapped_column(default=True)
    epoch: Mapped[int] = mapped_column(default=0)
    email_verified_at: Mapped[datetime | None] = mapped_column(default=None)

    @validates("email")
    def _normalise_email(self, _: str, email: str) -> str:
        normal = normal_email(email)
        if self.__dict__.get("email", normal) != normal:
            self.email_verified_at = None
        return normal

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:
        """Their own, of whatever tenant; with ``users:all`` everyone's (of their tenant)."""
        return cls._own_or(caller, super().visible_to(caller))

    @classmethod
    def changeable_by(cls, caller: Principal) -> ColumnElement[bool] | None:
        return cls._own_or(caller, super().changeable_by(caller))

    def is_changeable_by(self, caller: Principal) -> bool:
        """Their own, but for what others grant them; with ``users:all`` everyone's."""
        if caller.can(SEE_ALL) and super().is_changeable_by(caller):
            return True
        granted = inspect(self).attrs
        return caller.id == self.id and not any(
            granted[name].history.has_changes() for name in ("roles", "is_active")
        )

    @classmethod
    def _own_or(
        cls, caller: Principal, others: ColumnElement[bool] | None
    ) -> ColumnElement[bool] | None:
        own = false() if caller.id is None else cls.id == caller.id
        if not caller.can(SEE_ALL):
            return own
        return None if others is None else or_(own, others)


class AuthSession(Entity):
    """A log-in on one device, and the family of refresh tokens that came out of it.

    ``refresh_counter`` is the turn that the present refresh token carries; no token is stored.
    ``epoch`` is the account's when the session was opened: another one makes the session dead, also
    one that is being opened with the old password while the password is changed.
    """

    __tablename__ = "auth_sessions"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    epoch: Mapped[int]
    ip: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(255))
    last_used_at: Mapped[datetime]
    rotated_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    refresh_counter: Mapped[int] = mapped_column(default=0)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool]:
        return false() if caller.id is None else cls.user_id == caller.id

    @classmethod
    def changeable_by(cls, caller: Principal) -> ColumnElement[bool]:
        return cls.visible_to(caller)

    def is_changeable_by(self, caller: Principal) -> bool:
        return caller.id is not None and self.user_id == caller.id


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKind:
    """What a service says about its accounts: their entity, and what each role may do.

    Who registers gets ``default_role``; ``administrator_role`` is only given from inside.
    """

    user: type[Account]
    roles: Mapping[str, frozenset[str]]
    default_role: str
    administrator_role: str

    def new(self, *, email: str, password_hash: str, role: str, **fields: Any) -> Account:
        """Return a new account; where accounts belong to tenants, the first of a new one."""
        if issubclass(self.user, Tenanted):
            fields["tenant_id"] = uuid7()
        return self.user(email=email, password_hash=password_hash, roles=[role], **fields)
