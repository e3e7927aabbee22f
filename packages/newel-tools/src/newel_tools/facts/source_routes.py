"""Routes as the source declares them, for an application that cannot be imported.

Prefixes of routers are followed through `include_router`, also of routers that a function makes;
what is computed is left out, and so are routers that nobody includes, where each that is included
is named. Nothing here is proved: a decorator that is built at run time is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.shapes import Field, Place
from newel_tools.facts.source import Function, Module, Source

__all__ = ["source_routes", "unseen_routes"]

_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})
_DECORATORS: Final = _METHODS | {"api_route", "websocket"}
_ROUTERS: Final = frozenset({"fastapi.APIRouter", "fastapi.FastAPI", "fastapi.routing.APIRouter"})
_DEPTH: Final = 8
_LOCAL: Final = ".<locals>."


def source_routes(source: Source) -> tuple[Route, ...]:
    """Return the routes that decorators declare, in the order of the files."""
    prefixes = _Prefixes(source)
    return tuple(
        route
        for function in source.functions.values()
        if not function.module.is_test
        for decorator in function.node.decorator_list
        for route in _route(decorator, function, prefixes)
    )


def unseen_routes(source: Source, routes: Iterable[Route]) -> tuple[tuple[Function, str], ...]:
    """Return the endpoints that decorators declare and ``routes`` lack, with their labels.

    Routers that nobody includes count here. An endpoint that a decorator has wrapped is known by
    its method and the end of its path.
    """
    prefixes, known = _Prefixes(source), list(routes)
    places = {(r.endpoint.file, r.endpoint.name) for r in known if r.endpoint is not None}
    ends = [(set(route.methods), route.path.rstrip("/")) for route in known]
    found: list[tuple[Function, str]] = []
    for function in source.functions.values():
        if function.module.is_test or (function.file, function.name) in places:
            continue
        declared = [
            route
            for decorator in function.node.decorator_list
            for route in _route(decorator, function, prefixes, unserved=True)
        ]
        if declared and not any(_is_served(route, ends) for route in declared):
            found.append((function, declared[0].label))
    return tuple(found)


def _is_served(route: Route, ends: Iterable[tuple[set[str], str]]) -> bool:
    path = route.path.rstrip("/")
    return bool(path) and any(
        methods >= set(route.methods) and served.endswith(path) for methods, served in ends
    )


def _route(
    decorator: ast.expr, function: Function, prefixes: _Prefixes, *, unserved: bool = False
) -> Iterator[Route]:
    match decorator:
        # `@router.get("/")`, and `@guarded(router.get, "/")` of a decorator of the project's own.
        case ast.Call(func=ast.Attribute(value=router, attr=name)) if name in _DECORATORS:
            path = _text(_argument(decorator, "path", position=0))
        case ast.Call(args=[ast.Attribute(value=router, attr=name), *_]) if name in _DECORATORS:
            path = _text(_argument(decorator, "path", position=1))
        case _:
            return
    prefix = prefixes.of(function, router, unserved=unserved)
    if path is None or prefix is None:
        return
    methods = [name.upper()] if name in _METHODS else _methods(decorator)
    yield Route(
        kind="websocket" if name == "websocket" else "http",
        path=prefix + path,
        methods=() if name == "websocket" else tuple(methods),
        name=function.node.name,
        endpoint=_place(function),
        dependant=_dependant(function, decorator, prefixes.source),
    )


def _methods(decorator: ast.Call) -> list[str]:
    listed = _argument(decorator, "methods")
    items = listed.elts if isinstance(listed, ast.List | ast.Tuple | ast.Set) else []
    return [text for item in items if (text := _text(item))] or ["GET"]


def _place(function: Function) -> Place:
    return Place(
        name=function.name,
        module=function.module.name,
        file=function.file,
        line=function.line,
        kind="coroutine" if function.is_async else "function",
    )


def _dependant(function: Function, decorator: ast.Call, source: Source) -> Dependency:
    listed = _argument(decorator, "dependencies")
    items = [*ast.walk(listed)] if listed is not None else []
    items += [node for default in function.defaults.values() for node in ast.walk(default)]
    items += [
        node
        for argument in function.arguments
        if argument.annotation is not None
        for node in _annotation_nodes(argument.annotation, function.module, source)
    ]
    calls = [node for node in items if isinstance(node, ast.Call)]
    found = [inner for call in calls for inner in _dependencies(call, function.module, source)]
    params = tuple(Field(name=argument.arg) for argument in function.arguments)
    return Dependency(call=_place(function), dependencies=tuple(found), params=params)


def _annotation_nodes(annotation: ast.expr, module: Module, source: Source) -> Iterator[ast.AST]:
    """Yield the nodes of an annotation, and those of the alias that it may be."""
    yield from ast.walk(annotation)
    name = source.name_of(module, annotation)
    owner, _, last = (name or "").rpartition(".")
    home = source.modules.get(owner)
    if home is not None and last in home.values:
        yield from ast.walk(home.values[last])


def _dependencies(call: ast.Call, module: Module, source: Source) -> Iterator[Dependency]:
    name = source.name_of(module, call.func) or ""
    if name.rpartition(".")[2] not in ("Depends", "Security") or not call.args:
        return
    target = call.args[0].func if isinstance(call.args[0], ast.Call) else call.args[0]
    full = source.name_of(module, target)
    provider = source.functions.get(full or "")
    if provider is not None:
        yield Dependency(call=_place(provider))
    elif full is not None:
        owner, _, last = full.rpartition(".")
        yield Dependency(call=Place(name=last, module=owner))


class _Prefixes:
    """The prefix that requests to each router begin with."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._own: dict[str, str] = {}
        self._included: dict[str, tuple[str, str]] = {}
        self._mounted: set[str | None] = set()
        self._applications: set[str] = set()
        for module in source.own_modules():
            for name, value in module.values.items():
                self._keep(module, f"{module.name}.{name}", value)
        functions = [f for f in source.functions.values() if not f.module.is_test]
        for function in functions:
            for node in function.nodes:
                match node:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        self._keep(function.module, f"{function.full_name}{_LOCAL}{name}", value)
                    case _:
                        pass
        local = [(node, function) for function in functions for node in _including(function.nodes)]
        seen = {id(call) for call, _ in local}
        for call, function in local:
            self._include(function.module, call, function.full_name)
        for module in source.own_modules():
            for call in _including(module.nodes):
                if id(call) not in seen:
                    self._include(module, call, "")

    def _keep(self, module: Module, full_name: str, value: ast.expr) -> None:
        if isinstance(value, ast.Call) and self._is_router(module, value):
            self._own[full_name] = _text(_argument(value, "prefix")) or ""
            if ast.unparse(value.func).endswith("FastAPI"):
                self._applications.add(full_name)

    def _is_router(self, module: Module, value: ast.Call) -> bool:
        name = self.source.name_of(module, value.func) or ""
        return name in _ROUTERS or name.endswith("Router")

    def _include(self, module: Module, call: ast.Call, scope: str) -> None:
        parent = call.func.value if isinstance(call.func, ast.Attribute) else call.func
        inner = self._name(module, call.args[0], scope)
        outer = self._name(module, parent, scope)
        self._mounted.add(inner)
        if inner is not None and outer is not None:
            prefix = _text(_argument(call, "prefix")) or ""
            self._included.setdefault(inner, (outer, prefix))

    def _name(self, module: Module, expression: ast.expr, scope: str) -> str | None:
        """Return the full name of a router that the function ``scope`` knows by an expression.

        It may be local to the function or one around it, or what a function of the project makes.
        """
        if isinstance(expression, ast.Call):
            maker = self.source.functions.get(self.source.name_of(module, expression.func) or "")
            names = (
                [f"{maker.full_name}{_LOCAL}{name}" for name in _returned(maker)] if maker else []
            )
            return next((name for name in names if name in self._own), None)
        while isinstance(expression, ast.Name) and scope:
            local = f"{scope}{_LOCAL}{expression.id}"
            if local in self._own:
                return local
            scope = scope.rpartition(_LOCAL)[0]
        return self.source.name_of(module, expression)

    def of(self, function: Function, router: ast.expr, *, unserved: bool = False) -> str | None:
        """Return the whole prefix of a router; `None` for what is none, or nobody includes."""
        name = self._name(function.module, router, function.full_name)
        if name is None:
            return None
        is_known = name in self._own or name.rpartition(".")[2] in ("app", "router", "api")
        if not is_known:
            return None
        prefix = ""
        for _ in range(_DEPTH):
            prefix = self._own.get(name, "") + prefix
            if name not in self._included:
                break
            name, more = self._included[name]
            prefix = more + prefix
        return prefix if unserved or self._is_served(name) else None

    def _is_served(self, name: str) -> bool:
        """Tell whether requests come to a router; if some are included by no name, all may be."""
        is_router = name in self._own and name not in self._applications
        return not is_router or name in self._mounted or not all(map(self._is_said, self._mounted))

    def _is_said(self, name: str | None) -> bool:
        """Tell whether a name is a router's, or stands in a module that the project lacks."""
        owner = (name or "").rpartition(".")[0]
        packages = {module.partition(".")[0] for module in self.source.modules}
        is_missing = owner not in self.source.modules and owner.partition(".")[0] in packages
        return name in self._own or is_missing


def _including(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """Yield the calls of `include_router` with a router."""
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr="include_router"), args=[_, *_]):
                yield node
            case _:
                pass


def _returned(function: Function) -> Iterator[str]:
    for node in function.nodes:
        match node:
            case ast.Return(value=ast.Name(id=name)):
                yield name
            case _:
                pass


def _argument(call: ast.Call, name: str, *, position: int | None = None) -> ast.expr | None:
    found = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    if found is None and position is not None and position < len(call.args):
        return call.args[position]
    return found


def _text(node: ast.expr | None) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case _:
            return None
