"""What a rule may ask: the facts, the source, and how the two hang together."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from newel_tools.check.linter import Lint, lints
from newel_tools.check.rows import Rows
from newel_tools.check.stores import Store, stores
from newel_tools.facts.calls import Call, Calls
from newel_tools.facts.facts import Facts
from newel_tools.facts.files import read_text
from newel_tools.facts.imports import files_led_to
from newel_tools.facts.project import Project
from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.shapes import Model, Place, Shape
from newel_tools.facts.source import Class, Function, Source

__all__ = ["Reach", "Review"]

_DEPLOYED: Final = re.compile(
    r"^(docker-)?compose[\w.-]*\.ya?ml$|^requirements[\w.-]*\.txt$|^pyproject\.toml$"
)
_SERVERS: Final = {
    "postgresql": re.compile(r"postgres|asyncpg|psycopg", re.IGNORECASE),
    "mysql": re.compile(r"mysql|mariadb", re.IGNORECASE),
}
_WORKERS: Final = re.compile(r"(^|\.)(Celery|Huey|FastStream|\w+Broker)$")


@dataclass(slots=True)
class Reach:
    """How requests come to a function: its ``routes``, and the calls on the way from the first.

    ``starts`` are the endpoints and dependencies that it is reached from.
    """

    way: tuple[Call | None, ...]
    routes: list[Route] = field(default_factory=list[Route])
    starts: list[Function] = field(default_factory=list[Function])

    @property
    def route(self) -> str | None:
        """The label of the first route."""
        return self.routes[0].label if self.routes else None

    def steps(self) -> str:
        """Return the names of the functions on the way, `load > parse`; empty for an endpoint."""
        names = [call.function.node.name for call in self.way if call and call.function]
        return " > ".join(names)


class Review:
    """One project under review. Everything is computed when it is first asked for."""

    def __init__(self, project: Project, facts: Facts, source: Source) -> None:
        self.project = project
        self.facts = facts
        self.source = source
        self.calls = Calls(source)

    # -- from facts to source ------------------------------------------------------------------

    def function(self, place: Place | None) -> Function | None:
        """Return the source of a callable: a class's `__init__`, an instance's `__call__`."""
        if place is None or place.file is None:
            return None
        if place.kind in ("class", "instance", "async_instance"):
            cls = self.class_(place)
            name = "__init__" if place.kind == "class" else "__call__"
            return self.source.method(cls, name) if cls is not None else None
        return self.source.function_at(place.file, place.line)

    def class_(self, place: Place | None) -> Class | None:
        """Return the source of a class."""
        if place is None or place.file is None:
            return None
        module = self.source.files.get(place.file)
        return None if module is None else self.source.classes.get(f"{module.name}.{place.name}")

    def line_of(self, place: Place | None) -> int:
        """Return the line of a `def` or `class`; 0 if it is not known."""
        function = self.function(place) if place and place.kind != "class" else None
        if function is not None:
            return function.line
        cls = self.class_(place)
        return cls.node.lineno if cls is not None else (place.line if place else 0)

    def field_place(self, model: Model, name: str) -> tuple[str | None, int]:
        """Return where a field is declared, in the model itself or the base that it comes from."""
        cls = self.class_(model)
        if cls is None:
            return model.file, self.line_of(model)
        return self.attribute_place(cls, name)

    def attribute_place(self, cls: Class, name: str) -> tuple[str, int]:
        """Return where a class's attribute is declared: in itself or a base; else its own line."""
        for owner in self.source.bases(cls):
            for node in owner.node.body:
                match node:
                    case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                        return owner.module.file, node.lineno
                    case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                        return owner.module.file, node.lineno
                    case _:
                        pass
        return cls.module.file, cls.node.lineno

    @cached_property
    def application_place(self) -> tuple[str | None, int]:
        """Where the application is made: `FastAPI(...)`, in the file that servers name or else."""
        file = self.project.relative(self.project.application.file)
        modules = sorted(self.source.own_modules(), key=lambda module: module.file != file)
        for module in modules:
            for node in module.nodes if "FastAPI" in module.text else ():
                if isinstance(node, ast.Call):
                    name = self.source.name_of(module, node.func) or ""
                    if name.startswith("fastapi.") and name.endswith(".FastAPI"):
                        return module.file, node.lineno
        return file, 0

    @cached_property
    def parts(self) -> frozenset[str]:
        """The files of the applications, workers and programs here, and all that these import."""
        apps = (self.project.application, *self.project.others)
        starts = {self.project.relative(app.file) for app in apps}
        starts |= {file for file in self.facts.modules.values() if file in self.source.files}
        starts |= {
            module.file
            for module in self.source.own_modules()
            if any(map(_is_worker, module.values.values()))
            or any(map(_is_started, module.tree.body))
        }
        return files_led_to(self.source, starts)

    # -- routes ----------------------------------------------------------------------------------

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """The project's own routes: those whose endpoint is written in it. Websockets too."""
        return tuple(
            route
            for route in self.facts.routes
            if route.kind in ("http", "websocket", "plain")
            and route.endpoint is not None
            and route.endpoint.file is not None
        )

    @cached_property
    def http_routes(self) -> tuple[Route, ...]:
        """The project's own routes that answer requests."""
        return tuple(route for route in self.routes if route.kind == "http")

    def at(self, route: Route) -> tuple[str | None, int]:
        """Return the file and the line of a route's endpoint."""
        place = route.endpoint
        return (place.file if place else None), self.line_of(place)

    def starts(self, route: Route) -> Iterator[Function]:
        """Yield the functions of the project that a request to the route runs."""
        places = [route.endpoint, *(node.call for node in route.dependencies)]
        for place in places:
            function = self.function(place)
            if function is not None:
                yield function

    # -- reachability ----------------------------------------------------------------------------

    @cached_property
    def reached(self) -> Mapping[Function, Reach]:
        """Every function that some request leads to, callbacks and background work included."""
        return self._reach((start, route) for route in self.routes for start in self.starts(route))

    def _reach(self, starts: Iterable[tuple[Function, Route]]) -> dict[Function, Reach]:
        found: dict[Function, Reach] = {}
        by_start: dict[Function, list[Route]] = {}
        for start, route in starts:
            by_start.setdefault(start, []).append(route)
        for start, routes in by_start.items():
            for function, way in self.calls.reached(start).items():
                reach = found.setdefault(function, Reach(way))
                reach.routes.extend(routes)
                reach.starts.append(start)
        return found

    @cached_property
    def on_loop(self) -> Mapping[Function, Reach]:
        """Every function that runs on the event loop during a request: called, not handed over.

        What is passed to a thread (`to_thread`, `run_in_threadpool`, an executor) is a callback and
        so is left out, as are `def` endpoints and dependencies, which FastAPI runs in threads.
        """
        found: dict[Function, Reach] = {}
        for route in self.routes:
            for start in self.starts(route):
                if start.is_async or start.node.name == "__init__":
                    self._follow_loop(start, route, found)
        return found

    def _follow_loop(self, start: Function, route: Route, found: dict[Function, Reach]) -> None:
        known = found.get(start)
        if known is not None and start in known.starts:
            known.routes.append(route)
            return
        pending: list[tuple[Function, tuple[Call | None, ...]]] = [(start, ())]
        seen = {start}
        while pending:
            function, way = pending.pop(0)
            reach = found.setdefault(function, Reach(way))
            reach.routes.append(route)
            reach.starts.append(start)
            for call in self.calls.of(function):
                callee = call.function
                if callee is not None and callee not in seen and _runs(call, callee):
                    seen.add(callee)
                    pending.append((callee, (*way, call)))

    @cached_property
    def served(self) -> Mapping[Function, Reach]:
        """What is `reached`, and what middleware and handlers of exceptions lead to: no route."""
        found = dict(self.reached)
        for start in self._in_front():
            for function, way in self.calls.reached(start).items():
                found.setdefault(function, Reach(way, starts=[start]))
        return found

    def _in_front(self) -> Iterator[Function]:
        places = [item.dispatch for item in self.facts.middleware]
        places += [item.handler for item in self.facts.handlers]
        for place in places:
            function = self.function(place)
            if function is not None:
                yield function
        for item in self.facts.middleware:
            cls = self.class_(item)
            for name in ("dispatch", "__call__"):
                method = self.source.method(cls, name) if cls is not None else None
                if method is not None:
                    yield method

    def function_around(self, file: str, line: int) -> Function | None:
        """Return the innermost function that a line stands in."""
        around = [
            function
            for function in self._by_file.get(file, ())
            if function.line <= line <= (function.node.end_lineno or 0)
        ]
        return max(around, key=lambda function: function.line, default=None)

    @cached_property
    def _by_file(self) -> Mapping[str, list[Function]]:
        found: dict[str, list[Function]] = {}
        for function in self.source.functions.values():
            found.setdefault(function.file, []).append(function)
        return found

    def reached_calls(self) -> Iterator[tuple[Call, Reach]]:
        """Yield every call that some request leads to."""
        for function, reach in self.reached.items():
            for call in self.calls.of(function):
                yield call, reach

    # -- the database ----------------------------------------------------------------------------

    @cached_property
    def dialects(self) -> frozenset[str]:
        """The databases that it is for: its engines', and those that it is deployed with."""
        found = {engine.dialect for engine in self.facts.engines}
        folders = self.project.around if found else ()
        for path in (path for folder in folders for path in folder.iterdir()):
            text = (read_text(path) or "") if _DEPLOYED.search(path.name) else ""
            found |= {name for name, words in _SERVERS.items() if words.search(text)}
        return frozenset(found)

    @cached_property
    def rows(self) -> Rows:
        """Answers which entity's rows an expression gives."""
        return Rows(self)

    @cached_property
    def stores(self) -> tuple[Store, ...]:
        """The places where requests write what clients sent to columns."""
        return tuple(stores(self))

    # -- other tools -----------------------------------------------------------------------------

    @cached_property
    def lints(self) -> tuple[Lint, ...]:
        """What ruff finds in the project's modules."""
        return lints(self.project.root, self.source)

    def reached_lints(self, *codes: str) -> Iterator[tuple[Lint, Reach]]:
        """Yield those of ruff's findings that lie in functions which some request leads to."""
        for lint in self.lints:
            function = self.function_around(lint.file, lint.line) if lint.code in codes else None
            if function is not None and function in self.reached:
                yield lint, self.reached[function]

    # -- models ----------------------------------------------------------------------------------

    def models_in(self, shape: Shape | None) -> Iterator[Model]:
        """Yield the models that a shape leads to, nested ones too, each once."""
        pending = list(shape.leads_to()) if shape is not None else []
        seen: set[str] = set()
        while pending:
            name = pending.pop(0)
            model = self.facts.models.get(name)
            if model is None or name in seen:
                continue
            seen.add(name)
            yield model
            for item in model.fields:
                pending.extend(item.shape.leads_to())

    def bodies(self, route: Route) -> Iterator[Model]:
        """Yield the models of a route's request body, nested ones too."""
        for param in route.params:
            if param.source in ("body", "form", "query"):
                yield from self.models_in(param.shape)

    def dependency_source(self, node: Dependency) -> Function | None:
        """Return the source of a dependency."""
        return self.function(node.call)


def _is_worker(value: ast.expr) -> bool:
    """Tell whether a value is what a worker process is started with: `Celery(...)`."""
    return isinstance(value, ast.Call) and _WORKERS.search(ast.unparse(value.func)) is not None


def _is_started(node: ast.stmt) -> bool:
    """Tell whether a module is for a process of its own: arq's settings, or a program."""
    match node:
        case ast.ClassDef(name="WorkerSettings"):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()])):
            return True
        case _:
            return False


def _runs(call: Call, callee: Function) -> bool:
    """Tell whether a call runs the callee's body here and now; a coroutine runs when awaited.

    A generator's body runs as it is iterated over, which is here too.
    """
    return call.is_awaited or not callee.is_async
