"""Names that hold secrets, and texts that are one rather than stand for one."""

from __future__ import annotations

import ast
import re
from typing import Final, Literal

__all__ = [
    "SecretKind",
    "address_secret",
    "is_filled_in",
    "is_given_key",
    "is_placeholder",
    "is_random",
    "is_sent_nowhere",
    "literal",
    "secret_kind",
]

SecretKind = Literal["signing", "credential", "admin"]
"""What a secret opens: all that is signed or encrypted, another service, the first log-in."""

_ADMIN: Final = re.compile(
    r"(^|_)(admin|superuser|super_admin|root_user|first_user)_?(password|passwd|pwd)$",
    re.IGNORECASE,
)
_SIGNING: Final = re.compile(
    r"(^|_)(secret(_?key)?|jwt(_secret)?_?key|jwt_?secret|sign(ing)?_?key|encrypt(ion)?_?key"
    r"|(session|token|auth|app|cookie)_?secret(_key)?|private_?key|master_?key|hmac_?key|fernet_?key)$",
    re.IGNORECASE,
)
_CREDENTIAL: Final = re.compile(
    r"(^|_)(password|passwd|pwd|passphrase|api_?key|access_?key|api_?token|auth_?token|bot_?token"
    r"|access_?token|api_?secret|client_?secret|webhook_?secret|secret_?access_?key)$",
    re.IGNORECASE,
)
_PASSWORD: Final = re.compile(
    r"^((hashed|encrypted|user|admin|raw|plain)_?)?(password|passwd|pwd)(_?(hash|hashed|digest|salt))?$"
    r"|^(hash|salt)ed_?(password|pwd)$|^(mfa|otp|totp|two_?factor)_?secret$",
    re.IGNORECASE,
)
# Keys whose form says whose they are: https://docs.github.com and the providers' own pages.
_GIVEN: Final = re.compile(
    r"^(sk-(proj-|ant-)?[A-Za-z0-9_-]{20,}|sk_live_[A-Za-z0-9]{16,}|rk_live_[A-Za-z0-9]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|SG\.[\w-]{16,}\.[\w-]{16,})$"
    r"|-----BEGIN (RSA |EC |OPENSSH )?PRIVATE KEY-----\n?[A-Za-z0-9+/=\s]{64,}"
)
_PLACEHOLDER: Final = re.compile(
    r"(change[-_ ]?(this|me|it)?|your[-_ ]|example|placeholder|dummy|replace|insert|todo|xxx+"
    r"|\.\.\.|\*\*\*|<[^>]*>|^\$\{?\w|^(secret|password|passwd|postgres|root|admin|test|string|none|null|guest|user)$)",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(
    r"^(https?://|\.{0,2}/|[A-Z_]+$|\w+://|[\W_]+$)|\.(pem|key|crt|json|txt)$|\s"
)
_ADDRESS: Final = re.compile(
    r"(postgres(ql)?|asyncpg|psycopg|mysql|mariadb|mssql|oracle|cockroachdb|clickhouse"
    r"|mongodb|rediss?|amqps?)(\+\w+)?://(?P<user>[^:/@\s]*):(?P<password>\S+)@(?P<host>[^/@\s?]+)(/\S*|\?\S*)?"
)
_ESCAPED: Final = re.compile(r"%[0-9A-Fa-f]{2}")  # `%40` for `@`; other `%` fill a template in
_OF_LISTS: Final = re.compile(r"(?<=[\w-])todo|todo(?=[\w-])", re.IGNORECASE)  # `todos.db.io`
_LOCAL_HOST: Final = re.compile(
    r"(localhost|127\.[\d.]+|0\.0\.0\.0|\[::1\]|host\.docker\.internal)(:|$)", re.IGNORECASE
)
_WEAK: Final = re.compile(
    r"(my|db|user|some)?[-_]?(pass(word|wd)?|pw|pwd|secret)[\d!]*|\d{1,8}"
    r"|(admin|root|postgres|mysql|mongo|redis|user|test|guest|app)[\d!@]*",
    re.IGNORECASE,
)
_FILLED_IN: Final = re.compile(r"\{\{.*\}\}")  # what is made from a template has its own there


def secret_kind(name: str) -> SecretKind | None:
    """Return what a variable or field of this name opens; `None` if it is no secret's name."""
    if _ADMIN.search(name):
        return "admin"
    if _SIGNING.search(name):
        return "signing"
    return "credential" if _CREDENTIAL.search(name) else None


def is_sent_nowhere(name: str) -> bool:
    """Tell whether a field or column of this name is a password or its hash: nobody reads it."""
    return _PASSWORD.search(name) is not None


def is_given_key(text: str) -> bool:
    """Tell whether a text has the form of a key that a provider gave out, or of a private key."""
    return _GIVEN.search(text) is not None and not _PLACEHOLDER.search(text)


def address_secret(text: str) -> Literal["block", "note"] | None:
    """Return how bad a text is as the address of a server: it may hold a password.

    On this machine, or as a placeholder, it is none; for a name that only a compose file knows, a
    note.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or _LOCAL_HOST.match(found["host"]):
        return None
    if set("{}%$<>") & set(_ESCAPED.sub("", text)):
        return None
    password = found["password"]
    if is_placeholder(_OF_LISTS.sub("", found["host"])) or is_placeholder(password):
        return None
    if _WEAK.fullmatch(password) or password == found["user"]:
        return None
    return "block" if "." in found["host"] else "note"


def is_random(text: str) -> bool:
    """Tell whether a text looks generated: long, of letters and digits, and no words."""
    letters = any(character.isalpha() for character in text)
    digits = sum(character.isdigit() for character in text)
    return len(text) >= 20 and letters and digits >= 4 and not is_placeholder(text)


def is_placeholder(text: str) -> bool:
    """Tell whether a text stands for a secret that somebody is to put there."""
    return _PLACEHOLDER.search(text) is not None


def is_filled_in(text: str) -> bool:
    """Tell whether a text is a gap of a template, as in `"{{ project.secret_key }}"`."""
    return _FILLED_IN.search(text) is not None


def literal(node: ast.expr | None, *, name: str) -> str | None:
    """Return the secret that an expression holds literally; `None` for a path, an address, a name.

    ``name`` is what the expression is given to: a text that only repeats it is none.
    """
    match node:
        case ast.Constant(value=str(text)) if (
            text and not _NO_SECRET.search(text) and not is_filled_in(text)
        ):
            plain = re.sub(r"[\W_]", "", text).lower()
            return None if plain and plain in re.sub(r"_", "", name).lower() else text
        case ast.Call(func=ast.Name(id="SecretStr"), args=[inner]):
            return literal(inner, name=name)
        case _:
            return None
