"""Proof by mail: e-mail verification and password reset, as part of the accounts.

A token is 256 random bits, lives 30 minutes and works once. It is made by the job that mails it, so
it is in no row, log or queue: the database has its SHA-256. It is bound to the address and, for a
reset, to the password that it replaces. Whether an address has an account shows nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import Column, ForeignKey, LargeBinary, String, Table, Uuid, delete, insert, select

from newel.account_routes import forbid_storing, sessions_of
from newel.auth import limit, public, requires
from newel.db import CurrentWork, Database, Work
from newel.directory import Throttle, UserRegistered
from newel.entity import Entity, UTCDateTime
from newel.errors import FieldError, Invalid
from newel.handlers import on
from newel.identity import Account, Email
from newel.jobs import JobRun, job
from newel.limits import Limiter, Rate
from newel.mail import MailTemplate, deliver
from newel.passwords import NewPassword, check_strength
from newel.principal import Principal
from newel.schemas import InputModel

__all__ = [
    "AccountMails",
    "Recovery",
    "mail_reset",
    "mail_verification",
    "recovery_router",
    "welcome",
]

TOKEN_LIFETIME: Final = timedelta(minutes=30)

_MAILS: Final = Rate(3, 1800)
"""Mails to one address: above it nothing is sent, and the answer is the same."""

_BAD_TOKEN: Final = "The link is not valid, or not any more. Ask for a new one."  # noqa: S105 - no secret

Purpose = Literal["reset", "verify"]

_tokens = Table(
    "account_tokens",
    Entity.metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("purpose", String(8), nullable=False),
    Column(
        "account_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("binding", LargeBinary(32), nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    info={"kernel": True},
)


_WELCOME: Final = MailTemplate(
    subject="Welcome to $service",
    text="Welcome to $service.\n\nConfirm that this is your address:\n$link\n\n"
    "If you did not register, ignore this mail.",
)
_VERIFY: Final = MailTemplate(
    subject="Confirm your address for $service",
    text="Confirm that this is your address:\n$link\n\n"
    "The link works once, for 30 minutes. If you did not ask for it, ignore this mail.",
)
_RESET: Final = MailTemplate(
    subject="Set a new password for $service",
    text="Somebody, probably you, wants a new password for $email.\n\nSet one here:\n$link\n\n"
    "The link works once, for 30 minutes. If it was not you, ignore this mail: "
    "your password stays as it is.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMails:
    """The mails of accounts; places: ``$service``, ``$email`` and ``$link``.

    ``verify_path`` and ``reset_path`` are pages of your front end below ``SITE_URL``. The token is
    behind the ``#`` of the link, where no server log and no Referer header has it.
    """

    welcome: MailTemplate = _WELCOME
    verify: MailTemplate = _VERIFY
    reset: MailTemplate = _RESET
    verify_path: str = "/verify-email"
    reset_path: str = "/reset-password"


# --------------------------------------------------------------------------------------------- jobs


@on(UserRegistered, name="account_welcome", as_system="welcome a new account")
async def welcome(run: JobRun, event: UserRegistered) -> None:
    """Welcome a new account, with the link that verifies its address."""
    account = await _account(run, sessions_of(run.app).kind.user.id == event.id)
    if account is not None:
        await _mail_link(run, account, "verify", _mails(run.app).welcome)


@job(name="account_verification", as_system="mail a verification link")
async def mail_verification(run: JobRun, account_id: UUID) -> None:
    """Mail the link that verifies an address."""
    account = await _account(run, sessions_of(run.app).kind.user.id == account_id)
    if account is not None:
        await _mail_link(run, account, "verify", _mails(run.app).verify)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _key_of(email: str) -> str:
    """Return what a job is known by: an address may be longer."""
    return _digest(email).hex()


@job(name="account_reset", as_system="mail a link to reset a password", unique=_key_of)
async def mail_reset(run: JobRun, email: str) -> None:
    """Mail the link that sets a new password, if there is an account with this address."""
    account = await _account(run, sessions_of(run.app).kind.user.email == email)
    if account is not None:
        await _mail_link(run, account, "reset", _mails(run.app).reset)


async def _account(run: JobRun, condition: Any) -> Account | None:
    user = sessions_of(run.app).kind.user
    database: Database = run.app.state.database
    async with database.read(None) as work, work.as_system("look up who gets a mail"):
        return await work.session.scalar(select(user).where(condition, user.is_active))


async def _mail_link(
    run: JobRun, account: Account, purpose: Purpose, template: MailTemplate
) -> None:
    """Make a token, commit it, and mail it; a token of an earlier attempt is replaced."""
    mails, state = _mails(run.app), run.app.state
    token = secrets.token_urlsafe(32)
    row = {
        "digest": _digest(token),
        "purpose": purpose,
        "account_id": account.id,
        "binding": _binding(account, purpose),
        "expires_at": state.clock.now() + TOKEN_LIFETIME,
    }
    earlier = (_tokens.c.account_id == account.id) & (_tokens.c.purpose == purpose)
    database: Database = state.database
    async with database.write(None) as work, work.as_system("keep the digest of a token"):
        await work.session.execute(delete(_tokens).where(earlier))
        await work.session.execute(insert(_tokens).values(row))
    path = mails.verify_path if purpose == "verify" else mails.reset_path
    link = f"{state.site_url}{path}#token={token}"
    service = state.settings.service_name
    await deliver(
        run, template.fill(to=account.email, service=service, email=account.email, link=link)
    )


def _mails(app: FastAPI) -> AccountMails:
    mails: AccountMails = app.state.account_mails
    return mails


def _binding(account: Account, purpose: Purpose) -> bytes:
    """Return what has to be as it was when the token was made."""
    bound = [account.email, *([account.password_hash] if purpose == "reset" else [])]
    return hashlib.sha256("\n".join(bound).encode()).digest()


# -------------------------------------------------------------------------------------------- rules


class ForgottenPassword(InputModel):
    """The address of somebody who cannot log in."""

    email: Email


Token = Annotated[SecretStr, Field(min_length=1, max_length=128)]


class PasswordReset(InputModel):
    """The token out of the mail, and the new password."""

    token: Token
    new_password: NewPassword


class EmailVerification(InputModel):
    """The token out of the mail."""

    token: Token


class MailSent(BaseModel):
    """What is said whether or not there was anybody to send a mail to."""

    detail: str = "If there is an account with this address, a mail is on its way."


class Recovery:
    """The rules of tokens that were mailed, for one unit of work."""

    def __init__(self, request: Request, work: CurrentWork) -> None:
        self._app: FastAPI = request.app
        self._work: Work = work
        self._sessions = sessions_of(self._app)

    async def ask_for_reset(self, email: str) -> None:
        """Have a link mailed to ``email``: the same work whether it has an account or not."""
        if await self._may_mail(f"reset {email}"):
            self._work.enqueue(mail_reset, email)

    async def ask_for_verification(self, caller: Principal) -> None:
        """Have a new link mailed to the caller's address."""
        if await self._may_mail(f"verify {caller.user_id}"):
            self._work.enqueue(mail_verification, caller.user_id)

    async def reset(self, data: PasswordReset) -> None:
        """Set a new password and end every session; raises ``Invalid``."""
        state = self._app.state
        found = await self._peek(data.token)
        check_strength(
            data.new_password,
            composition=state.settings.password_composition,
            personal=[found],
            pointer="#/new_password",
        )
        password_hash = await state.passwords.hash(data.new_password)  # while nothing is locked
        async with self._work.as_system("reset a password"):
            account = await self._redeem(data.token, "reset")
            account.password_hash = password_hash
            account.epoch += 1
            account.email_verified_at = account.email_verified_at or state.clock.now()
            await self._work.flush()
            await self._sessions.revoke_all(self._work, account.id)
        throttle = Throttle(state.limiter, address_rate=state.login_rate)
        await throttle.forget_account(account.email)

    async def verify(self, data: EmailVerification) -> None:
        """Note that the holder reads the mail of their address; raises ``Invalid``."""
        async with self._work.as_system("verify an address"):
            account = await self._redeem(data.token, "verify")
            account.email_verified_at = self._app.state.clock.now()

    async def _may_mail(self, what: str) -> bool:
        limiter: Limiter = self._app.state.limiter
        return (await limiter.hit(f"mail:{_digest(what).hex()[:32]}", _MAILS)).allowed

    async def _peek(self, token: SecretStr) -> str:
        """Return the address behind a token for a reset, before anything expensive is done."""
        user = self._sessions.kind.user
        query = select(user.email).join(_tokens, _tokens.c.account_id == user.id)
        digest = _digest(token.get_secret_value())
        database: Database = self._app.state.database
        async with database.read(None) as work, work.as_system("look at a token"):
            email = await work.session.scalar(query.where(_tokens.c.digest == digest))
        if email is None:
            raise _bad_token()
        return email

    async def _redeem(self, token: SecretStr, purpose: Purpose) -> Account:
        """Use a token up and return its account: of two at once, one finds nothing to delete."""
        used = (
            delete(_tokens)
            .where(
                _tokens.c.digest == _digest(token.get_secret_value()),
                _tokens.c.purpose == purpose,
                _tokens.c.expires_at > self._app.state.clock.now(),
            )
            .returning(_tokens.c.account_id, _tokens.c.binding)
        )
        row = (await self._work.session.execute(used)).one_or_none()
        if row is None:
            raise _bad_token()
        user = self._sessions.kind.user
        account = await self._work.session.get_one(user, row.account_id)
        same = hmac.compare_digest(_binding(account, purpose), row.binding)
        if not same or not account.is_active:
            raise _bad_token()
        return account


