"""What the code decides about fields of requests before they are written: `decided_fields`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from newel_tools.check.review import Review

__all__ = ["decided_fields"]


def decided_fields(review: Review) -> Mapping[str, set[str]]:
    """Return, for each model, the fields that requests never write as they came.

    The code on the way gives them a value (`data.owner = user.name`), looks at them in a condition,
    or a decorator of one of the model's methods names them: a validator of some library.
    """
    found: dict[str, set[str]] = {model.full_name: set() for model in review.facts.models.values()}
    types = review.calls.types
    for model in review.facts.models.values():
        cls = review.class_(model)
        for owner in review.source.bases(cls) if cls is not None else ():
            for method in owner.methods.values():
                for decorator in method.node.decorator_list:
                    found[model.full_name].update(_texts(decorator))
    for function in review.reached:
        for node in function.nodes:
            for attribute in _decided(node):
                name = types.type_of(attribute.value, function)
                if name in found:
                    found[name].add(attribute.attr)
    return found


def _decided(node: ast.AST) -> Iterator[ast.Attribute]:
    """Yield the attributes that a statement gives a value, or that a condition looks at."""
    match node:
        case ast.Attribute(ctx=ast.Store()):
            yield node
        case ast.If(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
            yield from _looked_at(test)
        case _:
            pass


def _looked_at(test: ast.expr) -> Iterator[ast.Attribute]:
    """Yield the attributes that a condition is about; a look-up with one says nothing of it."""
    match test:
        case ast.Attribute():
            yield test
        case ast.UnaryOp(operand=inner) | ast.Call(func=ast.Name(id="len"), args=[inner]):
            yield from _looked_at(inner)
        case ast.BoolOp(values=values):
            yield from (found for value in values for found in _looked_at(value))
        case ast.Compare(left=left, comparators=others):
            yield from (found for side in (left, *others) for found in _looked_at(side))
        case _:
            pass


def _texts(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value
