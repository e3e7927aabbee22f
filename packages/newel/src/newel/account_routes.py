"""The routes under ``/auth``: accounts and sessions over HTTP, tokens in bodies and cookies."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import select

from newel.auth import ACCESS_COOKIE, public, refuse_cross_site, requires
from newel.context import client_ip
from newel.db import CurrentWork, Work
from newel.depends import AccessTokensDep
from newel.directory import (
    AccountRead,
    AccountRepository,
    Directory,
    LoginForm,
    PasswordChange,
    Register,
    Throttle,
)
from newel.errors import ConfigurationError, NotFound, Unauthorized
from newel.identity import Account, AuthSession
from newel.pages import Page, PageQuery, Slice
from newel.principal import Principal
from newel.repository import Repository
from newel.schemas import InputModel, ReadModel
from newel.sessions import Origin, Sessions, TokenPair

__all__ = [
    "REFRESH_COOKIE",
    "DirectoryDep",
    "OriginDep",
    "SessionRead",
    "SessionsDep",
    "TokenRead",
    "account_router",
    "directory_of",
    "drop_tokens",
    "keep_tokens",
    "key_router",
    "sessions_of",
]

REFRESH_COOKIE: Final = "__Host-refresh"


class RefreshRequest(InputModel):
    """A refresh token, for clients that do not keep it in a cookie."""

    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=512)]


class TokenRead(BaseModel):
    """OAuth2's token answer (RFC 6749, 5.1). ``refresh_token`` is absent when a cookie has it."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the kind of token, not one
    expires_in: int = Field(description="Seconds until the access token is worthless")
    refresh_token: str | None = None


class SessionRead(ReadModel):
    """A log-in on one device."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ip: str
    user_agent: str
    is_current: bool = Field(description="Whether it is the session that asks")


class JsonWebKeys(BaseModel):
    """The public keys of access tokens (RFC 7517)."""

    keys: list[dict[str, str]]


class SessionRepository(Repository[AuthSession]):
    """The sessions of the caller."""

    entity = AuthSession


# ----------------------------------------------------------------------------------- dependencies


def get_sessions(request: Request) -> Sessions:
    """Return the sessions of the application."""
    return sessions_of(request.app)


def get_directory(request: Request, work: CurrentWork) -> Directory:
    """Return the directory of accounts in the request's unit of work."""
    return directory_of(request.app, work)


def get_origin(request: Request) -> Origin:
    """Return where a request comes from."""
    return Origin(
        ip=client_ip(request.scope, request.app.state.trusted_proxies),
        user_agent=request.headers.get("user-agent", ""),
    )


async def forbid_storing(response: Response) -> None:
    """Keep tokens and personal data out of caches (RFC 6749, 5.1)."""
    response.headers["Cache-Control"] = "no-store"


SessionsDep = Annotated[Sessions, Depends(get_sessions)]
"""The sessions of the application's accounts."""

DirectoryDep = Annotated[Directory, Depends(get_directory)]
"""The directory of accounts in the request's unit of work."""

OriginDep = Annotated[Origin, Depends(get_origin)]
"""Where the request comes from."""

Holder = Annotated[Principal, requires()]


def sessions_of(app: FastAPI) -> Sessions:
    """Return the sessions of ``app``; raises ``ConfigurationError`` if it has no accounts."""
    found = getattr(app.state, "authenticator", None)
    if not isinstance(found, Sessions):
        raise ConfigurationError(
            "the application has no accounts", fix="give create_app the module of accounts.module()"
        )
    return found


def directory_of(app: FastAPI, work: Work) -> Directory:
    """Return the directory of the accounts of ``app`` in a unit of work."""
    state = app.state
    sessions = sessions_of(app)
    return Directory(
        sessions.kind,
        work=work,
        database=state.database,
        sessions=sessions,
        passwords=state.passwords,
        throttle=Throttle(state.limiter, address_rate=state.login_rate),
        composition=state.settings.password_composition,
    )


# ----------------------------------------------------------------------------------------- routes

_router: Final = APIRouter()
key_router: APIRouter = APIRouter(tags=["auth"], dependencies=[public()])
"""The route of the public keys, at the address that RFC 8414 clients look for."""


