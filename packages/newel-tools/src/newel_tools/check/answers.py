"""What the code of an endpoint answers with: models, plain values, responses of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.review import Review
from newel_tools.facts.source import Function

__all__ = ["is_constant", "is_rendered", "is_response", "returned"]

_MEMBER: Final = re.compile(
    r"[A-Z]\w*\.[A-Z][A-Z0-9_]*(\.\w+)?"
)  # Code.SUCCESS, Code.SUCCESS.value
_PAGES: Final = re.compile(
    r"^\w*(template|render|jinja|htmx|chameleon|html|page)\w*(\.\w+)*(\(|$)", re.IGNORECASE
)
_RESPONSE: Final = re.compile(
    r"(Response|Redirect|Template|EventSource)\w*$|get_(swagger_ui|redoc)\w*_html$"
    r"|(^|\.)backend\.log(in|out)$"  # of fastapi-users
    r"|(^|\.)authorize_redirect$"  # of Authlib
)
_DEPTH: Final = 4  # assignments and calls that are followed


def is_rendered(function: Function) -> bool:
    """Tell whether a decorator makes a page of what a function returns: `@template("a.pt")`."""
    return any(_PAGES.search(ast.unparse(node)) for node in function.node.decorator_list)


def returned(function: Function) -> Iterator[ast.expr]:
    """Yield the values that a function returns; `None` and an empty `return` are none."""
    for node in function.nodes:
        value = node.value if isinstance(node, ast.Return) else None
        if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            yield value


def is_response(
    review: Review, value: ast.expr, function: Function, *, depth: int = _DEPTH
) -> bool:
    """Tell whether a value is a response of its own, which FastAPI sends as it is."""
    if isinstance(value, ast.Await):
        value = value.value
    kind = review.calls.types.type_of(value, function) or ""
    if _RESPONSE.search(kind):
        return True
    if depth == 0:
        return False
    if isinstance(value, ast.Call) and _RESPONSE.search(ast.unparse(value.func)):
        return True
    if isinstance(value, ast.Name):
        made = [item for item in _assigned(value.id, function) if not isinstance(item, ast.Name)]
        return any(is_response(review, item, function, depth=depth - 1) for item in made)
    target = review.calls.types.target_of(value, function) if isinstance(value, ast.Call) else None
    callee = review.source.functions.get(target or "")
    return callee is not None and any(
        is_response(review, item, callee, depth=depth - 1) for item in returned(callee)
    )


def _assigned(name: str, function: Function) -> Iterator[ast.expr]:
    for node in function.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                yield value
            case _:
                pass


def is_constant(value: ast.expr) -> bool:
    """Tell whether a value is written down as it is: `{"status": "ok"}`, `Code.SUCCESS.value`."""
    match value:
        case ast.Constant():
            return True
        case ast.Dict(values=values):
            return all(map(is_constant, values))
        case ast.List(elts=values) | ast.Tuple(elts=values):
            return all(map(is_constant, values))
        case ast.Attribute():
            return _MEMBER.fullmatch(ast.unparse(value)) is not None
        case _:
            return False
