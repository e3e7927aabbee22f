"""Idempotency keys: a POST that is sent again does its work once.

    POST /api/v1/orders
    Idempotency-Key: 7d5c0e8a-8c1f-4b2e-9a53-3c1f6d2b7a90

The answer is kept in the transaction of the effect, so both are there or neither: the unit of work
of a request with a key is committed when its answer is complete, and before it is sent. Whoever
sends the key again gets that answer. Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header
from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, delete, func, insert, select
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newel.context import client_ip, route_template
from newel.db import Database, Work
from newel.entity import Entity, UTCDateTime
from newel.errors import AppError, BadRequest, Conflict, Invalid
from newel.principal import Principal
from newel.problems import problem_response
from newel.tokens import KeyRing, Sealer

__all__ = ["Idempotency", "KeyInUse", "KeyReused", "key_required"]

MAX_ANSWER_BYTES: Final = 262_144
"""A longer answer, or a stream, is not kept: its key only says that the work was done."""

_LIFETIME: Final = timedelta(hours=24)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_REPLAYED: Final = (b"idempotent-replayed", b"true")

# What belongs to the moment and not to the answer.
_FLEETING: Final = frozenset({b"date", b"ratelimit", b"ratelimit-policy", b"content-length"})

_keys = Table(
    "idempotency_keys",
    Entity.metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # of subject, route and key
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("answer", LargeBinary, nullable=False),  # sealed: log-in answers with tokens
    Column("expires_at", UTCDateTime, nullable=False),
    Index("ix_idempotency_keys_expires_at", "expires_at"),
    info={"kernel": True},
)


class KeyInUse(Conflict):
    """A request with this ``Idempotency-Key`` is being worked on, or its answer was not kept."""

    code = "idempotency_key_in_use"
    title = "Already being done"
    advice = "Send it again, with the same key, after the seconds in Retry-After."


class KeyReused(Invalid):
    """This ``Idempotency-Key`` was used for another request."""

    code = "idempotency_key_reused"
    title = "Key used for another request"
    advice = "Send a new request with a new Idempotency-Key, or the first one unchanged."


def key_required() -> Any:
    """Ask for an ``Idempotency-Key`` on a route: ``dependencies=[key_required()]``; 422 without."""
    return Depends(_read_key)


async def _read_key(
    key: Annotated[
        str,
        Header(
            alias="Idempotency-Key",
            description="A new random value for each thing to be done; the same to try it again.",
            pattern=rf"^{_KEY.pattern}$",
        ),
    ],
) -> None:
    del key  # read by the middleware


class Idempotency:
    """ASGI middleware that honours ``Idempotency-Key`` on every POST.

    The first request with a key is carried out. While it is, another one gets 409 with
    ``Retry-After``; afterwards and for 24 hours its answer, marked ``Idempotent-Replayed: true``;
    422 if it is not the same request. An error that changed nothing is not kept: the same key may
    try again. Keys are the caller's own (without log-in: the IP address's), and a route's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._in_flight: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offered = _offered(scope) if scope.get("method") == "POST" else []
        if not offered:
            await self.app(scope, receive, send)
            return
        if len(offered) > 1 or not _KEY.fullmatch(offered[0]):
            wrong = BadRequest("Idempotency-Key is one value of 1 to 255 printable characters.")
            await problem_response(wrong, instance=scope["path"])(scope, receive, send)
            return
        call = _Call(offered[0], scope, receive, send, in_flight=self._in_flight)
        try:
            await self.app(scope, call.receive, call.send)
        except _Instead as instead:
            await instead.response(scope, receive, send)
        finally:
            await call.close()


def _offered(scope: Scope) -> list[str]:
    return [str(v, "latin-1") for name, v in scope["headers"] if name == b"idempotency-key"]


class _Instead(Exception):
    """The answer is another one than the route's."""

    def __init__(self, response: Response) -> None:
        self.response = response


