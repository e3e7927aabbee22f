"""JSON web tokens: where a project makes and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access
from newel_tools.check.review import Review
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["guarding", "is_decode", "is_encode", "makes_tokens", "own_calls"]

_LIBRARY: Final = r"(jwt(\.(api_jwt|jwt))?(\.PyJWT)?|jose\.jwt|jose\.jws)"
_DECODE: Final = re.compile(_LIBRARY + r"\.decode(_complete)?|jose\.jws\.verify")
_ENCODE: Final = re.compile(_LIBRARY + r"\.encode|jose\.jws\.sign")
_MAKES: Final = re.compile(
    r"(create|generate|issue|make|encode|new|build|sign|mint)_?\w*(token|jwt)", re.IGNORECASE
)


def is_decode(call: Call) -> bool:
    """Tell whether a call reads a token."""
    return call.target is not None and _DECODE.fullmatch(call.target) is not None


def is_encode(call: Call) -> bool:
    """Tell whether a call makes a token."""
    return call.target is not None and _ENCODE.fullmatch(call.target) is not None


def makes_tokens(call: Call) -> bool:
    """Tell whether a call makes a token, or calls a function that by its name does."""
    return is_encode(call) or _MAKES.search((call.target or "").rpartition(".")[2]) is not None


def own_calls(review: Review) -> Iterator[Call]:
    """Yield every call in the project's functions, tests left out."""
    for function in review.source.functions.values():
        if not function.module.is_test:
            yield from review.calls.of(function)


def guarding(review: Review, access: Access) -> frozenset[Function]:
    """Return the functions whose word decides who the caller is: what guards lead to."""
    starts = {
        function
        for route in review.routes
        for node in route.dependencies
        if any(access.guards(inner) for inner in node.walk())
        and (function := review.function(node.call)) is not None
    }
    in_front = {f for f, reach in review.served.items() if f not in review.reached and reach.starts}
    return frozenset(
        inner for start in starts for inner in review.calls.reached(start)
    ) | frozenset(in_front)