def _bad_token() -> Invalid:
    field = FieldError(pointer="#/token", code="token_invalid", message=_BAD_TOKEN)
    return Invalid(_BAD_TOKEN, errors=[field])


# ------------------------------------------------------------------------------------------- routes

RecoveryDep = Annotated[Recovery, Depends()]


def recovery_router() -> APIRouter:
    """Return the routes of password reset and e-mail verification, below ``/auth``."""
    router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(forbid_storing)])
    anyone = [public(), limit("5/minute", by="ip")]

    @router.post(
        "/password/forgot",
        status_code=202,
        dependencies=anyone,
        response_description="Accepted, whether there is such an account or not",
    )
    async def forget_password(data: ForgottenPassword, recovery: RecoveryDep) -> MailSent:
        """Mail a link that sets a new password. The answer is the same for every address."""
        await recovery.ask_for_reset(data.email)
        return MailSent()

    @router.post(
        "/password/reset", status_code=204, dependencies=anyone, response_description="Changed"
    )
    async def reset_password(data: PasswordReset, recovery: RecoveryDep) -> None:
        """Set a new password with the token out of the mail. Every device is logged out."""
        await recovery.reset(data)

    @router.post(
        "/email/verify", status_code=204, dependencies=anyone, response_description="Verified"
    )
    async def verify_email(data: EmailVerification, recovery: RecoveryDep) -> None:
        """Confirm the address with the token out of the mail."""
        await recovery.verify(data)

    @router.post("/email/resend", status_code=202, response_description="Accepted")
    async def resend_verification(
        caller: Annotated[Principal, requires()], recovery: RecoveryDep
    ) -> MailSent:
        """Mail a new link that confirms my address."""
        await recovery.ask_for_verification(caller)
        return MailSent()

    return router
