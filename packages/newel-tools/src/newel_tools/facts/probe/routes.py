"""Routes, flattened through includes and mounts, with their trees of dependencies."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from .older import info_of
from .places import Places, class_of, plain, type_name, unwrapped
from .shapes import Shapes

__all__ = ["Routes"]

_PERMISSIONS = re.compile("permission|role|scope|right", re.IGNORECASE)
_RANKS = re.compile("^(is_)?(super_?user|admin|staff)$", re.IGNORECASE)
_SOURCES = ("path", "query", "header", "cookie", "body")
_OPTIONS = (
    "response_model_include",
    "response_model_exclude",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
)


class Routes:
    """Describes the routes of one application and of the applications mounted in it."""

    def __init__(self, places: Places, shapes: Shapes) -> None:
        self._places = places
        self._shapes = shapes
        self._security: Any = importlib.import_module("fastapi.security.base").SecurityBase
        self._routing: Any = importlib.import_module("starlette.routing")
        self._trees: dict[int, tuple[Any, dict[str, Any]]] = {}

    def of(self, application: Any, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Yield every route below ``application``, in the order in which requests are matched."""
        for route in _flattened(application.routes):
            path = prefix + (getattr(route, "path", None) or "")
            original = getattr(route, "original_route", route)
            socket = isinstance(original, self._routing.WebSocketRoute)
            mounted = getattr(route, "app", None)
            if getattr(route, "dependant", None) is not None:
                yield self._fastapi_route(route, path, socket=socket)
            elif socket or isinstance(original, self._routing.Route):
                yield self._common(route, path, "websocket" if socket else "plain")
            elif isinstance(original, self._routing.Mount) and hasattr(mounted, "openapi_url"):
                yield from self.of(mounted, path.rstrip("/"))
            else:
                yield self._mount(route, mounted, path)

    def _common(self, route: Any, path: str, kind: str) -> dict[str, Any]:
        endpoint = getattr(route, "endpoint", None)
        return {
            "kind": kind,
            "path": path,
            "methods": sorted(getattr(route, "methods", None) or ()),
            "name": getattr(route, "name", None) or "",
            "endpoint": None if endpoint is None else self._places.of(endpoint),
            "in_schema": bool(getattr(route, "include_in_schema", False)),
        }

    def _mount(self, route: Any, mounted: Any, path: str) -> dict[str, Any]:
        described = self._common(route, path, "mount")
        if mounted is not None:
            described["mounted"] = type_name(class_of(mounted))
        return described

    def _fastapi_route(self, route: Any, path: str, *, socket: bool) -> dict[str, Any]:
        described = self._common(route, path, "websocket" if socket else "http")
        described["dependant"] = self.tree(route.dependant)
        if socket:
            return described
        body = getattr(route, "body_field", None)
        described |= {
            "body": None if body is None else self._shapes.of(info_of(body).annotation),
            "status_code": route.status_code,
            "tags": [str(getattr(tag, "value", tag)) for tag in route.tags or ()],
            "summary": route.summary,
            "description": (route.description or "")[:1000],
            "deprecated": bool(route.deprecated),
            "operation_id": route.operation_id,
            "unique_id": getattr(route, "unique_id", ""),
            "max_body_size_bytes": getattr(route, "max_body_size", None),
            "response": self._response(route),
        }
        return described

    def _response(self, route: Any) -> dict[str, Any]:
        answer: Any = getattr(route.response_class, "value", route.response_class)
        model = route.response_model
        return {
            "model": None if model is None else self._shapes.of(model),
            "options": {name: plain(getattr(route, name)) for name in _OPTIONS},
            "answer": None if answer is None else type_name(answer),
            "media_type": getattr(answer, "media_type", None),
            "documented": {str(code): _documented(said) for code, said in route.responses.items()},
        }

    def tree(self, dependant: Any) -> dict[str, Any]:
        """Describe a dependency with everything that it depends on."""
        known = self._trees.get(id(dependant))
        if known is not None:
            return known[1]
        call = dependant.call
        described: dict[str, Any] = {
            "name": dependant.name,
            "call": None if call is None else self._places.of(call),
            "scope": getattr(dependant, "scope", None),
            "use_cache": bool(dependant.use_cache),
            "security": self._scheme(call),
            "oauth_scopes": _scopes(dependant),
            "wants": _wants(dependant),
            "params": list(self._params(dependant)),
            "values": _values(call),
            "dependencies": [self.tree(inner) for inner in dependant.dependencies],
        }
        self._trees[id(dependant)] = dependant, described  # kept, so that no id is used again
        return described

    def _scheme(self, call: Any) -> dict[str, Any] | None:
        scheme = unwrapped(call)
        if not isinstance(scheme, self._security):
            return None
        model: Any = getattr(scheme, "model", None)
        kind: Any = getattr(model, "type_", None) or getattr(model, "type", None)
        place: Any = getattr(model, "in_", None)
        return {
            "class": type_name(class_of(scheme)),
            "type": str(getattr(kind, "value", kind)),
            "scheme": getattr(model, "scheme", None),
            "place": None if place is None else str(getattr(place, "value", place)),
            "parameter": getattr(model, "name", None),
            "name": getattr(scheme, "scheme_name", None) or type(scheme).__name__,
            "refuses": bool(getattr(scheme, "auto_error", True)),
        }

    def _params(self, dependant: Any) -> Iterator[dict[str, Any]]:
        for source in _SOURCES:
            for field in getattr(dependant, source + "_params", ()):
                info = field.field_info
                described = self._shapes.field(field.name, info_of(field))
                described["alias"] = getattr(field, "alias", None) or described["alias"]
                kind = type(info).__name__.lower()
                described["source"] = kind if kind in ("form", "file") else source
                yield described


