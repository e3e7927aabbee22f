"""How we know who is calling, and what a route asks of them.

    @router.delete("/{agent_id}", status_code=204)
    async def delete(id: UUID, caller: Annotated[Principal, requires("agents:write")]): ...

Every route declares ``requires(...)``, ``require_role(...)`` or ``public()``; ``create_app``
refuses to start with one that does not. The same dependencies work on websocket routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol

from fastapi import Depends, Response
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import OAuth2, OAuthFlowPassword, OAuthFlows
from fastapi.openapi.models import SecurityBase as SecurityModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from newel.console import is_page
from newel.context import client_ip, route_template
from newel.db import CurrentWork
from newel.errors import AppError, Forbidden, TooManyRequests, Unauthorized
from newel.limits import Limiter, Rate
from newel.principal import ANYONE, Principal

__all__ = [
    "ACCESS_COOKIE",
    "LOGGED_IN",
    "Authenticator",
    "CallerFirst",
    "OfferedToken",
    "current_caller",
    "is_known_origin",
    "limit",
    "public",
    "refuse_cross_site",
    "require_role",
    "requires",
]

ACCESS_COOKIE = "__Host-access"
LOGGED_IN = "logged in"
"""What a route asks for, in lists of routes, when any caller who is logged in may call it."""

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Authenticator(Protocol):
    """Turns an access token into the principal behind it. ``accounts`` has the usual one."""

    async def authenticate(self, token: str) -> Principal:
        """Return who holds ``token``; raises ``Unauthorized`` when it is not (or no more) good."""
        ...


class Bearer(SecurityBase):
    """The access token of a request or websocket: the Authorization header, else the cookie."""

    def __init__(self) -> None:
        self.scheme_name: str = "BearerAuth"
        self.model: SecurityModel = OAuth2(
            flows=OAuthFlows(password=OAuthFlowPassword(tokenUrl="auth/login", scopes={})),
            description="Access token from log-in, sent as `Authorization: Bearer <token>`.",
        )

    async def __call__(self, connection: HTTPConnection) -> str | None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        # A browser has nothing else to show a page with, so `console` takes cookies in any case.
        takes_cookies = connection.app.state.auth_cookies or is_page(connection)
        if takes_cookies and (cookie := connection.cookies.get(ACCESS_COOKIE)):
            refuse_cross_site(connection)
            return cookie
        return None


_BEARER = Bearer()
"""One object, so that FastAPI reads the token once a request."""

OfferedToken = Annotated[str | None, Depends(_BEARER)]
"""The access token that came with a request or handshake, not looked at yet."""


def refuse_cross_site(connection: HTTPConnection) -> None:
    """Raise ``Forbidden`` for a cookie that another site's page sends along (CSRF, websockets too).

    Reads are let through: CORS keeps their answers from other sites.
    """
    if connection.scope.get("method") in _SAFE_METHODS:
        return
    origin = connection.headers.get("origin")
    if origin not in connection.app.state.cors_origins and not _is_own(connection, origin):
        raise Forbidden("Log-in by cookie is accepted from this service's own pages only.")


def is_known_origin(connection: HTTPConnection) -> bool:
    """Tell whether a page of this service or of CORS_ORIGINS is calling, or no page at all.

    A browser names the origin of every websocket, and lets any page open one anywhere.
    """
    origin = connection.headers.get("origin")
    known = connection.app.state.cors_origins
    return origin is None or "*" in known or origin in known or _is_own(connection, origin)


def _is_own(connection: HTTPConnection, origin: str | None) -> bool:
    """Tell whether ``origin`` names the host that was called; no browser leaves it out."""
    scheme, separator, host = (origin or "").partition("://")
    return (
        scheme in {"http", "https"} and separator != "" and host == connection.headers.get("host")
    )


async def _identify(connection: HTTPConnection, token: OfferedToken) -> Principal | Unauthorized:
    """Return who the token says is calling, or what is wrong with it: looked up once a request."""
    if token is None:
        return ANYONE
    authenticator: Authenticator = connection.app.state.authenticator
    try:
        caller = await authenticator.authenticate(token)
    except Unauthorized as error:
        return error
    connection.state.principal = caller
    return caller


Identified = Annotated[Principal | Unauthorized, Depends(_identify)]


async def current_caller(found: Identified) -> Principal:
    """Return the caller: ``ANYONE`` without a token; raises ``Unauthorized`` for a bad one."""
    if isinstance(found, Unauthorized):
        raise found
    return found


async def _caller_or_anyone(found: Identified) -> Principal:
    """Return the caller; an expired token must not lock anyone out of log-in."""
    return ANYONE if isinstance(found, Unauthorized) else found


async def _count(
    connection: HTTPConnection, response: Response, found: Principal | Unauthorized
) -> Principal:
    """Count the call, once a request however many ask who is calling; return the caller."""
    caller = ANYONE if isinstance(found, Unauthorized) else found
    if "newel.counted" not in connection.scope:
        connection.scope["newel.counted"] = True
        who = _who(connection, caller)
        await _hit(connection, response, who, connection.app.state.api_rate, policy="api")
    return caller


class _Requires:
    """The dependency behind ``requires`` and ``require_role``."""

    def __init__(self, permissions: tuple[str, ...], roles: tuple[str, ...]) -> None:
        self.permissions = permissions
        self.roles = frozenset(roles)
        # Never empty, which would say "public".
        self.__newel_access__ = (*permissions, *(f"role:{role}" for role in roles)) or (LOGGED_IN,)

    async def __call__(
        self, connection: HTTPConnection, response: Response, work: CurrentWork, found: Identified
    ) -> Principal:
        await _count(connection, response, found)
        caller = self.check(found)
        await work.admit(caller)
        return caller

    def check(self, found: Principal | Unauthorized) -> Principal:
        """Return the caller; raises ``Unauthorized`` or ``Forbidden`` for who may not call."""
        if isinstance(found, Unauthorized):
            raise found
        if not found.is_authenticated:
            raise Unauthorized
        missing = [wanted for wanted in self.permissions if not found.can(wanted)]
        if missing:
            raise Forbidden(f"This needs the permission {missing[0]}.", permission=missing[0])
        if self.roles and not self.roles & found.roles:
            raise Forbidden(f"This needs the role {' or '.join(sorted(self.roles))}.")
        return found


class CallerFirst:
    """Refuses who may not call before the body of a request is read; ASGI, around a route.

    FastAPI reads a body, and writes the files of a form to the disk, before it asks a dependency.
    """

    def __init__(self, app: ASGIApp, dependant: Dependant) -> None:
        self.app = app
        self._checks = list(_checks_of(dependant))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        if not connection.app.dependency_overrides:  # else they say who is calling
            found = await _identify(connection, await _BEARER(connection))
            try:
                for required in self._checks:
                    required.check(found)
            except AppError:
                await _count(connection, Response(), found)
                raise
        await self.app(scope, receive, send)


def _checks_of(dependant: Dependant) -> Iterator[_Requires]:
    if isinstance(dependant.call, _Requires):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _checks_of(dependency)


class _Public:
    """The dependency behind ``public``."""

    __newel_access__: tuple[str, ...] = ()

    async def __call__(
        self, connection: HTTPConnection, response: Response, work: CurrentWork, found: Identified
    ) -> Principal:
        caller = await _count(connection, response, found)
        await work.admit(caller)
        return caller


Limited = Literal["ip", "principal"] | Callable[[HTTPConnection], str]
"""Who a limit is counted for: addresses, callers, or what a function takes from the request."""


class _Limit:
    """The dependency behind ``limit``."""

    def __init__(self, rate: Rate, by: Limited, cost: int) -> None:
        if not 1 <= cost <= rate.limit:
            raise ValueError(f"a cost of {cost} can never be allowed by {rate}")
        self.rate = rate
        self.by = by
        self.cost = cost

    async def __call__(
        self,
        connection: HTTPConnection,
        response: Response,
        caller: Annotated[Principal, Depends(_caller_or_anyone)],
    ) -> None:
        if callable(self.by):
            who = f"key:{self.by(connection)}"
        else:
            who = _who(connection, caller if self.by == "principal" else ANYONE)
        others = "".join(response.headers.getlist("ratelimit-policy")).count('"route')
        policy = f"route-{others + 1}" if others else "route"
        route = route_template(connection.scope)
        key = f"{policy} {connection.scope.get('method')} {route} {who}"
        await _hit(connection, response, key, self.rate, policy=policy, cost=self.cost)


def requires(*permissions: str) -> Any:
    """Ask for a logged-in caller who holds every one of ``permissions`` (none: any caller).

    Answers 401 without a good token, 403 without the permission, 429 above the API limit. Use it as
    ``caller: Annotated[Principal, requires("agents:write")]`` or in ``dependencies=[...]``.
    """
    for permission in permissions:
        resource, colon, verb = permission.partition(":")
        if not (resource and colon and verb):
            raise ValueError(f"{permission!r} is not a permission: write 'resource:verb'")
    return Depends(_Requires(permissions, ()))


def require_role(*roles: str) -> Any:
    """Ask for a logged-in caller who has one of ``roles``; ``requires`` says more."""
    return Depends(_Requires((), roles))


def public() -> Any:
    """Let anyone call the route, by name: ``dependencies=[public()]``.

    The API limit holds here too, by IP address for anyone who is not logged in.
    """
    return Depends(_Public())


def limit(rate: str, *, by: Limited = "principal", cost: int = 1) -> Any:
    """Limit one route to ``rate`` (``"5/minute"``) a caller or an IP address: 429 above it.

    ``by`` may be a function that returns what is counted, of an API key for example. A call takes
    ``cost`` of the limit. Raises ``ValueError`` for what is no rate, or could never be allowed.
    """
    return Depends(_Limit(Rate.parse(rate), by, cost))


def _who(connection: HTTPConnection, caller: Principal) -> str:
    """Name the caller for a limit: the user, else the IP address."""
    if caller.is_authenticated:
        return f"user:{caller.id}"
    return f"ip:{client_ip(connection.scope, connection.app.state.trusted_proxies)}"


async def _hit(
    connection: HTTPConnection,
    response: Response,
    key: str,
    rate: Rate,
    *,
    policy: str,
    cost: int = 1,
) -> None:
    limiter: Limiter = connection.app.state.limiter
    decision = await limiter.hit(key, rate, cost=cost)
    if not decision.allowed:
        raise TooManyRequests(
            retry_after_seconds=decision.retry_after_seconds,
            headers=decision.headers(policy=policy),
        )
    for name, value in decision.headers(policy=policy).items():
        response.headers.append(name, value)  # a list: one entry for each limit that holds
