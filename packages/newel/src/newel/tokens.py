"""Tokens: one ring of secrets, a key of its own for every purpose, and what is signed with them.

A secret never signs anything itself. From each secret of the ring, HKDF makes one key per
purpose, so that a token made for one purpose fails another's *signature*, also where somebody
forgot to look at its type. New tokens are signed with the newest secret and the older ones still
verify: put the new secret in front, keep the old one as long as the longest token lives.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from newel.clock import Clock, SystemClock
from newel.errors import ConfigurationError, Unauthorized
from newel.ids import uuid7

__all__ = [
    "AccessClaims",
    "AccessTokens",
    "Algorithm",
    "KeyRing",
    "Purpose",
    "RefreshTokens",
    "Sealer",
    "Signer",
    "new_secret",
]

Purpose = Literal[
    "access",
    "access-ed25519",
    "refresh",
    "reset",
    "verify",
    "device",
    "upload",
    "download",
    "ws-ticket",
    "cursor",
    "idempotency",
    "webhook",
]
"""What a key may be used for. A new kind of token gets a new word, never a used one."""

Algorithm = Literal["HS256", "EdDSA"]
"""How access tokens are signed: HS256 if only we verify them, EdDSA if others do, by ``jwks()``."""

_MIN_SECRET_BYTES: Final = 32
_MAX_TOKEN_BYTES: Final = 4096
"""Ours take 500 bytes; a bigger one is refused before anything parses it."""

_JWT_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

_CLOCK_SKEW: Final = timedelta(seconds=30)
"""How far ahead the clock of another process of this service may be."""

_LAST_SECOND: Final = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second that a ``datetime`` can hold."""

_REFUSED: Final = "The token is not valid, or not any more. Log in again."


