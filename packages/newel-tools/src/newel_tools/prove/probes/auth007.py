"""A refresh token renews, once, and does nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from newel_tools.prove.callers import Caller
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.renewal import Renewal, guarded

__all__ = ["PROBE"]


def _run(lab: Lab) -> Iterator[Result]:
    renewal, caller = Renewal(lab), lab.fresh()
    token = caller.tokens.get("refresh")
    if renewal.operation is None or token is None:
        yield PROBE.skipped("", "the application hands out no refresh tokens")
        return
    yield from _as_access(lab, caller, token)
    yield from _reused(renewal, renewal.operation, token)
    yield from _after_log_out(lab, renewal)


def _as_access(lab: Lab, caller: Caller, token: str) -> Iterator[Result]:
    operation = guarded(lab, caller)
    if operation is None:
        return
    disguised = lab.entrance.with_headers(
        replace(caller, name="refresher", tokens={**caller.tokens, "access": token})
    )
    request = lab.request(operation, caller)
    if disguised is None or request is None or disguised.headers == caller.headers:
        return  # a cookie lets in, which a token in the answer does not disguise
    exchange = lab.send(request, disguised)
    if exchange.answer.is_success:
        said = "it takes a refresh token for an access token"
        yield PROBE.broke(operation.label, said, exchange)
    else:
        yield PROBE.kept(operation.label)


def _reused(renewal: Renewal, operation: Operation, token: str) -> Iterator[Result]:
    """Renew twice, and then offer the first token again: it is two renewals old."""
    first, tokens = renewal.with_token(token)
    second_token = tokens.get("refresh")
    if not first.answer.is_success or second_token in (None, token):
        yield PROBE.skipped(operation.label, "it does not hand out a new refresh token")
        return
    renewal.with_token(second_token or "")
    again, _ = renewal.with_token(token)
    if again.answer.is_success:
        said = "a refresh token that was replaced twice still renews"
        yield PROBE.broke(operation.label, said, first, again)
    else:
        yield PROBE.kept(operation.label)


def _after_log_out(lab: Lab, renewal: Renewal) -> Iterator[Result]:
    caller = lab.fresh()
    token = caller.tokens.get("refresh")
    leave = [
        op for op in lab.operations if op.method in ("POST", "DELETE") and "logout" in _plain(op)
    ]
    if token is None or not leave:
        return
    changes = {name: token for name in leave[0].fields if "refresh" in name or "token" in name}
    request = lab.request(leave[0], caller, changes=changes)
    left = None if request is None else lab.send(request, caller)
    if left is None or not left.answer.is_success:
        return
    exchange, _ = renewal.with_token(token)
    if exchange.answer.is_success:
        said = "a refresh token still renews after the log-out"
        yield PROBE.broke(leave[0].label, said, left, exchange)
    else:
        yield PROBE.kept(leave[0].label)


def _plain(operation: Operation) -> str:
    return operation.path.lower().replace("-", "").replace("_", "")


_BAD = """
import secrets
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

app = FastAPI()
passwords: dict[str, str] = {}
access: dict[str, str] = {}
refresh: dict[str, str] = {}


class Credentials(BaseModel):
    username: str
    password: str


class Renewal(BaseModel):
    refresh_token: str


def issue(username: str) -> dict[str, str]:
    one, two = secrets.token_hex(16), secrets.token_hex(16)
    access[one] = refresh[two] = username
    return {"access_token": one, "refresh_token": two}


@app.post("/register", status_code=201)
def register(data: Credentials) -> None:
    passwords[data.username] = data.password


@app.post("/login")
def login(data: Credentials) -> dict[str, str]:
    if passwords.get(data.username) != data.password:
        raise HTTPException(401)
    return issue(data.username)


@app.post("/refresh")
def renew(data: Renewal) -> dict[str, str]:
    if data.refresh_token not in refresh:
        raise HTTPException(401)
    return issue(refresh.get(data.refresh_token, ""))


@app.get("/me")
def read_me(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> dict[str, str]:
    if credentials.credentials not in access:
        raise HTTPException(401)
    return {"username": access[credentials.credentials]}
"""
PROBE = Probe(
    id="AUTH007",
    title="A refresh token renews once, and ends with the session",
    severity="block",
    why="It lives for weeks; whoever copies it once must not be able to use it for as long.",
    fix="replace it at each use, and revoke the session when an old one comes back",
    seed='003, 004 "JWT with refresh tokens"',
    expected="a token that was replaced just now: two tabs may renew at once",
    bad=_BAD,
    good=_BAD.replace('refresh.get(data.refresh_token, "")', "refresh.pop(data.refresh_token)"),
    run=_run,
)
