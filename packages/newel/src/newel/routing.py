"""Finds a request's route in one step, however many routes there are and however deep they lie.

FastAPI tries one route after the other, at each level of inclusion anew: the last of 200 routes at
depth 3 costs a millisecond. ``RouteIndex`` stands in front of that search, looks the path up in a
tree, and asks FastAPI's own object of the route it finds to match and to handle. What it does not
find, or could find differently, is left to FastAPI: 404, 405, redirects, websockets, mounts, and
routes that are added later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

# FastAPI has no public name for a route as it is after the inclusion of its routers. Each of these
# is held by test_routing.py, which fails as soon as a release of FastAPI moves one.
from fastapi.routing import (  # isort: skip
    _EffectiveRouteContext,  # pyright: ignore[reportPrivateUsage] - see above
    _IncludedRouter,  # pyright: ignore[reportPrivateUsage] - see above
)
from fastapi.telemetry._api import (  # isort: skip
    _route_selected,  # pyright: ignore[reportPrivateUsage] - as above
)

__all__ = ["RouteIndex"]

_SCOPE_KEY: Final = "fastapi"
_CONTEXT_KEY: Final = "effective_route_context"

_Found = tuple[int, "BaseRoute | _EffectiveRouteContext"]


class _Node:
    """One segment of paths: what follows it, and the routes that end here."""

    __slots__ = ("anything", "deeper", "literals", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.anything: _Node | None = None
        self.routes: list[_Found] = []
        self.deeper: list[_Found] = []
        """Routes whose pattern from here on is more than a name a segment: each is tried."""

    def place(self, segments: Sequence[str], found: _Found) -> None:
        if not segments:
            self.routes.append(found)
        elif "{" not in segments[0]:
            self.literals.setdefault(segments[0], _Node()).place(segments[1:], found)
        elif segments[0][:1] == "{" and segments[0][-1:] == "}" and ":" not in segments[0]:
            self.anything = self.anything or _Node()
            self.anything.place(segments[1:], found)
        else:
            self.deeper.append(found)

    def find(self, segments: Sequence[str], depth: int, found: list[_Found]) -> None:
        found.extend(self.deeper)
        if depth == len(segments):
            found.extend(self.routes)
            return
        literal = self.literals.get(segments[depth])
        if literal is not None:
            literal.find(segments, depth + 1, found)
        if self.anything is not None:
            self.anything.find(segments, depth + 1, found)


class RouteIndex:
    """The HTTP routes of an application as a tree, as its ``app.router.middleware_stack``.

    Of several routes that match, the one that was registered first answers, as ever.
    """

    def __init__(self, app: FastAPI) -> None:
        self._router = app.router
        self._search = app.router.middleware_stack
        self._root = _Node()
        self._opaque: list[tuple[int, BaseRoute]] = []
        for order, route in enumerate(_flat(app.router.routes)):
            if isinstance(route, _EffectiveRouteContext | Route):
                # `path` still has the convertors ("{path:path}"), which `path_format` leaves out.
                self._root.place(route.path.split("/"), (order, route))
            else:
                self._opaque.append((order, route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.find(scope)
        if found is None:
            await self._search(scope, receive, send)
            return
        scope.setdefault("router", self._router)
        scope.update(found)
        route: BaseRoute = scope["route"]
        named: Any = scope.get(_SCOPE_KEY, {}).get(_CONTEXT_KEY) or route
        _route_selected(scope=scope, path=named.path_format)
        await route.handle(scope, receive, send)

    def find(self, scope: Scope) -> Scope | None:
        """Return what FastAPI would put into the scope on its way; ``None``: ask it."""
        if scope["type"] != "http" or self._router.form_limits:
            return None
        candidates: list[_Found] = []
        self._root.find(get_route_path(scope).split("/"), 0, candidates)
        for order, route in sorted(candidates, key=_order):
            match, child = route.matches(scope)
            if match is Match.FULL:
                return None if self._is_preceded(order, scope) else _scope_of(route, child)
        return None

    def answers(self, scope: Scope) -> bool:
        """Tell whether any route is there for this request, those that are added later too."""
        return self.find(scope) is not None or any(
            route.matches(scope)[0] is Match.FULL for route in self._router.routes
        )

    def _is_preceded(self, order: int, scope: Scope) -> bool:
        """Tell whether something that is no route, such as a mount, answers this path before."""
        return any(
            before < order and route.matches(scope)[0] is Match.FULL
            for before, route in self._opaque
        )


def _order(found: _Found) -> int:
    return found[0]


def _scope_of(route: BaseRoute | _EffectiveRouteContext, child: Scope) -> Scope:
    """Return what FastAPI would have put into the scope on its way down to the route."""
    if isinstance(route, _EffectiveRouteContext):
        return {**child, "route": route.original_route, _SCOPE_KEY: {_CONTEXT_KEY: route}}
    return {**child, "route": route}


def _flat(routes: Iterable[Any]) -> Iterator[BaseRoute | _EffectiveRouteContext]:
    """Yield routes in the order in which FastAPI tries them."""
    for route in routes:
        if isinstance(route, _IncludedRouter):
            if route.include_context.form_limits:
                yield route  # they are applied on the way down, level by level
            else:
                yield from _flat(route.effective_candidates())
        elif isinstance(route, _EffectiveRouteContext) and not isinstance(
            route.original_route, APIRoute
        ):
            yield route.starlette_route or route.original_route
        else:
            yield route
