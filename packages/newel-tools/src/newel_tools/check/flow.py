"""What a function's answer is made of as a whole: followed through names, calls and lists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from newel_tools.check.answers import returned
from newel_tools.facts.source import Function

if TYPE_CHECKING:
    from newel_tools.check.review import Review

__all__ = ["answered"]

_DEPTH: Final = 6  # calls
_ONE: Final = frozenset({"len", "sum", "any", "all", "max", "min", "str", "int", "bool", "next"})
_ASKING: Final = frozenset(
    {"execute", "exec", "scalars", "scalar", "stream", "get", "where", "filter", "filter_by"}
)
_ALL_OF_IT: Final = frozenset(
    {"all", "unique", "values", "items", "copy", "scalars", "tuples", "mappings", "fetchall"}
)
_GROWING: Final = frozenset({"append", "extend", "add", "insert", "setdefault"})


def answered(review: Review, function: Function) -> Iterator[tuple[ast.Call, Function]]:
    """Yield the calls all of whose result goes into a function's answer, and where they are."""
    for node, owner in _answered(review, function, _DEPTH):
        if isinstance(node, ast.Call):
            yield node, owner


def _answered(
    review: Review, function: Function, depth: int
) -> Iterator[tuple[ast.Call | ast.Name, Function]]:
    """Yield the same, and the function's own names: its parameters are its callers' to follow."""
    calls = {id(call.node): call for call in review.calls.of(function)}
    pending = list(returned(function)) if depth > 0 else []
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        call = calls.get(id(node))
        inner = call.function if call is not None else None
        if call is not None and inner is not None and inner.node.name != "__init__":
            given = dict(call.given())
            for found, owner in _answered(review, inner, depth - 1):
                if isinstance(found, ast.Call):
                    yield found, owner
                elif found.id in given:
                    pending.append(given[found.id])
        elif isinstance(node, ast.Name):
            yield node, function
            pending += _made_of(node.id, function)
            yield from _by_nested(review, function, node.id, depth - 1)
        elif isinstance(node, ast.Call):
            yield node, function
            pending += _given(node)
        else:
            pending += _parts(node)


def _by_nested(
    review: Review, function: Function, name: str, depth: int
) -> Iterator[tuple[ast.Call | ast.Name, Function]]:
    """Yield the same of a function inside the function, which is handed to a thread, say."""
    nested = review.source.functions.get(f"{function.full_name}.<locals>.{name}")
    if nested is not None:
        yield from _answered(review, nested, depth)


def _made_of(name: str, function: Function) -> Iterator[ast.expr]:
    """Yield what a local name is bound to, and the loops that it grows in."""
    for node in function.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                yield value
            case (
                ast.AnnAssign(target=ast.Name(id=bound), value=ast.expr() as value)
                | ast.NamedExpr(target=ast.Name(id=bound), value=value)
                | ast.AugAssign(target=ast.Name(id=bound), value=value)
            ) if bound == name:
                yield value
            case ast.For(iter=value) | ast.AsyncFor(iter=value):
                if any(_grows(inner, name) for step in node.body for inner in ast.walk(step)):
                    yield value
            case _:
                pass


def _grows(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=found), attr=attribute)):
            return found == name and attribute in _GROWING
        case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=found))]):
            return found == name
        case _:
            return False


def _given(call: ast.Call) -> list[ast.expr]:
    """Return what a call that is not the project's may answer with all of."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    match call.func:
        case ast.Name(id=name):
            return [] if name in _ONE else given
        case ast.Attribute(value=owner, attr=name):
            return [*([] if name in _ASKING else given), *([owner] if name in _ALL_OF_IT else [])]
        case _:
            return given


def _parts(node: ast.expr) -> list[ast.expr]:
    """Return the expressions that one holds all of."""
    match node:
        case ast.Await(value=value) | ast.Starred(value=value) | ast.NamedExpr(value=value):
            return [value]
        case ast.IfExp(body=first, orelse=second) | ast.BinOp(left=first, right=second):
            return [first, second]
        case (
            ast.BoolOp(values=values)
            | ast.Dict(values=values)
            | ast.List(elts=values)
            | ast.Tuple(elts=values)
            | ast.Set(elts=values)
        ):
            return values
        case (
            ast.ListComp(generators=loops)
            | ast.GeneratorExp(generators=loops)
            | ast.SetComp(generators=loops)
            | ast.DictComp(generators=loops)
        ):
            return [loop.iter for loop in loops]
        case _:
            return []
