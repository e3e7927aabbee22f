"""Roles: whether a request to a route is asked for more than who is calling.

In doubt it is: a finding that says otherwise has to be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from newel_tools.check.review import Review
from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.source import Function

__all__ = ["asks_role", "knows_roles", "text_of"]

_NAMED: Final = re.compile(
    r"(admin|super_?user|staff|role|permission|scope|privilege"
    r"|requires?(_(?!(user|log_?in|auth|authenticated|authentication|token|key|api_?key|session)$)|\.|$)"
    r"|(^|[_.])has_|(^|[_.])can_"
    r"|allowed|acl\b|rbac|policy|ability|authoriz|guard|access|internal|owner)",
    re.IGNORECASE,
)
_SAID: Final = re.compile(
    r"(admin|super_?user|is_staff|\broles?\b|_roles?\b|permission|\bscopes?\b|privilege|\bcan_\w+\("
    r"|\b403\b|FORBIDDEN|Forbidden|PermissionDenied|NotAuthorized)",
)


def asks_role(review: Review, route: Route, *, aside: re.Pattern[str] | None = None) -> bool:
    """Tell whether a route looks at a role, a permission or a scope, as far as names say it.

    What ``aside`` matches in the code says nothing.
    """
    if any(_is_role(node) for node in route.dependencies):
        return True
    starts = list(review.starts(route))
    if any(_NAMED.search(name) for start in starts for name in _decorators(start)):
        return True
    reached = {inner for start in starts for inner in review.calls.reached(start)}
    texts = map(text_of, reached)
    return any(_SAID.search(aside.sub("", text) if aside else text) for text in texts)


def knows_roles(review: Review) -> bool:
    """Tell whether any route of the application asks for a role."""
    return any(
        any(_is_role(node) for node in route.dependencies) or asks_role(review, route)
        for route in review.routes
    )


def text_of(function: Function) -> str:
    """Return the text of a function's body, without its decorators, name and parameters."""
    first, last = function.node.body[0].lineno, function.node.end_lineno
    return "\n".join(function.module.lines[first - 1 : last])


def _is_role(node: Dependency) -> bool:
    if node.oauth_scopes or any(node.values.values()):
        return True
    name = node.call.name.replace(".<locals>", "") if node.call is not None else ""
    return _NAMED.search(name) is not None


def _decorators(function: Function) -> Iterable[str]:
    for node in function.node.decorator_list:
        line = function.module.lines[node.lineno - 1]
        yield line.partition("@")[2].partition("(")[0] if "router" not in line else ""
