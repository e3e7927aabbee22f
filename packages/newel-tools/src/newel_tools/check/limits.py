"""Rate limits: what in an application counts requests and refuses some."""

from __future__ import annotations

import ast
import re
from typing import Any, Final, cast

from newel_tools.check.review import Review
from newel_tools.check.roles import text_of
from newel_tools.facts.routes import Route

__all__ = ["counts_callers", "limits_all", "limits_route"]

_NAMED: Final = re.compile(r"(rate_?limit|limiter|throttl|slowapi|(^|_)limits?$)", re.IGNORECASE)
_SAID: Final = re.compile(
    r"(rate_?limit|throttl|\blimiter\b|TOO_MANY_REQUESTS|\b429\b|TooManyRequests)", re.IGNORECASE
)
_COUNTED: Final = re.compile(
    r"(attempt|failed_?log|login_fail|fail_?count|lock_?out|locked|lock_until|captcha|brute)",
    re.IGNORECASE,
)


def limits_all(review: Review) -> bool:
    """Tell whether a middleware limits every request, or a limiter has limits by default."""
    by_name = any(
        _NAMED.search(item.class_.rpartition(".")[2])
        or (item.dispatch is not None and _NAMED.search(item.dispatch.name))
        for item in review.facts.middleware
    )
    # What answers when a limit was met is no limit itself.
    answering = {review.function(item.handler) for item in review.facts.handlers}
    in_front = (
        function
        for function, reach in review.served.items()
        if function not in review.reached and not answering.issuperset(reach.starts)
    )
    return by_name or any(_SAID.search(text_of(function)) for function in in_front)


def limits_route(review: Review, route: Route) -> bool:
    """Tell whether a route has a limit of its own: a decorator, a dependency, or in its code.

    Or says so: a library's limit shows as 429 in the OpenAPI document.
    """
    if _documents(review, route):
        return True
    if any(node.call is not None and _is_limit(node.call.full_name) for node in route.dependencies):
        return True
    function = review.function(route.endpoint)
    if function is not None:
        decorators = (ast.unparse(node) for node in function.node.decorator_list)
        if any(_NAMED.search(text.partition("(")[0].replace(".", "_")) for text in decorators):
            return True
    return any(_SAID.search(text) for text in _texts(review, route))


def counts_callers(review: Review, route: Route) -> bool:
    """Tell whether a route counts failed attempts, locks accounts or asks for a captcha."""
    return any(_COUNTED.search(text) for text in _texts(review, route))


def _documents(review: Review, route: Route) -> bool:
    paths = cast("dict[str, Any]", (review.facts.openapi or {}).get("paths") or {})
    operations = cast("dict[str, dict[str, Any]]", paths.get(route.path) or {})
    said = (operations.get(method.lower(), {}) for method in route.methods)
    return any("429" in operation.get("responses", {}) for operation in said)


def _is_limit(name: str) -> bool:
    return any(_NAMED.search(part) for part in name.split("."))


def _texts(review: Review, route: Route) -> list[str]:
    starts = list(review.starts(route))
    return [text_of(inner) for start in starts for inner in review.calls.reached(start)]
