"""Where a request's transaction ends: `commit_at_exit`, of a dependency that yields."""

from __future__ import annotations

import ast
from typing import Final

from newel_tools.check.database import is_commit
from newel_tools.check.review import Review
from newel_tools.facts.routes import Dependency
from newel_tools.facts.source import Function

__all__ = ["begins", "commit_at_exit"]

_DEPTH: Final = 3


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


def _spans(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or 0)
