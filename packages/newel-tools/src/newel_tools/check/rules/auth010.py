"""AUTH010: passwords can be tried without end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.limits import counts_callers, limits_all, limits_route
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]

_LOGIN: Final = re.compile(
    r"(log_?-?in|sign_?-?in|signin|/tokens?(/|$| )|access[-_]token|authenticate"
    r"|/sessions?(/|$| )|/auth/?$)",
    re.IGNORECASE,
)
_PASSWORD: Final = re.compile(r"^(password|passwd|pwd|pass_?code|pin)$", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find log-in routes that nothing in the application limits."""
    routes = [route for route in review.http_routes if _is_login(review, route)]
    if not routes or limits_all(review):
        return
    for route in routes:
        if not limits_route(review, route) and not counts_callers(review, route):
            file, line = review.at(route)
            yield RULE.found(
                "passwords are taken, as many as one likes to try",
                file=file,
                line=line,
                route=route.label,
            )


def _is_login(review: Review, route: Route) -> bool:
    if "POST" not in route.methods or not _LOGIN.search(f"{route.path} {route.name}"):
        return False
    given = [param.name for param in route.params]
    given += [field.name for model in review.bodies(route) for field in model.fields]
    return any(_PASSWORD.match(name) for name in given)


RULE = Rule(
    id="AUTH010",
    title="Passwords can be tried without end",
    severity="change",
    how="import",
    why="A list of leaked passwords is tried against every account in an afternoon, and hashing "
    "them keeps "
    "the service busy.",
    fix="limit the route by address and by account, five a minute, and answer 429 with "
    "`Retry-After`",
    seed='003 "Login endpoints: 5/minute per IP"',
    expected="a limit in a middleware, a decorator, a dependency or the code; counted attempts "
    "and locked "
    "accounts. A limit in a gateway cannot be seen: allow it here and say so.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel

app = FastAPI()


class Credentials(BaseModel):
    email: str
    password: str


@app.post("/login")
def login(body: Credentials) -> str:  # finding
    raise HTTPException(401)


@app.post("/token")
def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> str:  # finding
    raise HTTPException(401)
""",
    good="""
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

app = FastAPI()


class Credentials(BaseModel):
    email: str
    password: str
    failed_attempts: int = 0


class RateLimiter:
    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, request: Request) -> None:
        if self.times == 0:
            raise HTTPException(400)


class Limiter:
    def limit(self, rate: str) -> Any:
        return lambda function: function


limiter = Limiter()


@app.post("/login", dependencies=[Depends(RateLimiter(times=5))])
def login(body: Credentials) -> str:
    raise HTTPException(401)


@app.post("/decorated/login")
@limiter.limit("5/minute")
def decorated(body: Credentials) -> str:
    raise HTTPException(401)


def checked(body: Credentials) -> Credentials:
    if body.failed_attempts > 5:
        raise HTTPException(400)
    return body


@app.post("/counted/login")
def counted(body: Annotated[Credentials, Depends(checked)]) -> str:
    raise HTTPException(401)


@app.post("/login/refresh")
def refresh(token: str) -> str:
    raise HTTPException(401)
""",
    find=find,
)
