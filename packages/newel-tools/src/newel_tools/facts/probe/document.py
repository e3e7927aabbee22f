"""The document: import the application behind the guard, describe it, write it as JSON."""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from . import entities, guard, parts
from .migrations import migrations
from .places import Places, plain, type_name
from .routes import Routes
from .shapes import Shapes

__all__ = ["write"]

_FORMAT = 1
_MESSAGE_CHARACTERS = 300
_MISSING = ("missing", "value_error.missing")  # of pydantic 2 and of pydantic 1
_OTHER_KIND = ("_parsing", "_type")  # `bool_parsing`
# Loaded before an application is, in servers.
_SERVERS_HAVE = ("logging.config", "logging.handlers")


def write(request: dict[str, Any]) -> None:
    """Do what the request says and end the process: nothing of the application runs on.

    ``fd``: where the document goes; ``module``, ``attribute``, ``factory``: the application;
    ``copy``, ``root``: the copy that is imported and the project it was made from; ``paths``:
    what to import from; ``writable``: the folder that may be written; ``seconds``: the time limit;
    ``network``: whether connections are possible; ``migrations``: to print these instead.
    """
    probe = _Probe(request)
    guard.limit_file_size()
    guard.end_with_parent()
    if not request.get("network"):
        guard.leave_network()
    guard.watch(float(request["seconds"]), probe.give_up)
    sys.path[:0] = request["paths"]
    sys.argv = [request["module"]]
    guard.forbid_effects(writable=request["writable"])
    probe.run()
    probe.end()


