"""AUTH012: an access token is exchanged for a new one, again and again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.roles import text_of
from newel_tools.check.rule import Rule
from newel_tools.check.tokens import makes_tokens
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_REFRESH: Final = re.compile(r"(refresh|renew|extend)", re.IGNORECASE)
_OTHER: Final = re.compile(r"refresh_?token|refreshtoken|cookie|grant_type", re.IGNORECASE)
_SAID: Final = re.compile(
    r"[\"']refresh[\"']|\.cookies|refresh_?token"
    r"|token_type(?![\"']?\s*[:=]\s*[\"']bearer)|jti|revoke|blacklist",
    re.IGNORECASE,
)


def find(review: Review) -> Iterator[Finding]:
    """Find refresh routes that ask for what every other route asks for, and make a new token."""
    access = Access(review)
    used = _used(review, access)
    for route in review.http_routes:
        if not _REFRESH.search(f"{route.path} {route.name}") or not _makes(review, route):
            continue
        guards = {name for name in _guards(route, access) if used[name] > 1}
        if guards and not _takes_refresh_token(review, route):
            file, line = review.at(route)
            yield RULE.found(
                "any access token is exchanged for a new one",
                file=file,
                line=line,
                route=route.label,
            )


def _used(review: Review, access: Access) -> Counter[str]:
    """Count the routes behind each guard."""
    return Counter(name for route in review.http_routes for name in _guards(route, access))


def _guards(route: Route, access: Access) -> set[str]:
    """Return the guards that a route names itself."""
    return {
        node.call.full_name
        for node in route.dependant.dependencies
        if node.call is not None
        and node.security is None  # a bare scheme leaves it to the endpoint to read the token
        and any(access.guards(inner) for inner in node.walk())
    }


def _makes(review: Review, route: Route) -> bool:
    function = review.function(route.endpoint)
    reached = review.calls.reached(function) if function is not None else ()
    return any(makes_tokens(call) for inner in reached for call in review.calls.of(inner))


def _takes_refresh_token(review: Review, route: Route) -> bool:
    names = [param.name for param in route.params]
    names += [field.name for model in review.bodies(route) for field in model.fields]
    if any(_OTHER.search(name) or "token" in name.lower() for name in names):
        return True
    if any(param.source == "cookie" for param in route.params):
        return True
    function = review.function(route.endpoint)
    reached = review.calls.reached(function) if function is not None else ()
    return any(_SAID.search(text_of(inner)) for inner in reached)


RULE = Rule(
    id="AUTH012",
    title="An access token renews itself",
    severity="block",
    how="import",
    why="Whoever steals an access token once exchanges it for the next one for ever: its short "
    "life "
    "protects nobody, and no log-out ends it.",
    fix="take a refresh token of its own type, store it, exchange it once, and revoke its family "
    "when it "
    "comes a second time",
    seed='002 "/refresh" depends on CurrentUserDep; 003 "Refresh token"',
    expected="routes that take a refresh token in the body, a form, a cookie or a guard of their "
    "own.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


def get_current_user(token: Annotated[str, Depends(bearer)]) -> str:
    return token


def create_access_token(subject: str) -> str:
    return subject


@app.get("/me")
def me(user: Annotated[str, Depends(get_current_user)]) -> str:
    return user


@app.post("/refresh")
def refresh(user: Annotated[str, Depends(get_current_user)]) -> str:  # finding
    return create_access_token(user)


@app.post("/renew")
def renew(user: Annotated[str, Depends(get_current_user)]) -> dict[str, str]:  # finding
    return {"access_token": create_access_token(user), "token_type": "bearer"}
""",
    good="""
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


def get_current_user(token: Annotated[str, Depends(bearer)]) -> str:
    return token


def get_refreshing_user(token: Annotated[str, Depends(bearer)]) -> str:
    return token


def create_access_token(subject: str) -> str:
    return subject


@app.get("/me")
def me(user: Annotated[str, Depends(get_current_user)]) -> str:
    return user


@app.post("/refresh")
def refresh(user: Annotated[str, Depends(get_refreshing_user)]) -> str:
    return create_access_token(user)


@app.post("/typed/refresh")
def by_type(user: Annotated[str, Depends(get_current_user)], claims: dict[str, str]) -> str:
    assert claims["token_type"] == "refresh"
    return create_access_token(user)


@app.post("/cookie/refresh")
def by_cookie(
    user: Annotated[str, Depends(get_current_user)], session: Annotated[str, Cookie()]
) -> str:
    return create_access_token(user + session)


@app.post("/body/refresh")
def by_body(refresh_token: str, user: Annotated[str, Depends(get_current_user)]) -> str:
    return create_access_token(user + refresh_token)


@app.post("/feeds/{feed_id}/refresh")
def feed(feed_id: int, user: Annotated[str, Depends(get_current_user)]) -> int:
    return feed_id
""",
    find=find,
)
