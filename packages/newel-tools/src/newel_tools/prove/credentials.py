"""Which operations register and log in, and what in their bodies and answers are credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from newel_tools.prove.operations import Operation

__all__ = ["Form", "find_log_in", "find_refresh", "find_registration", "is_entrance", "tokens_in"]

_PASSWORD: Final = re.compile(
    r"^(pass_?word|passwd|pwd|pass|password1|user_?password)$", re.IGNORECASE
)
_AGAIN: Final = re.compile(
    r"pass.*(confirm|again|repeat|2)|(confirm|repeat|re).*pass", re.IGNORECASE
)
_NAMES: Final = ("email", "e_mail", "user_email", "username", "user_name", "login", "name", "phone")
_LOG_IN: Final = re.compile(
    r"log[-_]?in|sign[-_]?in|token|authenticate|sessions?$|auth$", re.IGNORECASE
)
_REGISTER: Final = re.compile(r"register|registration|sign[-_]?up|join$", re.IGNORECASE)
_PEOPLE: Final = re.compile(
    r"(users?|accounts?|members?|customers?)/?(open|create|new|add)?/?$", re.IGNORECASE
)
_OTHER: Final = re.compile(
    r"reset|forgot|recover|verif|confirm|change|refresh|revoke|log[-_]?out|test|private|2fa|otp",
    re.IGNORECASE,
)
_ENTRANCE: Final = re.compile(
    r"/(log[-_]?(in|out)|sign[-_]?(in|up|out)|register|registration|tokens?|access[-_]token|"
    r"refresh([-_]?tokens?)?|jwt|oauth2?|authori[sz]e|authenticate|auth|sessions?|"
    r"[\w-]*(forgot|reset|recover|resend|verification|verify[-_]?(e?mail|account|token|otp)|"
    r"confirm[-_]?(e?mail|account)|activate[-_]account|magic[-_]?link)[\w-]*)(/[^/]*)?/?$",
    re.IGNORECASE,
)
_TOKENS: Final[Mapping[str, tuple[str, ...]]] = {
    "access": ("access_token", "accesstoken", "token", "access", "jwt", "id_token", "auth_token"),
    "refresh": ("refresh_token", "refreshtoken", "refresh"),
}


@dataclass(frozen=True, slots=True)
class Form:
    """An operation that takes credentials: where in its body the name and the password are."""

    operation: Operation
    user: tuple[str, ...]
    password: tuple[str, ...]
    again: tuple[tuple[str, ...], ...] = ()

    @property
    def wants_email(self) -> bool:
        """Tell whether the name has to be an e-mail address."""
        return "mail" in self.user[-1].lower()


def find_log_in(operations: Iterable[Operation], *, token_urls: Iterable[str] = ()) -> list[Form]:
    """Return the operations that may log in, the likeliest first."""
    endings = tuple(url.strip("/").rpartition("://")[2] for url in token_urls if url.strip("/"))

    def weight(form: Form) -> int:
        path = form.operation.path.strip("/")
        said = f"{path} {form.operation.name}"
        found = 10 * path.endswith(endings) if endings else 0
        found += 5 * bool(_LOG_IN.search(said)) - 20 * bool(_OTHER.search(path))
        found += 2 * (form.operation.media == "application/x-www-form-urlencoded")
        return found - 20 * bool(_REGISTER.search(path)) - 5 * form.operation.secured

    return _best(_forms(operations), weight)


def find_odd_log_in(operations: Iterable[Operation]) -> tuple[Operation, dict[str, str]] | None:
    """Return a log-in that takes a password and no known name, with words for its fields."""
    for operation in operations:
        required = operation.schemas.required(operation.body)
        words = {
            name: "{password}" if _PASSWORD.match(name) else "{username}"
            for name in operation.fields
            if name in required or _PASSWORD.match(name)
        }
        is_log_in = _LOG_IN.search(operation.path) and not _OTHER.search(operation.path)
        if operation.method == "POST" and is_log_in and "{password}" in words.values():
            return operation, words
    return None


def find_registration(operations: Iterable[Operation], *, not_this: Form | None) -> list[Form]:
    """Return the operations that may make an account, the likeliest first."""

    def weight(form: Form) -> int:
        path = form.operation.path
        found = 6 * bool(_REGISTER.search(path)) + 3 * bool(_PEOPLE.search(path))
        found -= 20 * bool(_OTHER.search(path)) + 8 * bool(_LOG_IN.search(path.rsplit("/", 1)[-1]))
        return found - 2 * form.operation.secured

    forms = [form for form in _forms(operations) if form != not_this]
    return _best(forms, weight)


def find_refresh(operations: Iterable[Operation]) -> Operation | None:
    """Return the operation that renews an access token."""
    named = [operation for operation in operations if "refresh" in operation.path.lower()]
    return min(named, key=lambda operation: operation.method != "POST", default=None)


def is_entrance(operation: Operation) -> bool:
    """Tell whether an operation is about getting in or out: it is meant to be open to anyone."""
    return operation.method == "POST" and _ENTRANCE.search(operation.path) is not None


def _best(forms: Iterable[Form], weight: Any) -> list[Form]:
    weighed = [(weight(form), form) for form in forms]
    kept = [(value, form) for value, form in weighed if value > 0]
    return [form for _, form in sorted(kept, key=lambda pair: -pair[0])]


def _forms(operations: Iterable[Operation]) -> Iterator[Form]:
    for operation in operations:
        if operation.method != "POST" or operation.body is None:
            continue
        fields = dict(_fields(operation, operation.body, ()))
        password = next((path for path in fields if _PASSWORD.match(path[-1])), None)
        lowered = {path[-1].lower(): path for path in reversed(fields)}
        user = next((lowered[name] for name in _NAMES if name in lowered), None)
        if password is not None and user is not None:
            again = tuple(p for p in fields if p != password and _AGAIN.search(p[-1]))
            yield Form(operation, user, password, again)


def _fields(
    operation: Operation, schema: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in operation.schemas.properties(schema).items():
        yield (*path, name), inner
        if len(path) < 1:
            yield from _fields(operation, inner, (*path, name))


def tokens_in(answer: Any) -> dict[str, str]:
    """Return the tokens in an answer's JSON: `access` and `refresh`, where they are."""
    found: dict[str, str] = {}
    strings = dict(_strings(answer, 0))
    for kind, names in _TOKENS.items():
        value = next((strings[name] for name in names if strings.get(name)), None)
        if value is not None:
            found[kind] = value
    return found


def _strings(value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth < 4:
        for name, inner in cast("dict[str, Any]", value).items():
            if isinstance(inner, str):
                yield name.lower().replace("-", "_"), inner
            else:
                yield from _strings(inner, depth + 1)
