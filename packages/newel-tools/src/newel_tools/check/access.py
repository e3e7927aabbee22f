"""Who may call a route: what it asks for before it answers.

In doubt a route counts as protected: a finding that says otherwise has to be right.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from newel_tools.check.review import Review
from newel_tools.facts.facts import Middleware
from newel_tools.facts.routes import Dependency, Route
from newel_tools.facts.source import Function

__all__ = ["Access", "is_public"]

_ENTERS: Final = re.compile(  # words of a path's segment: how strangers become callers
    r"(?:^|_)([a-z]*(login|logout|signup|signin|signout|register|webhook|callback)s?|registrations?"
    r"|sign_(up|in|out)|log_(in|out)|auth|authenticat\w*|authori[sz]\w*|oauth2?|sso|webauthn|sessions?"
    r"|passwords?|setup|bootstrap|install)(?:_|$)"
    r"|^((access|refresh|id|auth|jwt|bearer|get|obtain|create|issue|generate|new|verify|validate|renew"
    r"|exchange|revoke|reset)_)*tokens?(_(refresh|verify|obtain|pair|revoke|exchange))?$"
    r"|^reset(_(request|confirm|code|link|email))?$"
)
_PUBLIC: Final = re.compile(
    r"(?:^|_)(forgot|forgotten|verif\w*|confirm\w*|activat\w*|magic|magiclink|otp|2fa|invites?"
    r"|invitations?|accept|hooks?|ipn|contact|contacts?_us|feedback|inquir\w*|enquir\w*|surveys?"
    r"|donat\w*|rsvps?|(un)?subscri\w*|newsletters?|waitlist|health\w*|ping|track|tracking|analytics"
    r"|telemetry|consents?|on_?board\w*|public|guests?|anonymous|captcha|private|internal)(?:_|$)"
)
_NAMED: Final = re.compile(
    r"^(register|log_?in|log_?out|sign_?(up|in|out)|forgot|(reset|recover|forgot)_password)(_|$)"
    r"|(^|_)(webhook|callback|login|signup)$"
)
_OF_ADMINS: Final = re.compile(r"(^|_)(super_?)?admin(s|istrators?|istration)?(_|$)")
_DESTROYS: Final = re.compile(r"^(clear|delete|remove|purge|wipe|drop|flush|truncate)_")
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_OF_SIGN_UPS: Final = re.compile(r"((user|admin|owner|account)_)?password", re.IGNORECASE)
_REFUSALS: Final = frozenset({"401", "403", "HTTP_401_UNAUTHORIZED", "HTTP_403_FORBIDDEN"})
_REFUSALS_BY_NAME: Final = frozenset({"UNAUTHORIZED", "FORBIDDEN", "WS_1008_POLICY_VIOLATION"})
_ERRORS: Final = re.compile(
    r"(unauthori[sz]ed|unauthenticated|forbidden|notauthenticated|permission|credential|accessdenied"
    r"|authentication|authorization|invalidtoken|notallowed|autherror|authexception)",
    re.IGNORECASE,
)
_GUARDS: Final = re.compile(
    r"(^|_|\.)(auth|authenticate|authenticated|authorize|authorized|authorization|authentication"
    r"|current_?(active_?|super_?|admin_?|verified_?)*(user|account|principal|member|customer)\w*"
    r"|current_?active\w*|require[sd]?(_\w+)?|(verify|check|validate|ensure|get)_\w*(token|key|auth|user|"
    r"signature|permissions?|access|admin|login|session|api_key|credentials)\w*|permissions?|login_required"
    r"|\w*_auth|protected|access_control|has_\w+|is_(admin|owner|superuser|staff|authenticated)\w*)$",
    re.IGNORECASE,
)
_CLASSES: Final = re.compile(
    r"(auth(?!or)|permission|protect|require|current_?user|current_?account|bearer|principal|"
    r"role_?checker|rate_?limiter_auth|guard|api_?key)",
    re.IGNORECASE,
)
_OPENERS: Final = re.compile(
    r"(service|repo|repository|crud|db|database|store|manager|client|settings|resolver|factory)$"
)
_SIGNED: Final = re.compile(
    r"(verif|check|validat|compare)\w*(signature|hmac|webhook)|compare_digest|construct_event"
    r"|(signature|hmac)\w*(valid|match)",
    re.IGNORECASE,
)
_OF_CALLERS: Final = re.compile(  # what tells callers apart; an Origin tells only pages apart
    r"(auth(?!or(s?\b|_|ity\b))|bearer|cookie|token|jwt|key|session|credential|user|login|secret|signature)",
    re.IGNORECASE,
)
_ADDRESSES: Final = re.compile(  # the caller's own; `ip_address(host)` may be of the server's
    r"\bclient\b|\bip\b|\b\w*(client|remote|real|caller|peer|source)[-_]?(ip|addr|host)|forwarded[-_]for",
    re.IGNORECASE,
)
_DOCUMENTED: Final = re.compile(r'^\s*""".*?"""$', re.MULTILINE | re.DOTALL)
_OF_ORIGINS: Final = re.compile(r"(?<![a-z])origin(?!al)", re.IGNORECASE)
_ALLOWS: Final = re.compile(  # a list of those who may; one of who may not lets strangers in
    r"\bnot (in\b|[\w.]*(allow|trust|private|internal|known)\w*\()", re.IGNORECASE
)
_SAYS_NOT_WHO: Final = re.compile(  # browsers, the page that a form is from, what is only logged
    r"user[-_]?agent|cookies?(\.get\(|\[)[\"']?[\w.-]*[cx]srf[\w-]*|[\w-]*[cx]srf[\w-]*"
    r"|\b(\w*log(ger|ging)?\.\w+|print)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)",
    re.IGNORECASE,
)
_SESSIONS: Final = re.compile(r"\b(Async|Client)?Session\b")  # a database's, aiohttp's
_MIDDLEWARE: Final = re.compile(
    r"(auth(?!or)|session_?guard|token|jwt|api_?key|login|oidc|saml|iap)", re.IGNORECASE
)


def is_public(review: Review, route: Route) -> bool:
    """Tell whether a route, by its path and name, is meant for callers nobody knows yet.

    So is a POST that takes a new user's password: a sign-up. Below `admin` only the log-in is, and
    the set-up of the first user.
    """
    parts = [_snake(part) for part in route.path.split("/") if part and part[0] != "{"]
    if parts and _DESTROYS.match(parts[-1]):
        return False
    if any(map(_OF_ADMINS.search, parts)):  # `admin/users/{id}/password` sets somebody's
        return parts[-1] != "password" and _ENTERS.search(parts[-1]) is not None
    is_entrance = any(_ENTERS.search(part) or _PUBLIC.search(part) for part in parts)
    if is_entrance or _NAMED.search(_snake(route.name)):
        return True
    fields = (field.name for model in review.bodies(route) for field in model.fields)
    return route.methods == ("POST",) and any(_OF_SIGN_UPS.fullmatch(name) for name in fields)


def _snake(part: str) -> str:
    """Return the words of a segment or name, whatever parts them: `userLogin`, `sign-up`."""
    return "_".join(_WORDS.findall(part)).lower()


class Access:
    """Answers whether a route asks who is calling; built once for a review."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._refusing: dict[Function, bool] = {}

    @cached_property
    def has_authentication(self) -> bool:
        """Tell whether any route of the application asks who is calling."""
        return self.guarding_middleware or any(self.is_protected(r) for r in self._review.routes)

    @cached_property
    def guarding_middleware(self) -> bool:
        """Tell whether a middleware asks, before any route is chosen."""
        return any(self._is_guard(item) for item in self._review.facts.middleware)

    def is_protected(self, route: Route) -> bool:
        """Tell whether a request has to say who it is from before the route answers it."""
        return (
            any(self.guards(node) for node in route.dependencies)
            or self.refuses(self._review.function(route.endpoint))
            or self._decorated(self._review.function(route.endpoint))
        )

    def guards(self, node: Dependency) -> bool:
        """Tell whether a dependency asks who is calling, or may do so where we cannot read it."""
        if node.security is not None:
            return True  # even where it does not refuse: what stands above it decides
        if node.call is None:
            return False
        if self.refuses(self._review.function(node.call)):
            return True
        name = node.call.name.replace(".<locals>", "")
        if any(_GUARDS.search(part) for part in name.split(".")) and not self._opens(node):
            return True
        in_class = node.call.kind in ("class", "instance", "async_instance")
        return in_class and _CLASSES.search(node.call.name) is not None

    def _opens(self, node: Dependency) -> bool:
        """Tell whether a dependency only sounds like a guard: it hands out a service or a store."""
        name = (node.call.name if node.call else "").lower()
        if _OPENERS.search(name):
            return True
        function = self._review.function(node.call)
        returns = function.node.returns if function is not None else None
        of_database = returns is not None and _SESSIONS.search(ast.unparse(returns)) is not None
        yields = node.call is not None and node.call.kind.endswith("generator")
        return name.endswith("session") and (of_database or yields)

    def refuses(self, function: Function | None) -> bool:
        """Tell whether a function, or one that it calls, answers 401 or 403 or raises what may."""
        if function is None:
            return False
        if function not in self._refusing:
            reached = self._review.calls.reached(function)
            self._refusing[function] = any(_refuses_itself(inner) for inner in reached)
        return self._refusing[function]

    def _decorated(self, function: Function | None) -> bool:
        """Tell whether a decorator of the endpoint checks the caller."""
        if function is None:
            return False
        return any(
            _GUARDS.search(name) or _CLASSES.search(name) for name in _decorator_names(function)
        )

    def _is_guard(self, item: Middleware) -> bool:
        name = _SAYS_NOT_WHO.sub("", item.class_.rpartition(".")[2])
        if _MIDDLEWARE.search(name) or (item.dispatch and _MIDDLEWARE.search(item.dispatch.name)):
            return True
        if item.dispatch is not None:
            return self._refuses_callers(self._review.function(item.dispatch))
        cls = self._review.class_(item)
        methods = cls.methods if cls is not None else {}
        return any(
            self._refuses_callers(methods[name])
            for name in ("dispatch", "__call__")
            if name in methods
        )

    def _refuses_callers(self, function: Function | None) -> bool:
        """Tell whether a middleware refuses by who is calling, not by an Origin or a program."""
        if function is None or not self.refuses(function):
            return False
        text = _SAYS_NOT_WHO.sub("", self._code(function))
        by_address = _ADDRESSES.search(text) is not None and _ALLOWS.search(text) is not None
        return by_address or _OF_CALLERS.search(text) is not None

    def _code(self, function: Function) -> str:
        """Return what a function and those that it calls do, without what is said about it."""
        reached = self._review.calls.reached(function)
        bodies = (ast.unparse(ast.Module(inner.node.body, [])) for inner in reached)
        return _DOCUMENTED.sub("", "\n".join(bodies))

    @cached_property
    def guards_websockets(self) -> bool:
        """Tell whether a middleware refuses websockets, by who is calling or by the page's Origin.

        Starlette shows what has a `dispatch` no websocket; neither sees any that is for HTTP alone.
        """
        return any(self._guards_websockets(item) for item in self._review.facts.middleware)

    def _guards_websockets(self, item: Middleware) -> bool:
        cls = self._review.class_(item)
        function = self._review.source.method(cls, "__call__") if cls is not None else None
        if function is None:
            return False
        text = self._code(function)
        sees = "websocket" in text or re.search(r"['\"]http['\"]", text) is None
        refuses = "websocket.close" in text or self.refuses(function)
        by_origin = _OF_ORIGINS.search(text) is not None
        return sees and refuses and (by_origin or self._refuses_callers(function))