def _flattened(routes: Any) -> Iterator[Any]:
    """Yield routes; since FastAPI 0.137 an included router is one route that has others inside."""
    contexts = getattr(importlib.import_module("fastapi.routing"), "iter_route_contexts", None)
    yield from routes if contexts is None else contexts(routes)


def _scopes(dependant: Any) -> list[str]:
    found: list[str] = []
    for name in ("parent_oauth_scopes", "own_oauth_scopes", "security_scopes"):
        found += [str(scope) for scope in getattr(dependant, name, None) or ()]
    return found


def _values(call: Any) -> dict[str, Any]:
    """Return the permissions that a callable was made with; what else it holds may be a key."""
    made = unwrapped(call)
    held = _enclosed(made)
    held.update(getattr(made, "__dict__", None) or {})
    held["__newel_access__"] = getattr(made, "__newel_access__", None)
    found: dict[str, Any] = {}
    for name, value in held.items():
        if value is True and _RANKS.search(name):
            found[name] = True
        elif name != "__newel_access__" and not _PERMISSIONS.search(name):
            continue
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, (list, tuple, set, frozenset)):
            several = list(cast("Iterable[Any]", value))
            if all(isinstance(one, str) for one in several):
                found[name] = sorted(several)
    return found


def _enclosed(made: Any) -> dict[str, Any]:
    """Return what a function that another one made knows of that one's variables."""
    inner = getattr(made, "__func_impl__", made)  # makefun, by which FastAPI Users makes its guards
    names = getattr(getattr(inner, "__code__", None), "co_freevars", ())
    found: dict[str, Any] = {}
    for name, cell in zip(names, getattr(inner, "__closure__", None) or ()):
        with contextlib.suppress(ValueError):  # not bound yet
            found[name] = cell.cell_contents
    return found


def _wants(dependant: Any) -> list[str]:
    wanted = (
        "request",
        "websocket",
        "http_connection",
        "response",
        "background_tasks",
        "security_scopes",
    )
    return [name for name in wanted if getattr(dependant, name + "_param_name", None)]


def _documented(said: Any) -> dict[str, Any]:
    return {"description": said.get("description"), "model": plain(said.get("model"))}
