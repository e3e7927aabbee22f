"""Where a request's transaction ends: `commit_at_exit`, of a dependency that yields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import is_commit, receiver, writes_rows
from newel_tools.check.review import Review
from newel_tools.facts.routes import Dependency
from newel_tools.facts.source import Function

__all__ = ["begins", "commit_at_exit", "is_apart"]

_DEPTH: Final = 3
_OF_THE_REQUEST: Final = re.compile(
    r"\bself\.\w*(session|db|conn(ection)?|uow|tx)\b", re.IGNORECASE
)


def commit_at_exit(review: Review, node: Dependency) -> int | None:
    """Return the line that commits when a dependency is left: what stands after its `yield`.

    A block `with session.begin():` around the `yield` commits as well.
    """
    kind = node.call.kind if node.call is not None else ""
    function = review.function(node.call) if kind in ("generator", "async_generator") else None
    return None if function is None else _commit(review, function, _DEPTH)


def _commit(review: Review, function: Function, depth: int) -> int | None:
    yields = [item.lineno for item in function.nodes if isinstance(item, ast.Yield)]
    if not yields or not depth:
        return None
    for call in review.calls.of(function):
        if is_commit(call) and call.line > yields[0]:
            return call.line
    for item in function.nodes:
        if not isinstance(item, ast.With | ast.AsyncWith) or not _spans(item, yields[0]):
            continue
        for entered in item.items:
            if begins(entered.context_expr) or _delegates(review, function, entered, depth):
                return item.lineno
    return None


def _delegates(review: Review, function: Function, entered: ast.withitem, depth: int) -> bool:
    """Tell whether a context manager of the project is entered that commits when it is left."""
    if not isinstance(entered.context_expr, ast.Call):
        return False
    target = review.calls.types.target_of(entered.context_expr, function)
    inner = review.source.functions.get(target or "")
    return inner is not None and _commit(review, inner, depth - 1) is not None


def begins(expression: ast.expr) -> bool:
    """Tell whether a context manager is a transaction: `session.begin()`."""
    match expression:
        case ast.Call(func=ast.Attribute(attr="begin")):
            return True
        case _:
            return False


def is_apart(review: Review, function: Function) -> bool:
    """Tell whether all that a function writes is in transactions that it opens itself.

    An audit log is often written so, by `engine.begin()`: its commit is not the request's.
    """
    opened = dict(_opened(function))
    used = [
        call
        for call in review.calls.of(function)
        if (writes_rows(call) or is_commit(call)) and not begins(call.node)
    ]
    is_writing = bool(used) or any(map(begins, opened.values()))
    return is_writing and all(receiver(call) in opened for call in used)


def _opened(function: Function) -> Iterator[tuple[str, ast.expr]]:
    """Yield what may be sessions and connections that a function was not given, by name."""
    given = {argument.arg for argument in function.arguments} - {"self", "cls"}
    for node in function.nodes:
        match node:
            case ast.withitem(context_expr=ast.Call() as value, optional_vars=ast.Name(id=name)):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as value):
                pass
            case _:
                continue
        used = {inner.id for inner in ast.walk(value) if isinstance(inner, ast.Name)}
        if not used & given and not _OF_THE_REQUEST.search(ast.unparse(value)):
            yield name, value


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or 0)
