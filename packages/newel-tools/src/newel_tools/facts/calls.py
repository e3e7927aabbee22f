"""Who calls whom: a graph from each route, so that code no route reaches is no finding."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from newel_tools.facts.inference import Inference
from newel_tools.facts.source import Function, Source

__all__ = ["Call", "Calls"]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call inside ``caller``.

    ``target`` is the full name of what is called, see `Inference.target_of`; ``function`` is it, if
    the project defines it. ``is_awaited``: directly.
    """

    caller: Function
    node: ast.Call
    target: str | None
    function: Function | None
    is_awaited: bool

    @property
    def line(self) -> int:
        """The line of the call."""
        return self.node.lineno

    def argument(self, position: int | None, name: str) -> ast.expr | None:
        """Return an argument by its position or its keyword."""
        for keyword in self.node.keywords:
            if keyword.arg == name:
                return keyword.value
        if position is None or position >= len(self.node.args):
            return None
        found = self.node.args[position]
        return None if isinstance(found, ast.Starred) else found

    def given(self) -> Iterator[tuple[str, ast.expr]]:
        """Yield the parameters of the project's function that is called, with their values."""
        if self.function is None:
            return
        names = [argument.arg for argument in self.function.arguments]
        decorators = map(ast.unparse, self.function.node.decorator_list)
        is_bound = self.function.owner is not None and "staticmethod" not in decorators
        yield from zip(names[is_bound:], self.node.args, strict=False)
        for keyword in self.node.keywords:
            if keyword.arg in names:
                yield keyword.arg, keyword.value


class Calls:
    """The calls of each function, and what can be reached from where."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.types = Inference(source)
        self._calls: dict[Function, tuple[Call, ...]] = {}
        self._mentions: dict[Function, tuple[Function, ...]] = {}

    def of(self, function: Function) -> tuple[Call, ...]:
        """Return the calls in a function's own body, in source order."""
        if function not in self._calls:
            awaited = {id(node.value) for node in function.nodes if isinstance(node, ast.Await)}
            self._calls[function] = tuple(
                self._call(node, function, is_awaited=id(node) in awaited)
                for node in function.nodes
                if isinstance(node, ast.Call)
            )
        return self._calls[function]

    def _call(self, node: ast.Call, function: Function, *, is_awaited: bool) -> Call:
        target = self.types.target_of(node, function)
        return Call(function, node, target, self._defined(target), is_awaited)

    def _defined(self, target: str | None) -> Function | None:
        if target is None:
            return None
        cls = self.source.classes.get(target)
        if cls is not None:
            return self.source.method(cls, "__init__")
        function = self.source.functions.get(target)
        return None if function is None else self.source.implementation(function)

    def mentions(self, function: Function) -> tuple[Function, ...]:
        """Return the project's functions that are named without being called: callbacks.

        Functions defined inside ``function`` count: somebody calls them.
        """
        if function not in self._mentions:
            self._mentions[function] = tuple(self._find_mentions(function))
        return self._mentions[function]

    def _find_mentions(self, function: Function) -> Iterator[Function]:
        called = {id(node.func) for node in function.nodes if isinstance(node, ast.Call)}
        known = self.types.local_types(function)
        for node in function.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = self.source.functions.get(f"{function.full_name}.<locals>.{node.name}")
            elif isinstance(node, ast.Name) and node.id not in known and id(node) not in called:
                inner = self.source.functions.get(self.source.name_of(function.module, node) or "")
            elif isinstance(node, ast.Attribute) and id(node) not in called:
                owner = self.types.type_of(node.value, function)
                cls = self.source.classes.get(owner or "")
                inner = self.source.method(cls, node.attr) if cls is not None else None
                if inner is None and owner is None:  # of a module: `mail.send`
                    inner = self.source.functions.get(
                        self.source.name_of(function.module, node) or ""
                    )
            else:
                inner = None
            if inner is not None:
                yield inner

    def reached(self, start: Function) -> Mapping[Function, tuple[Call | None, ...]]:
        """Return every function that ``start`` leads to, with the calls on the shortest way there.

        A step that is no call (a callback) is ``None`` on the way.
        """
        found: dict[Function, tuple[Call | None, ...]] = {start: ()}
        pending = deque([start])
        while pending:
            current = pending.popleft()
            steps: list[tuple[Function, Call | None]] = [
                (call.function, call) for call in self.of(current) if call.function is not None
            ]
            steps += [(inner, None) for inner in self.mentions(current)]
            for function, call in steps:
                if function not in found:
                    found[function] = (*found[current], call)
                    pending.append(function)
        return found

    @cached_property
    def callers(self) -> Mapping[Function, tuple[Call, ...]]:
        """Who calls each function of the project."""
        found: dict[Function, list[Call]] = {}
        for function in self.source.functions.values():
            for call in self.of(function):
                if call.function is not None:
                    found.setdefault(call.function, []).append(call)
        return {function: tuple(calls) for function, calls in found.items()}
