"""Sessions: what an access token stands for, and refresh tokens that are worth one use each.

A refresh token names its session and the turn it is for. Using it moves the session to the next
turn by compare-and-set. The turn before is answered with the same successor for ten seconds, for
tabs that refresh at once and for answers that were lost; anything older was stolen by somebody, and
ends the session.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast
from uuid import UUID

import structlog
from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Row,
    Select,
    bindparam,
    delete,
    or_,
    select,
    update,
)

from newel.clock import Clock
from newel.db import Database, Work
from newel.entity import Tenanted
from newel.errors import Unauthorized
from newel.identity import Account, AccountKind, AuthSession
from newel.principal import ANYONE, Principal
from newel.tokens import AccessClaims, AccessTokens, RefreshTokens
from newel.unit_session import UNWATCHED

__all__ = ["REFRESH_GRACE", "REVOKED", "Origin", "SessionMemory", "Sessions", "TokenPair"]

REFRESH_GRACE: Final = timedelta(seconds=10)
"""How long the refresh token before the present one still leads to the present one."""

REVOKED: Final = "The token is not valid, or not any more. Log in again."
"""What ``tokens`` says of a bad token, too: one wording for whatever is wrong."""

_SESSIONS_KEPT: Final = 100
"""How many sessions of one account are kept; the oldest end when there are more."""


def _by_id(user: type[Account]) -> Select[*tuple[Any, ...]]:
    """Return the query of a session and its account."""
    session = AuthSession
    return (
        select(
            user.id,
            user.is_active,
            user.epoch,
            user.roles,
            *([user.tenant_id] if issubclass(user, Tenanted) else ()),
            session.epoch.label("session_epoch"),
            session.refresh_counter,
            session.rotated_at,
            session.last_used_at,
            session.expires_at,
            session.revoked_at,
        )
        .join(session, session.user_id == user.id)
        .where(session.id == bindparam("session_id"))
    )


_log = structlog.get_logger("newel.sessions")

_SESSIONS: Final = AuthSession.__tablename__
_TABLES: Final = frozenset({_SESSIONS, "users", "*"})  # `accounts` refuses another name for users


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a log-in comes from: the client's network address and what it calls itself."""

    ip: str
    user_agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What a log-in or a refresh gives; how long each token is good for, in seconds."""

    access_token: str
    access_seconds: int
    refresh_token: str
    refresh_seconds: int


class SessionMemory:
    """Who was found behind an access token, for a few seconds: a query less for most requests.

    What this process changes about an account or a session is forgotten after the commit, and so is
    what the others change as far as it hears of it (REDIS_URL). What it does not hear of holds
    after ``seconds`` at the latest.
    """

    def __init__(self, *, seconds: float, kept: int = 10_000) -> None:
        self._lifetime = timedelta(seconds=seconds)
        self._kept = kept
        self._known: dict[UUID, tuple[int, datetime, Principal]] = {}
        self.generation: int = 0

    def find(self, claims: AccessClaims, now: datetime) -> Principal | None:
        """Return the principal of the token's session, unless it is too long ago."""
        known = self._known.get(claims.sid)
        if known is None:
            return None
        epoch, until, principal = known
        is_good = now < until and epoch == claims.epoch and principal.id == claims.sub
        return principal if is_good else None

    def store(
        self,
        claims: AccessClaims,
        principal: Principal,
        *,
        now: datetime,
        ends: datetime,
        generation: int,
    ) -> None:
        """Remember what a query found, unless something was changed since its ``generation``."""
        if generation != self.generation:
            return
        self._known.pop(claims.sid, None)
        while len(self._known) >= self._kept:
            del self._known[next(iter(self._known))]
        self._known[claims.sid] = claims.epoch, min(ends, now + self._lifetime), principal

    def forget(self, tags: Iterable[str]) -> None:
        """Forget what ``tags`` name: ``users:<id>``, ``auth_sessions:<id>``; ``*``: all of them."""
        for tag in tags:
            table, _, id = tag.partition(":")
            if table not in _TABLES or not (id or table == "*"):
                continue
            self.generation += 1
            if "*" in {table, id}:
                self._known.clear()
                continue
            with suppress(ValueError):  # a service's own tag, such as users:active
                if table == _SESSIONS:
                    self._known.pop(UUID(id), None)
                else:
                    self._forget_user(UUID(id))

    def _forget_user(self, user_id: UUID) -> None:
        of_user = [sid for sid, known in self._known.items() if known[2].id == user_id]
        for sid in of_user:
            del self._known[sid]


