"""Passwords: hashed with Argon2id off the event loop, and refused when they are easily guessed."""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Final

from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from newel.errors import FieldError, Invalid
from newel.tasks import Threads

__all__ = ["NewPassword", "Passwords", "Verified", "check_strength"]

# OWASP's smallest recommended Argon2id. The library's own defaults (64 MiB, 3 passes, 4 lanes)
# cost eight times the CPU, and 1.28 GB when 20 people log in at once.
_MEMORY_KIB: Final = 19_456
_PASSES: Final = 2
_LANES: Final = 1

_MIN_LENGTH: Final = 8
_MAX_LENGTH: Final = 256
_BCRYPT_MAX_BYTES: Final = 72
_MIN_PERSONAL_LENGTH: Final = 4
"""Shorter personal words ("al", "ann") stand in too many good passwords."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The outcome of a verification.

    ``rehash`` is set if the password was right and its hash is of an older kind: store it.
    """

    ok: bool
    rehash: str | None = None


class Passwords:
    """Hashes and verifies passwords in threads of its own: one for each CPU, ``queue`` waiting.

    Argon2id with 19 MiB, 2 passes, 1 lane (OWASP); old bcrypt hashes verify and are upgraded. A
    hash takes about 25 ms of CPU, so it must neither run on the event loop nor pile up: who comes
    when the queue is full gets ``Unavailable`` at once. The threads start with the first use;
    ``close`` lets them finish and go.
    """

    def __init__(self, *, threads: int | None = None, queue: int = 32) -> None:
        self._threads = Threads(
            "newel-passwords",
            _available_cpus() if threads is None else threads,
            waiting=queue,
            refusal="Too many log-ins at once. Try again in a moment.",
        )
        self._argon2 = Argon2Hasher(memory_cost=_MEMORY_KIB, time_cost=_PASSES, parallelism=_LANES)
        self._bcrypt = BcryptHasher()
        self._nobodys_hash = _random_hash()

    async def hash(self, password: str | SecretStr) -> str:
        """Return the Argon2id hash of ``password``, in PHC form; any text is hashed as it is."""
        plain = _bytes_of(password)
        return await self._threads.run(lambda: self._argon2.hash(plain))

    async def verify(self, password: str | SecretStr, hashed: str | None) -> Verified:
        """Tell whether ``password`` is the one that was hashed.

        ``hashed`` is ``None`` for an account that does not exist: the same work is done, so that
        the time tells nothing. A text that is no hash we know (``"!"``) matches no password.
        Raises ``Unavailable`` when the queue is full.
        """
        plain = _bytes_of(password)
        return await self._threads.run(lambda: self._verify(plain, hashed))

    def close(self) -> None:
        """End the threads after the work they have; does not wait. A later use starts new ones."""
        self._threads.close()

    def _verify(self, plain: bytes, hashed: str | None) -> Verified:
        if hashed is not None and self._bcrypt.identify(hashed):
            ok = self._bcrypt_matches(plain, hashed)
            stale = ok
        else:
            if hashed is None or not self._argon2.identify(hashed):
                hashed = self._nobodys_hash
            ok = self._argon2.verify(plain, hashed)
            stale = ok and self._argon2.check_needs_rehash(hashed)
        return Verified(ok=ok, rehash=self._argon2.hash(plain) if stale else None)

    def _bcrypt_matches(self, plain: bytes, hashed: str) -> bool:
        try:
            # bcrypt sees 72 bytes. Older libraries cut silently, so old hashes are of cut
            # passwords; the present one raises an error instead.
            return self._bcrypt.verify(plain[:_BCRYPT_MAX_BYTES], hashed)
        except ValueError:  # a salt that it does not take, as of "$2x$"
            return False


def _available_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # pragma: no cover - not on macOS and Windows
        return os.cpu_count() or 1


def _bytes_of(password: str | SecretStr) -> bytes:
    plain = password.get_secret_value() if isinstance(password, SecretStr) else password
    # A lone surrogate is no UTF-8. It is a wrong password like another, not an error.
    return plain.encode("utf-8", "surrogatepass")


def _random_hash() -> str:
    """Return a hash that costs what ours cost and that no password matches."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (16, 32)
    )
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${salt}${digest}"


def check_strength(
    password: str | SecretStr,
    *,
    composition: bool = False,
    personal: Sequence[str] = (),
    pointer: str = "#/password",
) -> None:
    """Raise ``Invalid``, naming each broken rule, if ``password`` must not be used.

    8 to 256 characters, no NUL, none of the 3,000 most used passwords, and nothing ``personal``
    in it (the e-mail address, the name). ``composition`` adds an upper-case letter, a lower-case
    letter and a digit; that is off by default because it makes passwords worse, not better.
    ``pointer`` names the field in the error. Source: NIST SP 800-63B-4, OWASP ASVS 5, V6.2.
    """
    plain = password.get_secret_value() if isinstance(password, SecretStr) else password
    broken = [
        FieldError(pointer=pointer, code=code, message=message)
        for code, message in _broken_rules(plain, composition=composition, personal=personal)
    ]
    if broken:
        raise Invalid(broken[0].message, errors=broken)


def _broken_rules(
    plain: str, *, composition: bool, personal: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield a code and a message for each broken rule."""
    folded = plain.casefold()
    if len(plain) < _MIN_LENGTH:
        yield "password_too_short", f"The password needs at least {_MIN_LENGTH} characters."
    if len(plain) > _MAX_LENGTH:
        yield "password_too_long", f"The password may have at most {_MAX_LENGTH} characters."
    if "\0" in plain:
        yield "password_nul", "The password must not contain a NUL character."
    if folded in _common_passwords():
        yield "password_common", "This password is one of the most used; choose another."
    if any(word in folded for word in _personal_words(personal)):
        yield "password_personal", "The password must not contain your name or address."
    if composition and not (
        any(map(str.isupper, plain))
        and any(map(str.islower, plain))
        and any(map(str.isdigit, plain))
    ):
        yield (
            "password_composition",
            "The password needs an upper-case letter, a lower-case letter and a digit.",
        )


def _personal_words(personal: Sequence[str]) -> Iterator[str]:
    for each in personal:
        # Of an address only what is before the @: "gmail" and "company" are not personal.
        local = each.casefold().rpartition("@")[0] or each.casefold()
        for word in (local, *re.split(r"[\W_]+", local)):
            if len(word) >= _MIN_PERSONAL_LENGTH:
                yield word


@cache
def _common_passwords() -> frozenset[str]:
    lines = resources.files("newel").joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line for line in lines.splitlines() if not line.startswith("#"))


def _without_nul(password: SecretStr) -> SecretStr:
    if "\0" in password.get_secret_value():
        raise PydanticCustomError("string_nul", "The password must not contain a NUL character.")
    return password


NewPassword = Annotated[
    SecretStr,
    # The pattern is only shown: pydantic does not look for patterns in a secret.
    Field(
        min_length=_MIN_LENGTH,
        max_length=_MAX_LENGTH,
        json_schema_extra={"pattern": r"^[^\x00]*$"},
    ),
    AfterValidator(_without_nul),
]
"""A password that is being set, in a schema: 8 to 256 characters, never printed.

What needs to know the account, ``check_strength``, is the service's to call.
"""
