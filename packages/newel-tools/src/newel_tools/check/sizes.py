"""Page sizes: which parameters are one, and whether the code bounds them after all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from newel_tools.check.answers import returned
from newel_tools.check.database import is_query
from newel_tools.check.review import Review
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field
from newel_tools.facts.source import Class, Function

__all__ = [
    "Side",
    "bound_in_code",
    "declared_at",
    "is_compared",
    "is_offset",
    "is_page_size",
    "is_size",
    "query_params",
    "reads_rows",
]

Side = Literal["upper", "lower"]
"""Which bound of a number is asked for."""

_SIZES: Final = re.compile(
    r"^(limit|page_?size|(items_?)?per_?page|page_?limit|size|count|take|top|max_?results|n|num_?(items|results))$",
    re.IGNORECASE,
)
_OFFSETS: Final = re.compile(
    r"^(skip|offset|page|page_?(number|num|no|index)|start|from_)$", re.IGNORECASE
)
_BOUNDS: Final = {
    "upper": frozenset({"min", "clamp", "clip"}),
    "lower": frozenset({"max", "clamp", "clip", "abs"}),
}
_MODEL_BOUNDS: Final[dict[Side, re.Pattern[str]]] = {
    "upper": re.compile(r"\bl[et]="),
    "lower": re.compile(r"\bg[et]=|\b(NonNegative|Positive)Int\b"),
}
# What a value in them is only said again by, and neither called nor cut with.
_SAYING: Final = (ast.Dict, ast.JoinedStr, ast.FormattedValue, ast.BinOp, ast.keyword)
_ORDERS: Final = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)


def query_params(review: Review, route: Route) -> Iterator[Field]:
    """Yield a route's query parameters; a model that collects some is taken apart."""
    for param in route.params:
        if param.source == "query" and param.shape.models:
            for model in review.models_in(param.shape):
                yield from (item.model_copy(update={"source": "query"}) for item in model.fields)
        elif param.source == "query":
            yield param


def is_size(param: Field) -> bool:
    """Tell whether a query parameter says how many rows are wanted."""
    return param.source == "query" and "int" in param.shape.types and bool(_SIZES.match(param.name))


def is_page_size(param: Field, among: Iterable[Field]) -> bool:
    """Tell the same of one parameter among others: beside a size with a default, a filter.

    `?limit=` of a route with `?page_size=20` looks for rows whose column `limit` is so.
    """
    others = [p for p in among if is_size(p) and p is not param and p.default is not None]
    return is_size(param) and (param.default is not None or not others)


def is_offset(param: Field) -> bool:
    """Tell whether a query parameter says where a page starts."""
    return (
        param.source == "query" and "int" in param.shape.types and bool(_OFFSETS.match(param.name))
    )


def reads_rows(review: Review, route: Route) -> bool:
    """Tell whether a request to the route reads a database, as far as the source shows."""
    return any(
        is_query(call)
        for start in review.starts(route)
        for function in review.calls.reached(start)
        for call in review.calls.of(function)
    )


def bound_in_code(review: Review, route: Route, param: Field, *, side: Side = "upper") -> bool:
    """Tell whether code that the request runs compares, clamps or validates the parameter.

    Any comparison of order counts, and so does a validator: what it decides cannot be read.
    """
    if param.shape.validated or not reads_rows(review, route) or _is_echoed(review, route, param):
        return True
    return any(
        is_compared(function, param.name, side=side) or _by_model(review, function, param, side)
        for start in review.starts(route)
        for function in review.calls.reached(start)
    )


def _is_echoed(review: Review, route: Route, param: Field) -> bool:
    """Tell whether an endpoint's parameter does nothing, or is only repeated in the answer."""
    function = review.function(route.endpoint)
    if function is None or param.name not in {item.arg for item in function.arguments}:
        return False
    shape = route.response.model
    answers = {model.full_name for model in review.models_in(shape)} if shape else set[str]()
    models = {id(call.node) for call in review.calls.of(function) if call.target in answers}
    repeated: set[int] = set()
    pending: list[ast.AST] = [*returned(function), *_given_to(function, models)]
    while pending:
        node = pending.pop()
        repeated.add(id(node))
        if isinstance(node, _SAYING) or id(node) in models:
            pending += ast.iter_child_nodes(node)
    return all(
        id(node) in repeated
        for statement in function.node.body
        for node in ast.walk(statement)  # functions inside it use it, too
        if isinstance(node, ast.Name) and node.id == param.name
    )


def _given_to(function: Function, calls: set[int]) -> Iterator[ast.expr]:
    for node in function.nodes:
        if isinstance(node, ast.Call) and id(node) in calls:
            yield from (keyword.value for keyword in node.keywords)


def _by_model(review: Review, function: Function, param: Field, side: Side) -> bool:
    """Tell whether a parameter is given to a model of the project whose field is bounded."""
    for call in review.calls.of(function):
        cls = review.source.classes.get(call.target or "")
        for keyword in call.node.keywords if cls is not None else ():
            if cls is not None and keyword.arg and _names(keyword.value, param.name):
                bounds = _MODEL_BOUNDS[side]
                if any(bounds.search(said) for said in _declared(review, cls, keyword.arg)):
                    return True
    return False


def _declared(review: Review, cls: Class, name: str) -> Iterator[str]:
    """Yield how a class and its bases declare a field."""
    for owner in review.source.bases(cls):
        for node in owner.node.body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                    yield ast.unparse(node)
                case _:
                    pass


def declared_at(review: Review, route: Route, param: Field) -> tuple[str | None, int]:
    """Return where a parameter is declared: the `def` that takes it, or the line of a model's."""
    for node in route.dependencies:
        if param in node.params and review.function(node.call) is not None:
            return node.call.file if node.call else None, review.line_of(node.call)
    for model in review.bodies(route) if param not in route.params else ():
        if any(item.model_copy(update={"source": "query"}) == param for item in model.fields):
            return review.field_place(model, param.name)
    return review.at(route)


def is_compared(function: Function, name: str, *, side: Side = "upper") -> bool:
    """Tell whether a function compares or clamps what has a name."""
    for node in function.nodes:
        match node:
            case ast.Compare(ops=[order, *_]) if _names(node, name) and isinstance(order, _ORDERS):
                return True
            case ast.Compare(comparators=[ast.UnaryOp(op=ast.USub())]) if _names(node, name):
                return side == "lower"  # `== -1` stands for something
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if (
                called in _BOUNDS[side] and _names(node, name)
            ):
                return True
            case _:
                pass
    return False


def _names(node: ast.AST, name: str) -> bool:
    return any(
        (isinstance(inner, ast.Name) and inner.id == name)
        or (isinstance(inner, ast.Attribute) and inner.attr == name)
        for inner in ast.walk(node)
    )
