"""Who is calling, as a value. How we know is ``auth``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

__all__ = ["ANYONE", "Principal", "dump_principal", "grants", "load_principal"]


def grants(held: frozenset[str], wanted: str) -> bool:
    """Tell whether a set of permissions contains ``wanted``.

    A permission is ``resource:verb``; ``resource:*`` grants every verb of a resource and ``*`` all.

    >>> grants(frozenset({"agents:*"}), "agents:write")
    True
    """
    if wanted in held or "*" in held:
        return True
    resource, colon, _ = wanted.partition(":")
    return colon != "" and f"{resource}:*" in held


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller of a request, job or handler.

    ``id`` is the user's id and ``None`` for anyone who is not logged in. Permissions are
    ``resource:verb`` strings (see ``grants``). Equal principals may share a cached answer.
    """

    id: UUID | None = None
    roles: frozenset[str] = field(default_factory=frozenset[str])
    permissions: frozenset[str] = field(default_factory=frozenset[str])
    tenant_id: UUID | None = None
    session_id: UUID | None = None

    @property
    def user_id(self) -> UUID:
        """The id of the logged-in user; ``RuntimeError`` if there is none: the route is wrong."""
        if self.id is None:
            raise RuntimeError("nobody is logged in: declare requires(...) on the route")
        return self.id

    @property
    def is_authenticated(self) -> bool:
        return self.id is not None

    def can(self, permission: str) -> bool:
        """Tell whether this caller holds ``permission``."""
        return grants(self.permissions, permission)


ANYONE = Principal()
"""Whoever calls a ``public()`` route without being logged in."""

_ADAPTER: Final = TypeAdapter(Principal)


@lru_cache(maxsize=1024)
def dump_principal(principal: Principal) -> str:
    """Return ``principal`` as JSON: how a job remembers who enqueued it."""
    return _ADAPTER.dump_json(principal).decode()


@lru_cache(maxsize=1024)
def load_principal(text: str) -> Principal:
    """Return the principal that ``dump_principal`` wrote."""
    return _ADAPTER.validate_json(text)
