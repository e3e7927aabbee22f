"""How a client logs in and shows who it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from newel_tools.consult.access import access_of
from newel_tools.facts.facts import Facts
from newel_tools.openapi.document import Document, Operation

__all__ = ["Login", "Scheme", "login_of"]

_STEPS: Final = {
    "register": r"/(register|sign-?up|registration)$",
    "log in": r"/(log-?in|token|sign-?in|authenticate|access-token)$",
    "refresh": r"/refresh(-token)?$",
    "log out": r"/(log-?out|sign-?out)$",
    "who am I": r"/(me|whoami)$",
}
_NO_GUARD: Final = ("open", "public")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One way to show who is calling; ``send`` is what travels with each request."""

    name: str
    type: str
    send: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How an application knows its callers.

    ``steps`` maps what a client does (`log in`, `refresh`) to the operation; ``needs`` says how
    many routes ask for what; ``open_routes`` are those that nothing guards.
    """

    schemes: tuple[Scheme, ...]
    steps: Mapping[str, str]
    needs: Mapping[str, int]
    open_routes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the answer for machines."""
        return {
            "schemes": [
                {"name": one.name, "type": one.type, "send": one.send, "about": one.description}
                for one in self.schemes
            ],
            "steps": dict(self.steps),
            "needs": dict(self.needs),
            "open": list(self.open_routes),
        }


def login_of(facts: Facts, document: Document) -> Login:
    """Return how to log in, from the document's schemes and the routes' dependencies."""
    components = cast("Mapping[str, Any]", document.content.get("components") or {})
    said = cast("Mapping[str, Any]", components.get("securitySchemes") or {})
    schemes = {name: document.resolve(node)[0] for name, node in said.items()}
    needs: Counter[str] = Counter()
    unguarded: list[str] = []
    for route in facts.routes:
        if route.kind not in ("http", "websocket"):
            continue
        access = str(access_of(route))
        needs[access] += 1
        if access in _NO_GUARD:
            unguarded.append(f"{route.label}{' (declared public)' if access == 'public' else ''}")
    return Login(
        schemes=tuple(_scheme(name, dict(node)) for name, node in schemes.items()),
        steps=_steps(document, schemes),
        needs=dict(needs.most_common()),
        open_routes=tuple(sorted(unguarded)),
    )


def _scheme(name: str, node: Mapping[str, Any]) -> Scheme:
    kind = str(node.get("type", ""))
    match kind:
        case "apiKey":
            where = {"header": "the header", "query": "the query parameter", "cookie": "the cookie"}
            send = f"{where.get(str(node.get('in')), 'the')} {node.get('name')}: <key>"
        case "http" if str(node.get("scheme", "")).lower() == "basic":
            send = "Authorization: Basic <base64 of user:password>"
        case "http":
            send = f"Authorization: {str(node.get('scheme', '')).capitalize()} <credentials>"
        case "oauth2":
            flows = ", ".join(cast("Mapping[str, Any]", node.get("flows") or {}))
            kind = f"oauth2 ({flows})" if flows else kind
            send = "Authorization: Bearer <access token>"
        case _:
            send = "Authorization: Bearer <token>"
    return Scheme(name=name, type=kind, send=send, description=str(node.get("description", "")))


def _steps(document: Document, schemes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    urls = [
        str(flow.get("tokenUrl", ""))
        for node in schemes.values()
        for flow in cast("Mapping[str, Mapping[str, Any]]", node.get("flows") or {}).values()
    ]
    operations = list(document.operations.values())
    for step, pattern in _STEPS.items():
        method = "get" if step == "who am I" else "post"
        known = [one for one in operations if one.method == method]
        if step == "log in" and (named := _with_path(known, urls)) is not None:
            found[step] = named.name
        elif matching := [one for one in known if re.search(pattern, one.path.rstrip("/"))]:
            found[step] = min(matching, key=lambda one: len(one.path)).name
    return found


def _with_path(operations: list[Operation], urls: list[str]) -> Operation | None:
    for url in urls:
        end = "/" + url.strip("/")
        for one in operations:
            if url and one.path.rstrip("/").endswith(end):
                return one
    return None
