"""Who asks: an anonymous caller, users, an administrator, and what each of them sends along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ANONYMOUS", "Caller"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody with the headers that prove who they are; the anonymous caller has none.

    ``id`` is the user's own id as text, where it is known, and ``account`` the row of the database;
    ``tokens`` what the log-in answered.
    """

    name: str
    username: str = ""
    password: str = ""
    id: str | None = None
    account: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    tokens: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def secret_words(self) -> Mapping[str, str]:
        """What a shell calls the secrets in this caller's headers: `$USER_TOKEN` by the token."""
        word = "$" + self.name.upper().replace(" ", "_")
        found = {
            secret: f"{word}_{kind.upper()}"
            for kind, secret in (
                ("cookie", self.tokens.get("cookie")),  # which may hold the token
                ("token", self.tokens.get("access")),
            )
            if secret
        }
        whole = dict.fromkeys(self.headers.values(), f"{word}_HEADER")
        return found or whole

    @property
    def is_anonymous(self) -> bool:
        """Tell whether nothing is sent along."""
        return not self.headers


ANONYMOUS = Caller(name="anonymous")