class Sessions:
    """Opens, refreshes and ends the sessions of one kind of account; an ``Authenticator``.

    A session ends ``lifetime`` after the log-in, and when it was not refreshed for ``idle``.
    """

    def __init__(
        self,
        kind: AccountKind,
        *,
        database: Database,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        clock: Clock,
        lifetime: timedelta = timedelta(days=30),
        idle: timedelta = timedelta(days=7),
        memory: SessionMemory,
    ) -> None:
        self.kind = kind
        self.clock = clock
        self._database = database
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._lifetime = lifetime
        self._idle = idle
        self._memory = memory
        for kind_of_row in (kind.user, AuthSession):
            database.watch(kind_of_row)
        database.cache.watch(memory.forget)
        # Built once: a select that is built for each request costs 0.3 ms more.
        self._by_id = _by_id(kind.user)
        self._has_tenant = issubclass(kind.user, Tenanted)

    async def authenticate(self, token: str) -> Principal:
        """Return who holds ``token``: one query for the account and the session.

        Raises ``Unauthorized`` in the same words for a bad token, a deleted or inactive account, a
        session that is over, and an account whose epoch has moved on.
        """
        claims = self._access_tokens.verify(token)
        now, generation = self.clock.now(), self._memory.generation
        # Who should hear of others' log-outs, and does not for now, looks at each request.
        known = self._memory.find(claims, now) if self._database.cache.is_current else None
        if known is not None:
            return known
        async with self._database.read(Principal(id=claims.sub)) as work:
            row = await self._find(work, claims.sid)
        if row is None or row.id != claims.sub or row.epoch != claims.epoch:
            raise Unauthorized(REVOKED)
        if not self._is_live(row):
            raise Unauthorized(REVOKED)
        principal = self._principal(row, claims.sid)
        ends = min(row.expires_at, row.last_used_at + self._idle)
        self._memory.store(claims, principal, now=now, ends=ends, generation=generation)
        return principal

    async def open(self, work: Work, user_id: UUID, *, epoch: int, origin: Origin) -> TokenPair:
        """Record a log-in of ``user_id``, whose account had ``epoch`` when it was proved."""
        now = self.clock.now()
        session = AuthSession(
            user_id=user_id,
            epoch=epoch,
            ip=origin.ip,
            user_agent=origin.user_agent.replace("\0", "")[:255],
            last_used_at=now,
            rotated_at=now,
            expires_at=now + self._lifetime,
        )
        work.session.add(session)
        await work.flush()
        await self._forget_old(work, user_id, now)
        return self._pair(
            user_id, session.id, epoch=epoch, counter=0, expires_at=session.expires_at
        )

    async def refresh(self, token: str, *, ip: str) -> TokenPair:
        """Return the successor of the refresh token ``token``.

        Raises ``Unauthorized``. A token that was used before, and not just now, also ends its
        session: that is committed here, although the answer is an error.
        """
        session_id, counter = self._refresh_tokens.read(token)
        async with self._database.write(ANYONE) as work, work.as_system("refresh a session"):
            outcome = await self._rotate(work, session_id, counter)
        if isinstance(outcome, TokenPair):
            return outcome
        if outcome == "reused":
            _log.warning("refresh_token_reused", session_id=str(session_id), ip=ip)
        raise Unauthorized(REVOKED)

    async def renew(self, work: Work, caller: Principal, *, epoch: int) -> str:
        """Move the caller's session to the new ``epoch``; return an access token for it."""
        if caller.session_id is None:
            raise Unauthorized(REVOKED)
        await work.session.execute(
            update(AuthSession)
            .where(AuthSession.id == caller.session_id)
            .values(epoch=epoch)
            .execution_options(**UNWATCHED)
        )
        work.forget(f"{_SESSIONS}:{caller.session_id}")
        return self._access_tokens.issue(caller.user_id, sid=caller.session_id, epoch=epoch)

    async def revoke(self, work: Work, session_id: UUID) -> bool:
        """End one session of the unit's caller; ``False`` if there is none that lives."""
        return await self._end_one(work, session_id) == 1

    async def revoke_all(self, work: Work, user_id: UUID, *, but: UUID | None = None) -> int:
        """End every session of ``user_id`` but one; return how many there were."""
        condition = AuthSession.user_id == user_id
        if but is not None:
            condition &= AuthSession.id != but
        return await self._end(work, condition, forget=f"users:{user_id}")

    async def revoke_by_token(self, work: Work, token: str) -> None:
        """End the session of a refresh token, whatever its turn; a bad token is nobody's."""
        try:
            session_id, _ = self._refresh_tokens.read(token)
        except Unauthorized:
            return
        async with work.as_system("log out by refresh token"):
            await self._end_one(work, session_id)

    async def _rotate(
        self, work: Work, session_id: UUID, counter: int
    ) -> TokenPair | Literal["over", "reused"]:
        row = await self._find(work, session_id)
        if row is None or not self._is_live(row):
            return "over"
        if counter == row.refresh_counter:
            if await self._advance(work, session_id, counter):
                return self._successor(row, session_id, counter + 1)
            # Another request has used the token since we looked; what it left is what we see now.
            row = await self._find(work, session_id)
            if row is None or not self._is_live(row):
                return "over"
        now = self.clock.now()
        if counter == row.refresh_counter - 1 and now - row.rotated_at <= REFRESH_GRACE:
            return self._successor(row, session_id, row.refresh_counter)
        if counter > row.refresh_counter:
            return "over"  # of a database that was restored since
        await self._end_one(work, session_id)
        return "reused"

    async def _advance(self, work: Work, session_id: UUID, counter: int) -> bool:
        """Move the session on from ``counter``; ``False`` when somebody else has done so."""
        now = self.clock.now()
        moved = await work.session.execute(
            update(AuthSession)
            .where(
                AuthSession.id == session_id,
                AuthSession.refresh_counter == counter,
                AuthSession.revoked_at.is_(None),
            )
            .values(refresh_counter=counter + 1, rotated_at=now, last_used_at=now)
            # Not watched: who is behind the session stays the same.
            .execution_options(synchronize_session=False, **UNWATCHED)
        )
        return cast("CursorResult[Any]", moved).rowcount == 1

    async def _end_one(self, work: Work, session_id: UUID) -> int:
        return await self._end(
            work, AuthSession.id == session_id, forget=f"{_SESSIONS}:{session_id}"
        )

    async def _end(self, work: Work, condition: ColumnElement[bool], *, forget: str) -> int:
        ended = await work.session.execute(
            update(AuthSession)
            .where(condition, AuthSession.revoked_at.is_(None))
            .values(revoked_at=self.clock.now())
            # We know whose they are: nobody else has to be looked up again.
            .execution_options(synchronize_session=False, **UNWATCHED)
        )
        work.forget(forget)
        return cast("CursorResult[Any]", ended).rowcount

    async def _find(self, work: Work, session_id: UUID) -> Row[*tuple[Any, ...]] | None:
        found = await work.session.execute(self._by_id, {"session_id": session_id})
        return found.one_or_none()

    def _is_live(self, row: Row[*tuple[Any, ...]]) -> bool:
        """Tell whether the account may act in this session now."""
        now = self.clock.now()
        return (
            row.is_active
            and row.revoked_at is None
            and row.session_epoch == row.epoch
            and now < row.expires_at
            and now < row.last_used_at + self._idle
        )

    async def _forget_old(self, work: Work, user_id: UUID, now: datetime) -> None:
        mine = AuthSession.user_id == user_id
        newest_first = AuthSession.last_used_at.desc(), AuthSession.id.desc()
        surplus = select(AuthSession.id).where(mine).order_by(*newest_first).offset(_SESSIONS_KEPT)
        await work.session.execute(
            delete(AuthSession)
            .where(mine, or_(AuthSession.expires_at <= now, AuthSession.id.in_(surplus)))
            .execution_options(synchronize_session=False, **UNWATCHED)
        )
        work.forget(f"users:{user_id}")

    def _principal(self, row: Row[*tuple[Any, ...]], session_id: UUID) -> Principal:
        permissions = self.kind.roles
        roles = frozenset(role for role in row.roles if role in permissions)
        return Principal(
            id=row.id,
            roles=roles,
            permissions=frozenset[str]().union(*(permissions[role] for role in roles)),
            tenant_id=row.tenant_id if self._has_tenant else None,
            session_id=session_id,
        )

    def _successor(self, row: Row[*tuple[Any, ...]], session_id: UUID, counter: int) -> TokenPair:
        return self._pair(
            row.id, session_id, epoch=row.epoch, counter=counter, expires_at=row.expires_at
        )

    def _pair(
        self, user_id: UUID, session_id: UUID, *, epoch: int, counter: int, expires_at: datetime
    ) -> TokenPair:
        until_end = expires_at - self.clock.now()
        return TokenPair(
            access_token=self._access_tokens.issue(user_id, sid=session_id, epoch=epoch),
            access_seconds=int(self._access_tokens.lifetime.total_seconds()),
            refresh_token=self._refresh_tokens.issue(session_id, counter),
            refresh_seconds=int(min(self._idle, until_end).total_seconds()),
        )
