"""SSRF001: the server fetches whatever address a client names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.roles import asks_role
from newel_tools.check.rule import Rule
from newel_tools.check.taint import Kind, Taint, own_text
from newel_tools.facts.calls import Call

__all__ = ["RULE"]

_METHODS: Final = r"(get|post|put|patch|delete|head|options|request|stream|ws_connect)"
_FETCHES: Final = re.compile(
    rf"(requests|httpx\d?|aiohttp)\.(\w+\.)*{_METHODS}"
    rf"|(requests|httpx\d?|aiohttp)\.(\w+\.)*(Session|Client|AsyncClient|ClientSession)\.{_METHODS}"
    r"|urllib\.request\.(urlopen|urlretrieve)"
)
_SECOND: Final = frozenset({"request", "stream"})  # the method comes first


def find(review: Review) -> Iterator[Finding]:
    """Find requests whose host comes from a client, on routes that are not for administrators."""
    taint = Taint(review, Kind(held=own_text, cleaners=re.compile(r"^quote"), leading=True))
    for call, route in taint.calls():
        if call.target is None or _FETCHES.fullmatch(call.target) is None:
            continue
        if taint.decides(_address(call), call.caller) and not asks_role(review, route):
            yield RULE.found(
                f"`{call.target}` is called with an address that the client chooses",
                file=call.caller.file,
                line=call.line,
                route=route.label,
            )


def _address(call: Call) -> ast.expr | None:
    name = (call.target or "").rpartition(".")[2]
    return call.argument(1 if name in _SECOND else 0, "url")


RULE = Rule(
    id="SSRF001",
    title="The server fetches the address that a client names",
    severity="change",
    how="source",
    why="From inside the network it reaches what the client cannot: the cloud's metadata, "
    "databases, other services, itself.",
    fix="choose from addresses that you know; or allow https only, refuse private and local "
    "addresses after resolving the name, and follow no redirects",
    seed="000 test_connection",
    expected="addresses whose host is the server's (`f'https://api.example.com/{id}'`), addresses "
    "that are compared, checked or validated on the way, routes for administrators.",
    bad="""
import httpx2
from fastapi import FastAPI
from pydantic import BaseModel, HttpUrl

app = FastAPI()


class Preview(BaseModel):
    url: HttpUrl


async def fetch(address: str) -> str:
    async with httpx2.AsyncClient(timeout=5) as client:
        answer = await client.get(address)  # finding
    return answer.text


@app.get("/fetch")
async def proxy(host: str) -> str:
    return await fetch(f"http://{host}/status")


@app.post("/preview")
def preview(body: Preview) -> str:
    return httpx2.get(str(body.url), timeout=5).text  # finding
""",
    good="""
from typing import Annotated
from urllib.parse import urlparse

import httpx2
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, field_validator

app = FastAPI()
HOSTS = {"example.com"}


class Preview(BaseModel):
    url: str

    @field_validator("url")
    @classmethod
    def is_known(cls, value: str) -> str:
        if urlparse(value).hostname not in HOSTS:
            raise ValueError("unknown host")
        return value


def require_admin() -> str:
    raise HTTPException(403)


@app.get("/users/{name}")
def user(name: str) -> str:
    return httpx2.get(f"https://api.example.com/users/{name}", timeout=5).text


@app.get("/search")
def search(term: str) -> str:
    return httpx2.get("https://api.example.com", params={"q": term}, timeout=5).text


@app.get("/fetch")
def fetch(url: str) -> str:
    parsed = urlparse(url)
    if parsed.hostname not in HOSTS:
        raise HTTPException(422)
    return httpx2.get(url, timeout=5).text


@app.post("/preview")
def preview(body: Preview) -> str:
    return httpx2.get(body.url, timeout=5).text


@app.post("/connections")
def connect(url: str, caller: Annotated[str, Depends(require_admin)]) -> str:
    return httpx2.get(url, timeout=5).text
""",
    find=find,
)