class _Probe:
    """One run: what was found, and what failed on the way."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request = request
        self._places = Places(copy=request["copy"], root=request["root"])
        self._ended = False
        self._found: dict[str, Any] = {
            "format": _FORMAT,
            "python": platform.python_version(),
            "failures": [],
        }

    def run(self) -> None:
        """Import and describe; each part that fails is noted, and the others go on."""
        wanted = self._request.get("migrations")
        if wanted:
            told = self._attempt("migrations", lambda: self._migrations(wanted))
            self._found["migrations"] = told
            return
        application = self._attempt("import", self._import)
        self._found["versions"] = self._attempt("versions", parts.versions) or {}
        if application is not None:
            self._describe(application)

    def end(self) -> None:
        """Write the document and leave at once, whatever threads the application has started."""
        if self._ended:
            return
        self._ended = True
        data = json.dumps(self._found, default=plain).encode()
        view = memoryview(data)
        while view:
            view = view[os.write(int(self._request["fd"]), view) :]
        os._exit(0)

    def give_up(self, frame: Any) -> None:
        """Say where the main thread hangs, and end."""
        file, line = self._places.of_frame(frame)
        seconds = self._request["seconds"]
        self._found["failures"].append(
            {
                "stage": self._stage,
                "class": "TimeoutError",
                "message": f"it was not done within {seconds:g} s",
                "file": file,
                "line": line,
            }
        )
        self.end()

    _stage = "import"

    def _import(self) -> Any:
        for name in _SERVERS_HAVE:
            importlib.import_module(name)
        module = importlib.import_module(self._request["module"])
        application: Any = module
        for name in self._request["attribute"].split("."):
            application = getattr(application, name)
        if self._request["factory"]:
            application = application()
        applications: Any = importlib.import_module("fastapi").FastAPI
        return _inner(application, applications)

    def _describe(self, application: Any) -> None:
        places, shapes = self._places, Shapes(self._places)
        routes = Routes(places, shapes)
        sections: dict[str, Callable[[], Any]] = {
            "application": lambda: _application(application),
            "routes": lambda: list(routes.of(application)),
            "middleware": lambda: list(parts.middleware(application, places)),
            "handlers": lambda: list(parts.handlers(application, places)),
            "entities": lambda: [
                *entities.sqlalchemy_entities(places),
                *entities.tortoise_entities(places),
            ],
            "engines": lambda: list(parts.engines()),
            "settings": lambda: list(parts.settings(places, shapes)),
            "limiters": lambda: list(parts.limiters(application)),
            "openapi": application.openapi,
            "modules": lambda: self._modules(sys.modules),
        }
        for name, describe in sections.items():
            found = self._attempt(name, describe)
            if found is not None:
                self._found[name] = found
        self._found["models"] = shapes.models

    def _migrations(self, wanted: dict[str, Any]) -> dict[str, Any]:
        root: str = self._request["copy"]
        settings = os.path.join(root, wanted["settings"])  # noqa: PTH118 - no pathlib in the probe
        if os.path.isdir(settings):  # noqa: PTH112 - as above
            self._import()  # `newel.kernel_tables` creates what the service's modules have mapped
        return migrations({**wanted, "settings": settings, "root": root}, self._places)

    def _modules(self, loaded: Iterable[str]) -> dict[str, str]:
        """Return which files of the project were imported, by module name."""
        files = {name: self._places.relative(_file_of(name)) for name in list(loaded)}
        return {name: file for name, file in files.items() if file is not None}

    def _attempt(self, stage: str, describe: Callable[[], Any]) -> Any:
        self._stage = stage
        try:
            return describe()
        except BaseException as error:  # noqa: BLE001 - exit() and the like of the project, too
            self._found["failures"].append(self._failure(stage, error))
            return None

    def _failure(self, stage: str, error: BaseException) -> dict[str, Any]:
        file, line = self._places.of_traceback(error)
        if isinstance(error, SyntaxError) and self._places.relative(error.filename):
            file, line = self._places.relative(error.filename), error.lineno or 0
        return {
            "stage": stage,
            "class": type_name(type(error)),
            "message": " ".join(_text(error).split())[:_MESSAGE_CHARACTERS],
            "file": file,
            "line": line,
            "missing": _missing(error),
            "allowed": _allowed(error),
        }


def _text(error: BaseException) -> str:
    """Return the error's text with its cause; a SyntaxError's without the path of the copy."""
    try:
        text = str(error.msg) if isinstance(error, SyntaxError) else str(error)
        cause = error.__cause__
        return text if cause is None else f"{text} (from {type_name(type(cause))}: {cause})"
    except Exception:  # noqa: BLE001 - a broken __str__ of the project's
        return ""


def _missing(error: BaseException) -> list[str]:
    """Return the names of settings that a validation error, or a KeyError, says are missing.

    So are those with a value of another kind: nobody could say of which they are by their name.
    """
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        return [error.args[0]]
    return [
        name for name, kind, _ in _errors(error) if kind in _MISSING or kind.endswith(_OTHER_KIND)
    ]


def _allowed(error: BaseException) -> dict[str, str]:
    """Return a value that a setting takes, where a validation error lists all of them."""
    expected = ((name, re.match(r"'([^']*)'", words)) for name, _, words in _errors(error))
    return {name: found[1] for name, found in expected if found is not None}


def _errors(error: BaseException) -> list[tuple[str, str, str]]:
    """Return the errors of a validation: where, of which kind, and what was expected."""
    found = getattr(error, "errors", None)
    if not callable(found):
        return []
    try:
        listed: Any = found()
        return [
            (
                ".".join(map(str, item["loc"])),
                item["type"],
                str(item.get("ctx", {}).get("expected")),
            )
            for item in listed
        ]
    except Exception:  # noqa: BLE001 - an `errors` of somebody else's
        return []


def _inner(application: Any, kind: Any) -> Any:
    """Return the FastAPI application, also from below wrappers such as an ASGI middleware."""
    wrapped = application
    for _ in range(10):
        if isinstance(wrapped, kind):
            return wrapped
        names = ("app", "other_asgi_app", "application", "_app")
        wrapped = next(
            (inner for name in names if (inner := getattr(wrapped, name, None)) is not None), None
        )
    raise TypeError(f"it is a {type(application).__name__}, not a FastAPI application")


def _application(application: Any) -> dict[str, Any]:
    kept = (
        "title",
        "version",
        "description",
        "openapi_url",
        "docs_url",
        "redoc_url",
        "root_path",
        "debug",
    )
    described = {name: plain(getattr(application, name, None)) for name in kept}
    described["class"] = type_name(type(application))
    described["max_body_size_bytes"] = getattr(application, "max_body_size", None)
    return described


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


gc.disable()  # the process ends with the document; collecting costs a fifth of an import