def _decorator_names(function: Function) -> Iterator[str]:
    for node in function.node.decorator_list:
        inner = node.func if isinstance(node, ast.Call) else node
        name = _name(inner)
        if name not in ("get", "post", "put", "patch", "delete", "api_route", "route", "websocket"):
            yield name


def _refuses_itself(function: Function) -> bool:
    return any(_is_refusal(node) or _is_proof(node, function) for node in function.nodes)


def _is_proof(node: ast.AST, function: Function) -> bool:
    """Tell whether a sender's signature is checked: `hmac.compare_digest`, `_verify_signature`.

    What compares only what its module holds asks nobody anything.
    """
    if not isinstance(node, ast.Call) or _SIGNED.search(_name(node.func)) is None:
        return False
    return _name(node.func) != "compare_digest" or any(
        _is_sent(argument, function) for argument in node.args
    )


def _is_sent(value: ast.expr, function: Function) -> bool:
    """Tell whether a value may come with the request: all but constants and a module's names."""
    known = function.module.names
    own = {argument.arg for argument in function.arguments}
    for inner in ast.walk(value):
        match inner:
            case ast.Call(func=ast.Name(id=called)) if called not in vars(builtins):
                return True
            case ast.Name(id=name) if name in own or name not in known | vars(builtins):
                made = [] if name in own else list(_assigned(name, function))
                if not made or any(_is_sent(item, function) for item in made):
                    return True
            case _:
                pass
    return False


def _assigned(name: str, function: Function) -> Iterator[ast.expr]:
    """Yield what a function's own name is set to, where it does not speak of itself."""
    for node in function.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                if not any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value)):
                    yield value
            case _:
                pass


def _name(callee: ast.expr) -> str:
    return callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")


def _is_refusal(node: ast.AST) -> bool:
    match node:
        case ast.Raise(exc=ast.expr() as raised):
            name = ast.unparse(raised.func if isinstance(raised, ast.Call) else raised)
            return _ERRORS.search(name) is not None or _has_refusing_status(raised)
        case ast.Call(func=callee):
            name = _name(callee)
            answers = name.endswith("Response") or name in ("close", "HTTPException")
            return answers and _has_refusing_status(node)
        case _:
            return False


def _has_refusing_status(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        match inner:
            case ast.Constant(value=int(value)) if str(value) in _REFUSALS or value == 1008:
                return True
            case ast.Attribute(attr=name) if name in _REFUSALS | _REFUSALS_BY_NAME:
                return True
            case ast.Name(id=name) if name in _REFUSALS | _REFUSALS_BY_NAME:
                return True
            case _:
                pass
    return False