class _KeyedWork(Work):
    """A unit of work whose commit waits until the answer is there."""

    def __init__(
        self, database: Database, *, claim: Callable[[Principal], Awaitable[None]]
    ) -> None:
        super().__init__(database, None, read_only=False)
        self.is_over = False
        self._claim = claim

    async def admit(self, caller: Principal) -> None:
        await super().admit(caller)
        await self._claim(caller)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self.end(kind)
            return
        try:
            await self.flush()  # what is wrong with the rows is said where errors are answered
        except BaseException as broken:
            await self.end(type(broken))
            raise

    async def end(self, kind: type[BaseException] | None) -> None:
        """Commit, or on an error roll back; the first time counts."""
        if not self.is_over:
            self.is_over = True
            await super().__aexit__(kind)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row: the request that it was, and its answer, sealed."""

    fingerprint: bytes
    answer: bytes
    has_expired: bool


class _Call:
    """One request with a key."""

    def __init__(
        self, key: str, scope: Scope, receive: Receive, send: Send, *, in_flight: set[bytes]
    ) -> None:
        self._app: FastAPI = scope["app"]
        self._database: Database = self._app.state.database
        self._key = key
        self._scope = scope
        self._receive = receive
        self._send = send
        self._in_flight = in_flight
        self._body = hashlib.sha256()
        self._asked = b""
        self._digest: bytes | None = None
        self._replaces_expired = False
        self._held: list[Message] = []
        self._held_bytes = 0
        self._is_settled = False
        self._work = _KeyedWork(self._database, claim=self.claim)
        scope["newel.work"] = self._work

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._body.update(message.get("body", b""))
        return message

    # ------------------------------------------------------------------------- before the endpoint

    async def claim(self, caller: Principal) -> None:
        """Take the key for ``caller``, who may call this route; raises when it is taken."""
        if self._digest is not None:
            return  # by another dependency of the same route
        digest = self._digest_for(caller)
        if digest in self._in_flight:
            raise _in_use()
        self._in_flight.add(digest)
        self._digest = digest
        self._asked = self._body.digest()  # what is read later, no twin could be compared by
        if not await self._lock(digest):
            raise _in_use()
        kept = await self._find()
        if kept is not None and kept.has_expired:
            self._replaces_expired = True
        elif kept is not None:
            raise _Instead(self._replay(kept))

    def _digest_for(self, caller: Principal) -> bytes:
        if caller.is_authenticated:
            subject = f"user {caller.tenant_id} {caller.id}"
        else:
            subject = f"ip {client_ip(self._scope, self._app.state.trusted_proxies)}"
        route = route_template(self._scope)
        return hashlib.sha256(f"{subject}\n{route}\n{self._key}".encode()).digest()

    async def _lock(self, digest: bytes) -> bool:
        """Tell whether no other process works on it; the lock ends with the transaction.

        SQLite has one writer at a time, so there the twin waits its turn and then gets the answer.
        """
        if self._database.is_sqlite:
            return True
        number = int.from_bytes(digest[:8], signed=True)
        lock = select(func.pg_try_advisory_xact_lock(number, type_=BigInteger))
        return bool(await self._work.session.scalar(lock))

    async def _find(self) -> _Kept | None:
        query = select(_keys).where(_keys.c.digest == self._digest)
        if self._work.is_over or self._database.is_sqlite:  # a look must not take the write lock
            async with self._database.read(None) as work:
                row = (await work.session.execute(query)).one_or_none()
        else:
            row = (await self._work.session.execute(query)).one_or_none()
        if row is None:
            return None
        has_expired = row.expires_at <= self._app.state.clock.now()
        return _Kept(row.fingerprint, row.answer, has_expired)

    def _replay(self, kept: _Kept) -> Response:
        keys: KeyRing = self._app.state.keys
        own = [self._fingerprint(keys, kid) for kid in keys.kids]
        if not any(hmac.compare_digest(each, kept.fingerprint) for each in own):
            raise KeyReused
        plain = self._sealer().open(kept.answer, context=self._digest or b"")
        if not plain:
            raise KeyInUse("This was done already; its answer was not kept.")
        head, _, body = plain.partition(b"\n")
        return _response(json.loads(head), body)

    def _fingerprint(self, keys: KeyRing, kid: str) -> bytes:
        """Return what the request was, told by a key: bodies hold passwords that can be guessed."""
        url = f"{self._scope['path']}?{self._scope['query_string'].decode('latin-1')}\n"
        secret = keys.derive("idempotency", kid=kid)
        return hmac.digest(secret, url.encode() + self._asked, "sha256")

    def _sealer(self) -> Sealer:
        return Sealer(self._app.state.keys, "idempotency")

    # -------------------------------------------------------------------------- after the endpoint

    async def send(self, message: Message) -> None:
        """Hold the answer back until it is complete; then keep it, commit, and send it."""
        if self._is_settled:
            await self._send(message)
            return
        self._held.append(message)
        self._held_bytes += len(message.get("body", b""))
        is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        is_kept = self._held_bytes <= MAX_ANSWER_BYTES and not self._is_stream(message)
        if is_kept and not is_whole:
            return
        self._is_settled = True
        body = b"".join(held.get("body", b"") for held in self._held) if is_kept else None
        try:
            await self._settle(body)
        except AppError as error:
            await self._work.end(type(error))
            # Too late for the application's handlers, for which the answer has begun.
            failed = problem_response(error, instance=self._scope["path"])
            raise _Instead(failed) from error
        for held in self._held:
            await self._send(held)

    def _is_stream(self, message: Message) -> bool:
        """Tell whether the answer is sent as it is made: it does not say how long it will be.

        What it waits for, or does in a unit of its own, must not wait for the commit of this one.
        """
        if message["type"] not in {"http.response.start", "http.response.body"}:
            return True  # a file that the server sends by its path
        start = self._held[0]
        has_length = "content-length" in Headers(raw=start.get("headers", []))
        return not has_length and start["status"] != HTTPStatus.NO_CONTENT

    async def _settle(self, body: bytes | None) -> None:
        """Commit the work with its answer; without work, leave nothing."""
        status: int = self._held[0]["status"]
        if self._work.is_over:  # it was rolled back: perhaps because a twin had done it
            if self._digest is not None and status < 500:
                await self._answer_like_the_twin()
            return
        if status >= 500:
            await self._work.end(AppError)
            return
        try:
            if self._digest is not None:
                await self._keep(body)
            await self._work.end(None)
        except Conflict:
            await self._work.end(Conflict)
            await self._answer_like_the_twin()
            raise

    async def _answer_like_the_twin(self) -> None:
        kept = await self._find()
        if kept is not None and not kept.has_expired:
            raise _Instead(self._replay(kept))

    async def _keep(self, body: bytes | None) -> None:
        now = self._app.state.clock.now()
        session = self._work.session
        keys: KeyRing = self._app.state.keys
        digest = self._digest or b""
        plain = b"" if body is None else self._head() + b"\n" + body
        if self._replaces_expired:  # unless a twin has done so: its row is not for us to remove
            expired = delete(_keys).where(_keys.c.digest == digest, _keys.c.expires_at <= now)
            await session.execute(expired)
        row = {
            "digest": digest,
            "fingerprint": self._fingerprint(keys, keys.kid),
            "answer": self._sealer().seal(plain, context=digest),
            "expires_at": now + _LIFETIME,
        }
        await session.execute(insert(_keys).values(row))
        # Two for each that comes, so that the table shrinks without anybody who sweeps it.
        old = select(_keys.c.digest).where(_keys.c.expires_at <= now).limit(2)
        old = old.with_for_update(skip_locked=True)
        await session.execute(delete(_keys).where(_keys.c.digest.in_(old)))

    def _head(self) -> bytes:
        start = self._held[0]
        headers = [
            [str(name, "latin-1"), str(value, "latin-1")]
            for name, value in start.get("headers", [])
            if name.lower() not in _FLEETING
        ]
        return json.dumps({"status": start["status"], "headers": headers}).encode()

    async def close(self) -> None:
        """Roll back what was not committed, and free the key."""
        if self._digest is not None:
            self._in_flight.discard(self._digest)
        await self._work.end(AppError)


def _in_use() -> KeyInUse:
    return KeyInUse(headers={"Retry-After": "1"})


def _response(head: Mapping[str, Any], body: bytes) -> Response:
    response = Response(body, status_code=head["status"])
    kept = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]]
    length = [(b"content-length", str(len(body)).encode())]
    response.raw_headers = [*kept, *length, _REPLAYED]
    return response
