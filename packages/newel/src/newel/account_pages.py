"""``/admin/login``: how a person in a browser logs in to the pages of ``console``, and out.

The same directory, the same limits and the same words as ``POST /auth/login``; the tokens go into
cookies that no script reads. While the refresh token is good nobody is asked again.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from newel.account_routes import (
    REFRESH_COOKIE,
    DirectoryDep,
    OriginDep,
    SessionsDep,
    drop_tokens,
    keep_tokens,
)
from newel.auth import public, refuse_cross_site
from newel.console import HOME, LOGIN_PAGE, PagePath, as_page, page, said_by, turn_to, url_of
from newel.db import CurrentWork
from newel.directory import LoginForm
from newel.errors import AppError, TooManyRequests, Unauthorized
from newel.identity import EMAIL_CHARACTERS
from newel.principal import Principal
from newel.sessions import TokenPair

__all__ = ["login_router"]

Next = Annotated[PagePath, Query()]

login_router: APIRouter = APIRouter(
    prefix="/admin", dependencies=[as_page(), public()], include_in_schema=False
)


@login_router.get("/login")
async def show_log_in(
    request: Request,
    sessions: SessionsDep,
    origin: OriginDep,
    caller: Annotated[Principal, public()],
    next: Next = HOME,
) -> Response:
    """Ask for the password, unless the browser's refresh token is good for new tokens."""
    token = request.cookies.get(REFRESH_COOKIE)
    if token is None or caller.is_authenticated:
        return _form(request, next)
    try:
        pair = await sessions.refresh(token, ip=origin.ip)
    except Unauthorized:
        response = _form(request, next)
        drop_tokens(response)
        return response
    return _let_in(request, pair, next)


@login_router.post("/login")
async def log_in_by_form(
    request: Request,
    form: Annotated[LoginForm, Depends()],
    directory: DirectoryDep,
    origin: OriginDep,
    next: Next = HOME,
) -> Response:
    """Open a session in this browser."""
    refuse_cross_site(request)  # else a page could log its visitors into the account it likes
    try:
        pair = await directory.log_in(form, origin=origin)
    except (Unauthorized, TooManyRequests) as error:
        return _form(request, next, failed=error)
    return _let_in(request, pair, next)


@login_router.post("/logout")
async def log_out_by_form(
    request: Request,
    work: CurrentWork,
    sessions: SessionsDep,
    caller: Annotated[Principal, public()],
) -> Response:
    """End the session of this browser."""
    refuse_cross_site(request)
    if caller.session_id is not None:
        await sessions.revoke(work, caller.session_id)
    if (token := request.cookies.get(REFRESH_COOKIE)) is not None:
        await sessions.revoke_by_token(work, token)
    response = turn_to(request, LOGIN_PAGE)
    drop_tokens(response)
    return response


def _let_in(request: Request, pair: TokenPair, next: str) -> Response:
    response = turn_to(request, next)
    keep_tokens(response, pair)
    return response


def _form(request: Request, next: str, *, failed: AppError | None = None) -> Response:
    said = "" if failed is None else f'<p role="alert" class="wrong">{said_by(failed)}</p>'
    action = url_of(request, f"{LOGIN_PAGE}?{urlencode({'next': next})}")
    body = (
        f'{said}<form class="log-in" method="post" action="{action}">'
        '<label>E-mail address <input name="username" type="email" autocomplete="username" '
        f'maxlength="{EMAIL_CHARACTERS}" required autofocus></label>'
        '<label>Password <input name="password" type="password" autocomplete="current-password" '
        'maxlength="1024" required></label><button>Log in</button></form>'
    )
    return page(
        request,
        "Log in",
        body,
        status_code=200 if failed is None else failed.status,
        headers={} if failed is None else failed.headers,
    )