@_router.post(
    "/login",
    response_model_exclude_none=True,
    dependencies=[public()],
    summary="Log in",
    response_description="Tokens",
    responses={401: {}},
)
async def log_in(
    request: Request,
    response: Response,
    form: Annotated[LoginForm, Depends()],
    directory: DirectoryDep,
    origin: OriginDep,
) -> TokenRead:
    """Exchange an e-mail address (as `username`) and a password for tokens (RFC 6749, 4.3)."""
    if request.app.state.auth_cookies and "origin" in request.headers:
        refuse_cross_site(request)  # else a page could log its visitors into the account it likes
    return _hand_over(request, response, await directory.log_in(form, origin=origin))


@_router.post(
    "/refresh",
    response_model_exclude_none=True,
    dependencies=[public()],
    summary="Refresh the tokens",
    response_description="New tokens",
    responses={401: {}, 403: {}},
)
async def refresh_tokens(
    request: Request,
    response: Response,
    sessions: SessionsDep,
    origin: OriginDep,
    data: RefreshRequest | None = None,
) -> TokenRead:
    """Exchange a refresh token, from the body or the cookie, for new tokens; it works once."""
    token = _offered_token(request, data)
    if token is None:  # who has lost the cookie, or never had one, has to log in
        raise Unauthorized("Send the refresh token, or log in.")
    return _hand_over(request, response, await sessions.refresh(token, ip=origin.ip))


@_router.post(
    "/logout",
    status_code=204,
    summary="Log out",
    response_description="Logged out",
    responses={403: {}},
)
async def log_out(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    response: Response,
    work: CurrentWork,
    sessions: SessionsDep,
    caller: Annotated[Principal, public()],
    data: RefreshRequest | None = None,
) -> None:
    """End the session of the access token and of the refresh token; without one, do nothing."""
    if caller.session_id is not None:
        await sessions.revoke(work, caller.session_id)
    token = _offered_token(request, data)
    if token is not None:
        await sessions.revoke_by_token(work, token)
    _drop_cookies(request, response)


async def read_account(caller: Holder, work: CurrentWork, sessions: SessionsDep) -> Account:
    """Show the account of the caller."""
    return await AccountRepository(work, sessions.kind).get(caller.user_id)


@_router.get(
    "/sessions",
    response_model=Page[SessionRead],
    summary="List my sessions",
    response_description="A page of sessions",
)
async def list_sessions(
    caller: Holder, query: Annotated[PageQuery, Query()], work: CurrentWork, sessions: SessionsDep
) -> Slice[SessionRead]:
    """List where the caller is logged in, the newest first."""
    live = select(AuthSession).where(
        AuthSession.revoked_at.is_(None), AuthSession.expires_at > sessions.clock.now()
    )
    found = await SessionRepository(work).page(query, live)
    items = [
        SessionRead.model_validate({**vars(session), "is_current": session.id == caller.session_id})
        for session in found.items
    ]
    return Slice(items=items, total=found.total, page=found.page, page_size=found.page_size)


@_router.delete(
    "/sessions", status_code=204, summary="Log out everywhere", response_description="Logged out"
)
async def log_out_everywhere(
    request: Request, response: Response, caller: Holder, directory: DirectoryDep
) -> None:
    """Log every device out, this one too; all tokens are worthless at once."""
    await directory.log_out_everywhere(caller)
    _drop_cookies(request, response)


@_router.delete(
    "/sessions/{session_id}",
    status_code=204,
    dependencies=[requires()],
    summary="End a session",
    response_description="Ended",
)
async def end_session(session_id: UUID, work: CurrentWork, sessions: SessionsDep) -> None:
    """Log one device out; its tokens are worthless at once."""
    if not await sessions.revoke(work, session_id):
        raise NotFound("session", session_id)


async def change_password(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request,
    response: Response,
    caller: Holder,
    data: PasswordChange,
    directory: DirectoryDep,
    tokens: AccessTokensDep,
) -> None:
    """Log every other device out. Access tokens are worthless: refresh before the next request."""
    token = await directory.change_password(caller, data)
    if request.app.state.auth_cookies:
        _set_cookie(response, ACCESS_COOKIE, token, seconds=int(tokens.lifetime.total_seconds()))


