"""The application, imported and started: its lifespan, its API description, its websockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import inspect
import re
import runpy
import sys
import traceback
from typing import Any

from .record import Places, current, in_background

__all__ = [
    "BootError",
    "Lifespan",
    "api_description",
    "load",
    "mark_background",
    "note_errors",
    "run_command",
]

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
# Loaded before an application is, in servers.
_SERVERS_HAVE = ("logging.config", "logging.handlers")
# What Starlette, python-decouple and environs say of a variable that is not set.
_ASKED = re.compile(
    r"Config '(\w+)' is missing|^(\w+) not found\. Declare|Environment variable \"(\w+)\" not set"
)


class BootError(Exception):
    """The application could not be imported or started; ``said`` is what to tell its team."""

    def __init__(self, step: str, error: BaseException, places: Places) -> None:
        super().__init__(f"{step}: {error}")
        lines = traceback.format_exception_only(type(error), error)
        self.said: dict[str, Any] = {
            "step": step,
            "type": type(error).__qualname__,
            "text": "".join(lines).strip()[:2_000],
            "where": places.of_error(error),
            "settings": _settings_at_fault(error),
        }


def _settings_at_fault(error: BaseException) -> list[dict[str, str]]:
    """Return the settings that a class of pydantic asked for: their names, and what is wrong."""
    named = re.match(r'error parsing value for field "(\w+)"', str(error))
    if type(error).__name__ == "SettingsError" and named:
        return [{"name": named[1], "fault": "json_invalid", "expected": ""}]
    asked = _ASKED.search(str(error)) or (
        isinstance(error, KeyError) and re.fullmatch(r"'([A-Z][A-Z0-9_]+)'", str(error))
    )
    if asked and type(error).__name__ in ("KeyError", "UndefinedValueError", "EnvError"):
        name = next(group for group in asked.groups() if group)
        return [{"name": name, "fault": "missing", "expected": ""}]
    errors = getattr(error, "errors", None)
    if not callable(errors) or type(error).__name__ != "ValidationError":
        return []
    found: list[dict[str, str]] = []
    with contextlib.suppress(Exception):
        said: Any = errors()
        for item in said:
            context: Any = item.get("ctx") or {}
            expected = str(context.get("expected", ""))
            found.append(
                {"name": str(item["loc"][0]), "fault": str(item["type"]), "expected": expected}
            )
    return found


def load(target: str, places: Places) -> Any:
    """Import ``module:attribute``; what is no ASGI application yet is called to make one."""
    module_name, _, attributes = target.partition(":")
    for name in _SERVERS_HAVE:
        importlib.import_module(name)
    try:
        found: Any = importlib.import_module(module_name)
        for name in attributes.split("."):
            found = getattr(found, name)
        if not hasattr(found, "routes") and callable(found):
            found = found()
            if inspect.isawaitable(found):
                found = asyncio.get_event_loop().run_until_complete(found)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise BootError("import", error, places) from error
    return found


def run_command(command: list[str], places: Places) -> None:
    """Run a command of the project in this process, so that the guard holds for it too.

    ``python -m module``, ``python -c code``, ``python file.py``, and the console scripts of
    installed packages.
    """
    name, *arguments = command
    try:
        if name in ("python", "python3"):
            if arguments[:1] == ["-m"]:
                sys.argv = arguments[1:]
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            elif arguments[:1] == ["-c"]:
                sys.argv = ["-c", *arguments[2:]]
                code = compile(arguments[1], "<setup>", "exec")
                exec(code, {"__name__": "__main__"})  # noqa: S102 - the project's own, as Python does
            else:
                sys.argv = arguments
                runpy.run_path(arguments[0], run_name="__main__")
            return
        sys.argv = command
        _console_script(name)()
    except SystemExit as ended:
        if ended.code not in (None, 0):
            raise BootError(" ".join(command), ended, places) from ended
    except Exception as error:
        raise BootError(" ".join(command), error, places) from error


def _console_script(name: str) -> Any:
    for distribution in importlib.metadata.distributions():
        for entry in distribution.entry_points:
            if entry.group == "console_scripts" and entry.name == name:
                return entry.load()
    raise FileNotFoundError(f"no package here has a command {name!r}")


def mark_background() -> None:
    """Let what runs in a background task be told from what runs in its request."""
    module: Any = importlib.import_module("starlette.background")
    if getattr(module.BackgroundTask.__call__, "marks", False):
        return
    original = module.BackgroundTask.__call__

    async def marked(task: Any) -> None:
        token = in_background.set(True)
        try:
            await original(task)
        finally:
            in_background.reset(token)

    setattr(marked, "marks", True)  # noqa: B010 - ours, to see it again
    module.BackgroundTask.__call__ = marked


def note_errors(places: Places) -> None:
    """Let errors that the application's own handlers answer be seen, with their lines."""
    holder = _holder_of_lookup()
    found = holder._lookup_exception_handler  # noqa: SLF001 - where every handled error passes
    original = getattr(found, "original", found)  # noted by another host of this process

    def lookup(handlers: Any, error: Exception) -> Any:
        record, handler = current.get(), original(handlers, error)
        if record is not None and not hasattr(error, "status_code") and not _is_refusal(error):
            handled = handler is not None
            record.add_error(error, where=places.of_error(error), handled=handled)
        return handler

    setattr(lookup, "original", original)  # noqa: B010 - functions have no such attribute
    holder._lookup_exception_handler = lookup  # noqa: SLF001 - as above


