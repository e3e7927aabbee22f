"""The dependencies of a route as ``Annotated`` aliases, and ``resolve``, which runs them elsewhere.

    async with resolve(app, AgentService, caller=principal) as agents:
        await agents.create(principal, data)

``resolve`` is for jobs, handlers, scripts and tests: the same classes, the same unit of work, and
the same commit at the end of the block.
"""

# No `from __future__ import annotations`: FastAPI reads those of `entry`, which name a parameter.

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI
from fastapi.dependencies.utils import get_dependant, solve_dependencies
from starlette.requests import HTTPConnection, Request

from newel.clock import Clock
from newel.db import CurrentWork, Database, Work, get_database, get_work
from newel.passwords import Passwords
from newel.principal import Principal
from newel.tokens import AccessTokens, KeyRing, Signer

__all__ = [
    "AccessTokensDep",
    "ClockDep",
    "CurrentWork",
    "CursorSigner",
    "DatabaseDep",
    "PasswordsDep",
    "resolve",
]

T = TypeVar("T")


def get_clock(connection: HTTPConnection) -> Clock:
    """Return the application's clock."""
    clock: Clock = connection.app.state.clock
    return clock


def get_passwords(connection: HTTPConnection) -> Passwords:
    """Return the application's password hasher."""
    passwords: Passwords = connection.app.state.passwords
    return passwords


def get_access_tokens(connection: HTTPConnection) -> AccessTokens:
    """Return what issues and verifies access tokens."""
    tokens: AccessTokens = connection.app.state.access_tokens
    return tokens


def get_cursor_signer(connection: HTTPConnection) -> Signer:
    """Return what signs the cursors of keyset pages."""
    keys: KeyRing = connection.app.state.keys
    return Signer(keys, "cursor")


DatabaseDep = Annotated[Database, Depends(get_database)]
"""The database, for units of work other than the request's: ``Depends(get_database)``."""

ClockDep = Annotated[Clock, Depends(get_clock)]
"""The time: ``Depends(get_clock)``."""

PasswordsDep = Annotated[Passwords, Depends(get_passwords)]
"""The password hasher: ``Depends(get_passwords)``."""

AccessTokensDep = Annotated[AccessTokens, Depends(get_access_tokens)]
"""The access tokens: ``Depends(get_access_tokens)``."""

CursorSigner = Annotated[Signer, Depends(get_cursor_signer)]
"""The signer of keyset cursors: ``Depends(get_cursor_signer)``."""


@asynccontextmanager
async def resolve(
    app: FastAPI,
    dependency: Callable[..., T],
    *,
    caller: Principal | None = None,
    work: Work | None = None,
) -> AsyncGenerator[T]:
    """Build ``dependency`` as a request of ``caller`` would, and commit when the block ends.

    With ``work`` it is built on that unit, which stays its owner's to commit. An exception in the
    block rolls back and passes through. Dependencies that read a request (headers, bodies, path
    parameters) raise ``RuntimeError``: there is none.
    """

    async def entry(
        value: Annotated[Any, Depends(dependency)], used: CurrentWork
    ) -> tuple[T, Work]:
        return value, used

    overrides: dict[Callable[..., Any], Callable[..., Any]] = dict(app.dependency_overrides)
    if work is not None:
        overrides[get_work] = lambda: work
    async with AsyncExitStack() as outer, AsyncExitStack() as inner:
        request = Request(_request_scope(app, outer, inner))
        solved = await solve_dependencies(
            request=request,
            dependant=get_dependant(path="/", call=entry),
            dependency_overrides_provider=SimpleNamespace(dependency_overrides=overrides),
            async_exit_stack=outer,
            embed_body_fields=False,
        )
        if solved.errors:
            missing = ", ".join(str(error["loc"][-1]) for error in solved.errors)
            raise RuntimeError(f"{dependency} needs a request: it reads {missing}")
        value, used = await entry(**solved.values)
        if work is None:
            used.caller = caller
        yield value


def _request_scope(app: FastAPI, outer: AsyncExitStack, inner: AsyncExitStack) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",  # a write unit
        "path": "/",
        "query_string": b"",
        "headers": [],
        "app": app,
        "state": {},
        # where FastAPI looks for the stacks that dependencies with yield are closed by
        "fastapi_inner_astack": outer,
        "fastapi_function_astack": inner,
    }