@key_router.get(
    "/.well-known/jwks.json",
    summary="Show the public keys",
    response_description="The keys, the one that signs first",
    responses={404: {}},
)
async def read_public_keys(response: Response, tokens: AccessTokensDep) -> JsonWebKeys:
    """Show the keys that verify access tokens; 404 when they are signed by a secret (HS256)."""
    if tokens.algorithm == "HS256":
        raise NotFound
    response.headers["Cache-Control"] = "public, max-age=300"
    return JsonWebKeys.model_validate(tokens.jwks())


def _hand_over(request: Request, response: Response, pair: TokenPair) -> TokenRead:
    body = TokenRead(access_token=pair.access_token, expires_in=pair.access_seconds)
    if request.app.state.auth_cookies:
        keep_tokens(response, pair)
        return body
    return body.model_copy(update={"refresh_token": pair.refresh_token})


def keep_tokens(response: Response, pair: TokenPair) -> None:
    """Have the browser keep both tokens in cookies that no script reads."""
    _set_cookie(response, ACCESS_COOKIE, pair.access_token, seconds=pair.access_seconds)
    _set_cookie(response, REFRESH_COOKIE, pair.refresh_token, seconds=pair.refresh_seconds)


def drop_tokens(response: Response) -> None:
    """Have the browser forget both tokens."""
    for name in (ACCESS_COOKIE, REFRESH_COOKIE):
        _set_cookie(response, name, "", seconds=0)


def _set_cookie(response: Response, name: str, value: str, *, seconds: int) -> None:
    # The prefix __Host- makes browsers insist on Secure and Path=/, and refuse a Domain.
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )


def _drop_cookies(request: Request, response: Response) -> None:
    if request.app.state.auth_cookies:
        drop_tokens(response)


def _offered_token(request: Request, data: RefreshRequest | None) -> str | None:
    """Return the refresh token of the body, else of the cookie if a page of ours sends it."""
    if data is not None:
        if request.app.state.auth_cookies and "origin" in request.headers:
            refuse_cross_site(request)  # the answer sets cookies
        return data.refresh_token.get_secret_value()
    token = request.cookies.get(REFRESH_COOKIE) if request.app.state.auth_cookies else None
    if token is not None:
        refuse_cross_site(request)
    return token


# ---------------------------------------------------------------------------------------- routers


def account_router(
    register: type[Register], read: type[AccountRead], update: type[InputModel] | None
) -> APIRouter:
    """Return the routes of accounts; ``register``, ``read`` and ``update`` are their bodies."""
    router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(forbid_storing)])
    _add_account_routes(router, register, read, update)
    router.include_router(_router)
    return router


def _add_account_routes(
    router: APIRouter,
    register: type[Register],
    read: type[AccountRead],
    update: type[InputModel] | None,
) -> None:
    async def register_account(
        request: Request, response: Response, data: Register, directory: DirectoryDep
    ) -> Account:
        """Answer 409 when the address is taken. Log in afterwards."""
        account = await directory.register(data)
        response.headers["Location"] = f"{request.url.path.removesuffix('/register')}/me"
        return account

    # Which subclass the body is, is known only here; FastAPI reads it when the route is added.
    register_account.__annotations__["data"] = register
    router.add_api_route(
        "/register",
        register_account,
        methods=["POST"],
        status_code=201,
        response_model=read,
        dependencies=[public()],
        summary="Register",
        response_description="The new account; Location is its address",
    )
    router.add_api_route(
        "/me",
        read_account,
        methods=["GET"],
        response_model=read,
        summary="Show my account",
        response_description="The account",
    )
    router.add_api_route(
        "/password",
        change_password,
        methods=["POST"],
        status_code=204,
        summary="Change my password",
        response_description="Changed; other devices are logged out",
    )
    if update is not None:
        _add_update(router, update, read)


def _add_update(router: APIRouter, update: type[InputModel], read: type[AccountRead]) -> None:
    async def update_account(
        caller: Holder, data: InputModel, work: CurrentWork, sessions: SessionsDep
    ) -> Account:
        """Change the fields that are sent."""
        accounts = AccountRepository(work, sessions.kind)
        return await accounts.update(await accounts.get(caller.user_id), data.changes())

    update_account.__annotations__["data"] = update
    router.add_api_route(
        "/me",
        update_account,
        methods=["PATCH"],
        response_model=read,
        summary="Change my account",
        response_description="The account as it is now",
    )