def _holder_of_lookup() -> Any:
    try:
        return importlib.import_module("starlette._exception_handler")
    except ModuleNotFoundError:  # before Starlette 0.28 it is a method of the middleware
        pass
    try:
        return importlib.import_module("starlette.middleware.exceptions").ExceptionMiddleware
    except ModuleNotFoundError:  # which is elsewhere before 0.21
        older: Any = importlib.import_module("starlette.exceptions")
        return older.ExceptionMiddleware


def _is_refusal(error: Exception) -> bool:
    return type(error).__name__ in ("RequestValidationError", "WebSocketRequestValidationError")


class Lifespan:
    """Starts an application and ends it, as a server does."""

    def __init__(self, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Future[Any] | None = None

    async def start(self, places: Places) -> None:
        """Run the start-up; raises ``BootError``."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        running: Any = self._app(scope, self._incoming.get, self._said.put)
        task: asyncio.Future[Any] = asyncio.ensure_future(running)
        self._task = task
        self._incoming.put_nowait({"type": "lifespan.startup"})
        waiting = asyncio.ensure_future(self._said.get())
        await asyncio.wait(
            [task, waiting], timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        error: BaseException | None = None
        if waiting.done():
            message = waiting.result()
            if message["type"] == "lifespan.startup.failed":
                error = RuntimeError(message.get("message", "").strip().split("\n")[-1])
        elif task.done():
            error = task.exception()
        else:
            error = TimeoutError(f"not started after {_START_SECONDS:.0f} s{_waits(task, places)}")
        if error is not None:
            await self._settle(waiting)
            raise BootError("start-up", self._cause(error), places) from error
        if not waiting.done():
            waiting.cancel()

    def _cause(self, error: BaseException) -> BaseException:
        """Prefer the exception itself, which carries its traceback, to the text of the message."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            return self._task.exception() or error
        return error

    async def _settle(self, waiting: asyncio.Future[Any]) -> None:
        waiting.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=1.0)

    async def stop(self) -> None:
        """Run the shutdown, five seconds at most."""
        if self._task is None or self._task.done():
            return
        self._incoming.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait([self._task], timeout=_STOP_SECONDS)
        self._task.cancel()


def _waits(task: Any, places: Places) -> str:
    """Say at which line of the project a start-up waits.

    A lifespan is an asynchronous generator, which what awaits it does not name.
    """
    found = None
    for start in (task.get_coro(), *filter(inspect.isasyncgen, gc.get_objects())):
        waiting: Any = start
        while waiting is not None:
            frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None)
            found = places.of_frame(frame) or found
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return f": it waits at {found}" if found else ""


def api_description(app: Any) -> dict[str, Any]:
    """Return the OpenAPI documents of the application and of those mounted in it, by prefix."""
    documents: dict[str, Any] = {}
    sockets: list[dict[str, Any]] = []
    problems: list[str] = []
    for prefix, mounted in _applications(app, ""):
        try:
            documents[prefix] = mounted.openapi()
        except Exception as error:  # noqa: BLE001 - a title that is missing must not end the run
            problems.append(f"openapi() of {prefix or '/'} failed: {error}"[:500])
            documents[prefix] = _plain_description(mounted, problems)
        sockets += [
            {"path": prefix + route.path, "name": route.name or ""}
            for route in flattened(mounted.routes)
            if getattr(route, "methods", None) is None and hasattr(route, "endpoint")
        ]
    return {"documents": documents, "websockets": sockets, "problems": problems}


def _plain_description(app: Any, problems: list[str]) -> dict[str, Any]:
    """Describe the routes alone: what the application says of itself may be at fault."""
    describe: Any = importlib.import_module("fastapi.openapi.utils").get_openapi
    try:
        return describe(title="application", version="0", routes=app.routes)
    except Exception as error:  # noqa: BLE001 - a model without a schema, for one
        problems.append(f"its routes alone cannot be described either: {error}"[:500])
        return {}


def _applications(app: Any, prefix: str) -> Any:
    yield prefix, app
    for route in flattened(app.routes):
        mounted = getattr(route, "app", None)
        if hasattr(mounted, "openapi") and hasattr(mounted, "routes") and mounted is not app:
            yield from _applications(mounted, prefix + route.path.rstrip("/"))


def flattened(routes: Any) -> Any:
    """Return routes; since FastAPI 0.137 an included router is one route with others inside."""
    contexts = getattr(importlib.import_module("fastapi.routing"), "iter_route_contexts", None)
    return list(routes if contexts is None else contexts(routes))