def new_secret() -> str:
    """Return a new random secret for a ``KeyRing``: 48 bytes as 64 URL-safe characters."""
    return secrets.token_urlsafe(48)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class KeyRing:
    """The secrets of a service, newest first, and the keys made from them.

    ``secret`` signs; ``previous`` only verify. Each needs at least 32 bytes, else
    ``ConfigurationError``. A key's id, ``kid``, is made from its secret, so that processes that
    share secrets agree on it; it tells nothing about the secret. Source: RFC 5869 (HKDF).
    """

    __slots__ = ("_secrets",)

    def __init__(
        self, secret: SecretStr | str, *, previous: Sequence[SecretStr | str] = ()
    ) -> None:
        ring = (_checked_secret(each) for each in (secret, *previous))
        self._secrets: Mapping[str, bytes] = {
            _hkdf(each, label="kid", length_bytes=8).hex(): each for each in ring
        }

    def __repr__(self) -> str:
        return f"KeyRing(kids={self.kids})"

    @property
    def kid(self) -> str:
        """The id of the key that signs."""
        return self.kids[0]

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of all keys that verify, the signing one first."""
        return tuple(self._secrets)

    def derive(self, purpose: Purpose, *, kid: str | None = None, length_bytes: int = 32) -> bytes:
        """Return the key for ``purpose``: of the newest secret, or of the one named by ``kid``.

        Raises ``KeyError`` for a ``kid`` that is not in the ring.
        """
        secret = self._secrets[self.kid if kid is None else kid]
        return _hkdf(secret, label=f"purpose/{purpose}", length_bytes=length_bytes)


def _checked_secret(secret: SecretStr | str) -> bytes:
    plain = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    encoded = plain.encode()
    if len(encoded) < _MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"a secret key has {len(encoded)} bytes, fewer than {_MIN_SECRET_BYTES}",
            fix="make one with `newel keys new` and set SECRET_KEY to it",
        )
    return encoded


def _hkdf(secret: bytes, *, label: str, length_bytes: int) -> bytes:
    # The length is part of the label: else a short key would be the beginning of a long one.
    info = f"newel/v1/{label}/{length_bytes}".encode()
    return HKDF(algorithm=SHA256(), length=length_bytes, salt=None, info=info).derive(secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessClaims:
    """What a verified access token says.

    ``sub`` is the user's id, ``sid`` the session's, ``epoch`` the user's counter of "log out
    everywhere", ``jti`` the token's own id; ``iat`` and ``exp`` are aware, in UTC, whole seconds.
    """

    sub: UUID
    sid: UUID
    epoch: int
    jti: UUID
    iat: datetime
    exp: datetime
    type: Literal["access"] = "access"


class AccessTokens:
    """Issues and verifies access tokens: short-lived JWTs that carry who calls, not what they may.

    Source: RFC 7519, RFC 8725 (best practices) and RFC 9068 (``typ``).

    Only what this class issues is accepted: a header of exactly ``alg``, ``kid`` and ``typ``, one
    algorithm, one issuer, one audience. ``verify`` does not look into the database: whether the
    session still lives is ``auth``'s question.
    """

    _CLAIMS: ClassVar = ["iss", "aud", "sub", "sid", "epoch", "jti", "iat", "exp", "type"]

    def __init__(
        self,
        keys: KeyRing,
        *,
        algorithm: Algorithm = "HS256",
        issuer: str,
        audience: str,
        lifetime: timedelta = timedelta(minutes=15),
        clock: Clock | None = None,
        remembered: int = 4096,
    ) -> None:
        self.algorithm: Final[Algorithm] = algorithm
        self.issuer: Final = issuer
        self.audience: Final = audience
        self.lifetime: Final = lifetime
        self._clock: Clock = clock or SystemClock()
        self._kid = keys.kid
        self._signing = _signing_keys(keys, algorithm)
        # The same token comes with each request of a client. A signature once good stays good,
        # so it is checked once (83 us); the times are looked at on each call. Only tokens of ours
        # get in, because an exception is not remembered.
        self._proved = lru_cache(maxsize=remembered)(self._prove)

    def issue(self, sub: UUID, *, sid: UUID, epoch: int) -> str:
        """Return a new signed token for the user ``sub`` in session ``sid``."""
        issued_at = int(self._clock.now().timestamp())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(sub),
            "sid": str(sid),
            "epoch": epoch,
            "jti": str(uuid7()),
            "iat": issued_at,
            "exp": issued_at + int(self.lifetime.total_seconds()),
            "type": "access",
        }
        return jwt.encode(
            claims,
            self._signing[self._kid],
            algorithm=self.algorithm,
            headers={"typ": "at+jwt", "kid": self._kid},
        )

    def verify(self, token: str) -> AccessClaims:
        """Return what ``token`` says.

        Raises ``Unauthorized``, always in the same words, whatever is wrong with it; the reason is
        its cause, for the log.
        """
        try:
            claims = self._proved(_bounded(token))
            _check_times(claims, now=self._clock.now(), lifetime=self.lifetime)
        except (ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise Unauthorized(_REFUSED) from error
        return claims

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JSON Web Key Set; no keys under HS256, which has none.

        Source: RFC 7517, RFC 8037.
        """
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": _encoded(key.public_key().public_bytes_raw()),
                    "kid": kid,
                    "use": "sig",
                    "alg": "EdDSA",
                }
                for kid, key in self._signing.items()
                if isinstance(key, Ed25519PrivateKey)
            ]
        }

    def _prove(self, token: str) -> AccessClaims:
        """Check everything about ``token`` that does not change with time."""
        header = jwt.get_unverified_header(token)
        if header.keys() != {"alg", "kid", "typ"} or header["typ"] != "at+jwt":
            # Nothing in a header may say where a key is (jku, x5u, jwk) or how to read on (crit).
            raise ValueError("not the header of an access token")
        payload = jwt.decode(
            token,
            _verifying_key(self._signing[header["kid"]]),
            algorithms=[self.algorithm],
            issuer=self.issuer,
            audience=self.audience,
            # The times are ours to check, by the clock port.
            options={
                "require": self._CLAIMS,
                "strict_aud": True,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        if payload["type"] != "access" or "nbf" in payload:
            # We issue no "nbf", so there is none to honour. Other claims we do not know are let
            # pass: the next release may issue them while this one still runs beside it.
            raise ValueError("not the claims of an access token")
        return AccessClaims(
            sub=_uuid(payload["sub"]),
            sid=_uuid(payload["sid"]),
            epoch=_whole(payload["epoch"]),
            jti=_uuid(payload["jti"]),
            iat=_moment(payload["iat"]),
            exp=_moment(payload["exp"]),
        )


def _bounded(token: str) -> str:
    if len(token) > _MAX_TOKEN_BYTES or not _JWT_SHAPE.fullmatch(token):
        raise ValueError("not a JWT of ours by its size or form")
    return token


def _check_times(claims: AccessClaims, *, now: datetime, lifetime: timedelta) -> None:
    if claims.exp <= now:
        raise ValueError("expired")
    if claims.iat > now + _CLOCK_SKEW:
        raise ValueError("issued in the future")
    if claims.exp - claims.iat > lifetime:
        # Also after the setting was lowered: a leaked token must not outlive it.
        raise ValueError("lives longer than tokens do")


def _signing_keys(keys: KeyRing, algorithm: Algorithm) -> Mapping[str, bytes | Ed25519PrivateKey]:
    if algorithm == "HS256":
        return {kid: keys.derive("access", kid=kid) for kid in keys.kids}
    return {
        kid: Ed25519PrivateKey.from_private_bytes(keys.derive("access-ed25519", kid=kid))
        for kid in keys.kids
    }


def _verifying_key(key: bytes | Ed25519PrivateKey) -> bytes | Ed25519PublicKey:
    return key if isinstance(key, bytes) else key.public_key()


def _uuid(value: object) -> UUID:
    # UUID() also takes braces and capitals, and answers a list with an AttributeError.
    if not isinstance(value, str) or str(parsed := UUID(value)) != value:
        raise ValueError("not a UUID in its usual form")
    return parsed


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:  # bool is an int, and 1.5 is not a time of ours
        raise ValueError("not a whole number")
    return value


def _moment(value: object) -> datetime:
    seconds = _whole(value)
    if seconds > _LAST_SECOND:  # fromtimestamp raises three kinds of errors beyond it
        raise ValueError("not a time")
    return datetime.fromtimestamp(seconds, UTC)


class RefreshTokens:
    """Makes and reads refresh tokens: opaque ``sid.counter.mac`` strings.

    The database holds only the session and its counter, never a token: the counter, compared and
    set, tells a token that was used already. Who steals the database can refresh nothing.
    """

    _SHAPE: ClassVar = re.compile(r"([0-9a-f]{32})\.(0|[1-9][0-9]{0,9})\.([A-Za-z0-9_-]{43})")

    def __init__(self, keys: KeyRing) -> None:
        self._macs = _Macs(keys, "refresh")

    def issue(self, sid: UUID, counter: int) -> str:
        """Return the token of the ``counter``-th (0 to 9,999,999,999) turn of session ``sid``."""
        if not 0 <= counter <= 9_999_999_999:
            raise ValueError("a counter has 1 to 10 digits")
        message = f"{sid.hex}.{counter}"
        return f"{message}.{self._macs.sign(message.encode())}"

    def read(self, token: str) -> tuple[UUID, int]:
        """Return the session's id and the counter that ``token`` carries.

        Raises ``Unauthorized``, always in the same words. A good token says only that we made it;
        that it is the session's present one is for the caller to check.
        """
        match = self._SHAPE.fullmatch(token)  # bounds the size, too
        if match is None:
            raise Unauthorized(_REFUSED)
        sid, counter, mac = match.groups()
        if not self._macs.verify(f"{sid}.{counter}".encode(), mac):
            raise Unauthorized(_REFUSED)
        return UUID(hex=sid), int(counter)


class Signer:
    """Signs small payloads that travel through a client: cursors, upload addresses.

    Signed is not encrypted: the client can read the payload.
    """

    _SHAPE: ClassVar = re.compile(r"([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]{43})")

    def __init__(self, keys: KeyRing, purpose: Purpose) -> None:
        self._macs = _Macs(keys, purpose)

    def sign(self, payload: bytes) -> str:
        """Return ``payload`` (at most 3,000 bytes, else ``ValueError``) and its signature."""
        if len(payload) > 3000:
            raise ValueError("a signed payload has at most 3,000 bytes")
        body = _encoded(payload)
        return f"{body}.{self._macs.sign(body.encode())}"

    def read(self, signed: str) -> bytes:
        """Return the payload; raises ``ValueError`` if it was not signed here for this purpose."""
        match = self._SHAPE.fullmatch(signed) if len(signed) <= _MAX_TOKEN_BYTES else None
        if match is None:
            raise ValueError("not a signed payload")
        body, mac = match.groups()
        # The text is what is signed, not the bytes: several texts stand for the same bytes. And
        # it has no dot, so that it is never what a refresh token or a JWT signs.
        if not self._macs.verify(body.encode(), mac):
            raise ValueError("not signed here for this purpose")
        return _decoded(body)


class Sealer:
    """Encrypts what has to be kept in the database and read again (AES-256-GCM).

    Whoever steals the database reads nothing. ``context`` (the row's id, say) is part of the seal:
    what was sealed for one row does not open in another.
    """

    _NONCE_BYTES: ClassVar = 12

    def __init__(self, keys: KeyRing, purpose: Purpose) -> None:
        self._ciphers = [AESGCM(keys.derive(purpose, kid=kid)) for kid in keys.kids]

    def seal(self, plain: bytes, *, context: bytes) -> bytes:
        """Return ``plain`` encrypted by the newest key: 28 bytes more."""
        nonce = secrets.token_bytes(self._NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, plain, context)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Return what was sealed; ``ValueError`` if not by a key of the ring for ``context``."""
        nonce, encrypted = sealed[: self._NONCE_BYTES], sealed[self._NONCE_BYTES :]
        for cipher in self._ciphers:
            with suppress(InvalidTag):
                return cipher.decrypt(nonce, encrypted, context)
        raise ValueError("not sealed here for this context")


class _Macs:
    """HMAC-SHA256 with every key of a ring."""

    def __init__(self, keys: KeyRing, purpose: Purpose) -> None:
        self._keys = [keys.derive(purpose, kid=kid) for kid in keys.kids]

    def sign(self, message: bytes) -> str:
        return self._mac(self._keys[0], message)

    def verify(self, message: bytes, mac: str) -> bool:
        # A list: all keys are tried, also after a match; the time does not tell which one it was.
        matches = [hmac.compare_digest(self._mac(key, message), mac) for key in self._keys]
        return any(matches)

    def _mac(self, key: bytes, message: bytes) -> str:
        return _encoded(hmac.digest(key, message, "sha256"))
