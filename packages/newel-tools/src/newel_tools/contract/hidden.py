"""Breaks that no OpenAPI document shows.

Kept in the baseline beside the paths (``x-newel-routes``), from the facts of the application:
routes that are left out of the document, who may call each, and what is left out of answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from newel_tools.consult.access import access_of
from newel_tools.contract.baseline import ROUTES
from newel_tools.contract.changes import Change, change
from newel_tools.facts.facts import Facts
from newel_tools.facts.routes import Route
from newel_tools.openapi.document import Document

__all__ = ["compare_hidden", "hidden_facts"]

_KINDS = ("http", "websocket", "plain")


def hidden_facts(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return what the baseline keeps of each route, by ``GET /path``; defaults are left out."""
    found: dict[str, dict[str, Any]] = {}
    for route in facts.routes:
        if route.kind not in _KINDS or _is_documentation(route, facts):
            continue
        said: dict[str, Any] = {"access": sorted(access_of(route).needs)}
        if not route.in_schema:
            said["hidden"] = True
        if omitted := _omitted(route):
            said["omitted"] = omitted
        for method in sorted(route.methods) or ["WS"]:
            if method != "HEAD":
                found[f"{method} {route.path}"] = said
    return found


def compare_hidden(old: Document, new: Document) -> Iterator[Change]:
    """Yield what changed of the routes that both documents keep facts of."""
    before, after = _routes(old), _routes(new)
    if ROUTES not in old.content:
        return
    for name, said in before.items():
        if name not in after:
            if said.get("hidden"):
                text = "the route is gone; no document ever showed it"
                yield change("hidden-route-removed", operation=name, text=text)
            continue
        now = after[name]
        if now.get("hidden") and not said.get("hidden"):
            text = "the route is still there, but no document shows it any more"
            yield change("route-hidden", operation=name, text=text)
        yield from _access(name, set(said.get("access", ())), set(now.get("access", ())))
        yield from _omissions(name, said.get("omitted") or {}, now.get("omitted") or {})
    for name, said in after.items():
        if name not in before and said.get("hidden"):
            text = "the route is new, and no document shows it"
            yield change("hidden-route-added", operation=name, text=text)


def _access(name: str, before: set[str], after: set[str]) -> Iterator[Change]:
    if before == after:
        return
    asked, dropped = sorted(after - before), sorted(before - after)
    if asked and dropped:
        text = f"callers need {', '.join(asked)} now, not {', '.join(dropped)}"
        yield change("access-changed", operation=name, text=text)
    elif asked:
        yield change("access-narrowed", operation=name, text=f"callers need {', '.join(asked)} now")
    else:
        text = f"callers no longer need {', '.join(dropped)}"
        yield change("access-widened", operation=name, text=text)


def _omissions(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for option in sorted(before.keys() | after.keys()):
        was, is_now = before.get(option), after.get(option)
        if was == is_now:
            continue
        looser = is_now is None
        kept, left = _texts(was), _texts(is_now)
        if kept and left:
            looser = left > kept if option.endswith("include") else left < kept
        rule = "response-exclude-loosened" if looser else "response-exclude-changed"
        text = f"{option} went from {_shown(was)} to {_shown(is_now)}; the document looks the same"
        yield change(rule, operation=name, where="response", text=text)


def _omitted(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in route.response.options.items():
        if value:
            listed = isinstance(value, list)
            found[name] = sorted(map(str, cast("list[Any]", value))) if listed else value
    return found


def _is_documentation(route: Route, facts: Facts) -> bool:
    said = facts.application or {}
    urls = [said.get(name) for name in ("openapi_url", "docs_url", "redoc_url")]
    return route.path in urls or route.path == f"{said.get('docs_url')}/oauth2-redirect"


def _routes(document: Document) -> Mapping[str, Mapping[str, Any]]:
    return cast("Mapping[str, Mapping[str, Any]]", document.content.get(ROUTES) or {})


def _texts(value: object) -> set[str]:
    return set(map(str, cast("list[Any]", value))) if isinstance(value, list) else set()


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(sorted(_texts(cast("list[Any]", value))))
    return "nothing" if value is None else str(value)
