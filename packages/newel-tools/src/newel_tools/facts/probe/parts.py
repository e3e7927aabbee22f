"""What else an application is made of: middleware, handlers, engines, settings, versions."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from collections.abc import Iterator
from typing import Any

from .places import Places, class_of, is_class, plain, type_name
from .shapes import Shapes

__all__ = ["engines", "handlers", "limiters", "middleware", "settings", "versions"]

_HIDDEN = ("secret", "password", "token", "key")


def middleware(application: Any, places: Places) -> Iterator[dict[str, Any]]:
    """Yield the application's middleware, the outermost first, with plain options."""
    for item in application.user_middleware:
        options: dict[str, Any] = dict(
            getattr(item, "kwargs", None) or getattr(item, "options", None) or {}
        )
        dispatch = options.get("dispatch")
        yield places.of(item.cls) | {
            "class": type_name(item.cls),
            "options": {name: _option(name, value) for name, value in options.items()},
            "positional": [plain(value) for value in getattr(item, "args", ())],
            "dispatch": None if dispatch is None else places.of(dispatch),
        }


def _option(name: str, value: Any) -> Any:
    """Return an option's value; a secret one only as a sign that it is there."""
    hidden = isinstance(value, str) and any(word in name.lower() for word in _HIDDEN)
    return {"type": "str", "hidden": True} if hidden else plain(value)


def handlers(application: Any, places: Places) -> Iterator[dict[str, Any]]:
    """Yield what answers for each exception class and status code."""
    for target, handler in application.exception_handlers.items():
        known = is_class(target)
        yield {
            "exception": type_name(target) if known else None,
            "bases": [type_name(base) for base in target.__mro__] if known else [],
            "status": None if known else int(target),
            "handler": places.of(handler),
        }


def engines() -> Iterator[dict[str, Any]]:
    """Yield every SQLAlchemy engine that is alive, and how its pool is set."""
    base: Any = sys.modules.get("sqlalchemy.engine.base")
    if base is None:
        return
    wrapped: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    alive = gc.get_objects()
    asynchronous = {
        id(item.sync_engine)
        for item in alive
        if wrapped is not None and type(item) is wrapped.AsyncEngine
    }
    for engine in alive:
        if type(engine) is base.Engine:
            yield _engine(engine) | {"asynchronous": id(engine) in asynchronous}


def _engine(engine: Any) -> dict[str, Any]:
    pool = engine.pool
    size = getattr(pool, "size", None)  # a method, or SingletonThreadPool's number
    return {
        "dialect": engine.dialect.name,
        "driver": engine.dialect.driver,
        "in_memory": engine.url.database in (None, "", ":memory:"),
        "echo": bool(engine.echo),
        "pool": class_of(pool).__name__,
        "pool_size": size() if callable(size) else size,
        "max_overflow": getattr(pool, "_max_overflow", None),
        "timeout_seconds": plain(getattr(pool, "_timeout", None)),
        "recycle_seconds": getattr(pool, "_recycle", None),
        "pre_ping": bool(getattr(pool, "_pre_ping", False)),
    }


def settings(places: Places, shapes: Shapes) -> Iterator[str]:
    """Yield the names, in ``shapes.models``, of the project's own settings classes."""
    module: Any = sys.modules.get("pydantic_settings")
    pending = [] if module is None else list(module.BaseSettings.__subclasses__())
    while pending:
        cls = pending.pop(0)
        pending += cls.__subclasses__()
        if places.is_own(cls.__module__):
            yield shapes.model(cls)


def limiters(application: Any) -> Iterator[dict[str, Any]]:
    """Yield rate limiters that live in the application's state, or in a module (slowapi)."""
    slowapi: Any = sys.modules.get("slowapi.extension")
    if slowapi is None:
        return
    known: Any = getattr(application.state, "_state", {})
    for item in gc.get_objects():
        if type(item) is slowapi.Limiter:
            yield {
                "kind": "slowapi",
                "default_limits": len(getattr(item, "_default_limits", ())),
                "application_limits": len(getattr(item, "_application_limits", ())),
                "in_state": any(item is value for value in known.values()),
                "limited": sorted(getattr(item, "_route_limits", {})),
                "exempt": sorted(getattr(item, "_exempt_routes", ())),
            }


def versions() -> dict[str, str]:
    """Return the installed packages with their versions, by normalised name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        said = distribution.metadata  # read and parsed each time that it is asked for
        if said["Name"]:
            found.setdefault(said["Name"].lower().replace("_", "-"), said["Version"])
    return found
