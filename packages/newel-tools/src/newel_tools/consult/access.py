"""Who may call a route, as far as its dependencies say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.shapes import Place

__all__ = ["Access", "access_of"]

_GUARD: Final = re.compile(
    r"auth|current_?(active_?)?(user|caller|account|super)|log(ged)?_?in|admin|superuser|permission"
    r"|role|scope|token|api_?key|verify|principal|require|guard|jwt|bearer",
    re.IGNORECASE,
)
_PERMISSIONS: Final = re.compile(r"permission|role|scope|right", re.IGNORECASE)
_DECLARED: Final = "__newel_access__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a caller needs; nothing when anyone may call.

    ``needs`` are permissions (`agents:write`), roles (`role:admin`), scopes (`scope:items`), or the
    names of the dependencies that guard the route. ``declared``: the route says itself that it is
    public, nobody forgot it.
    """

    needs: frozenset[str]
    declared: bool = False

    def __str__(self) -> str:
        """The needs, `public` for a route that says so, `open` for one that says nothing."""
        return ", ".join(sorted(self.needs)) or ("public" if self.declared else "open")


def access_of(route: Route) -> Access:
    """Return what ``route`` asks of its callers."""
    declared = [
        said
        for node in route.dependencies
        if (said := _texts(_values(node).get(_DECLARED))) is not None
    ]
    if declared:
        return Access(needs=frozenset(need for said in declared for need in said), declared=True)
    scopes = set[str]()
    for node in route.dependencies:
        scopes |= {f"scope:{scope}" for scope in node.oauth_scopes}
    guards = {name for node in route.dependant.dependencies for name in _guards(node)}
    return Access(needs=frozenset(guards) | scopes)


def _guards(node: Dependency) -> Iterator[str]:
    """Yield the names of the outermost guards: the one that asks for most stands above the rest."""
    if node.security is not None:
        yield node.security.name
    elif node.call is not None and _guards_by_name(node.call):
        yield _named(node)
    else:
        for inner in node.dependencies:
            yield from _guards(inner)


def _guards_by_name(call: Place) -> bool:
    # FastAPI's own log-in form is called OAuth2PasswordRequestForm, and guards nothing.
    return not call.module.startswith("fastapi.") and _GUARD.search(call.name) is not None


def _named(node: Dependency) -> str:
    """Return the guard's name with the permissions it was made with: `RoleChecker(admin)`.

    Other values stay unsaid: one may be a key, and contracts are committed.
    """
    name = node.call.name.partition(".<locals>")[0].lstrip("_") if node.call else ""
    said: list[str] = []
    for key, value in _values(node).items():
        if value is True:
            said.append(key)
        elif _PERMISSIONS.search(key):
            said += [value] if isinstance(value, str) else _texts(value) or []
    return f"{name}({', '.join(said)})" if said else name


def _texts(value: object) -> list[str] | None:
    return list(map(str, cast("list[Any]", value))) if isinstance(value, list) else None


def _values(node: Dependency) -> Mapping[str, Any]:
    """Return what a dependency's callable was made with."""
    return node.values
