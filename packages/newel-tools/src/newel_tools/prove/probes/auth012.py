"""An access token opens doors; it does not make new tokens."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.renewal import Renewal

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    renewal, token = Renewal(lab), lab.user.tokens.get("access")
    if renewal.operation is None or token is None:
        yield PROBE.skipped("", "the application renews no tokens")
        return
    exchange, tokens = renewal.with_token(token)
    label = renewal.operation.label
    if tokens.get("access"):
        yield PROBE.broke(label, "it renews an access token with an access token", exchange)
    else:
        yield PROBE.kept(label)


_BAD = """
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

app = FastAPI()
passwords: dict[str, str] = {}
tokens: dict[str, str] = {}


class Credentials(BaseModel):
    username: str
    password: str


def issue(username: str) -> dict[str, str]:
    made = {"access_token": secrets.token_hex(16), "refresh_token": "r" + secrets.token_hex(16)}
    tokens.update(dict.fromkeys(made.values(), username))
    return made


@app.post("/register", status_code=201)
def register(data: Credentials) -> None:
    passwords[data.username] = data.password


@app.post("/login")
def login(data: Credentials) -> dict[str, str]:
    if passwords.get(data.username) != data.password:
        raise HTTPException(401)
    return issue(data.username)


@app.post("/refresh")
def renew(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> dict[str, str]:
    token = credentials.credentials
    if token not in tokens:
        raise HTTPException(401)
    return issue(tokens[token])
"""
PROBE = Probe(
    id="AUTH012",
    title="An access token cannot renew itself",
    severity="block",
    why="Whoever copies one access token has a session that never ends.",
    fix="renew with a refresh token only: another kind, another key, checked by the server",
    seed='"JWT with refresh tokens"',
    expected="applications that renew nothing",
    bad=_BAD,
    good=_BAD.replace(
        "if token not in tokens:", 'if token not in tokens or not token.startswith("r"):'
    ),
    run=_run,
)
