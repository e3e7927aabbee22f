"""HTTPX001: a new HTTP client for each request, or one that waits for ever."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_CLIENTS: Final = re.compile(
    r"httpx\d?\.(AsyncClient|Client)|aiohttp\.(client\.)?ClientSession|requests\.Session"
)
_REQUESTS: Final = re.compile(r"requests\.(get|post|put|patch|delete|head|request)")
_CACHES: Final = re.compile(r"cache|singleton|once", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find clients that requests make and throw away, and requests without a time limit."""
    for call, reach in review.reached_calls():
        said = _fault(call)
        if said is not None:
            yield RULE.found(said, file=call.caller.file, line=call.line, route=reach.route)
    for function in review.source.functions.values():
        if function not in review.reached and _is_lifespan(function):
            for call in review.calls.of(function):
                if _CLIENTS.fullmatch(call.target or "") and _is_endless(call):
                    said = f"`{call.target}` waits for ever, whoever uses it"
                    yield RULE.found(said, file=function.file, line=call.line)


def _is_lifespan(function: Function) -> bool:
    """Tell whether a function makes what requests use later: entered, or run at the start."""
    decorators = " ".join(ast.unparse(item) for item in function.node.decorator_list)
    starts = re.search("contextmanager|on_event", decorators) is not None
    return starts and not function.module.is_test


def _is_endless(call: Call) -> bool:
    timeout = call.argument(None, "timeout")
    return isinstance(timeout, ast.Constant) and timeout.value is None


def _fault(call: Call) -> str | None:
    timeout, endless = call.argument(None, "timeout"), _is_endless(call)
    if _CLIENTS.fullmatch(call.target or ""):
        if endless:
            return f"`{call.target}` waits for ever"
        if not _is_kept(call.caller, call.node):
            return f"`{call.target}` is made for each request"
    if _REQUESTS.fullmatch(call.target or "") and (timeout is None or endless):
        return f"`{call.target}` waits for ever: it has no timeout"
    return None


def _is_kept(function: Function, node: ast.Call) -> bool:
    """Tell whether a client outlives the call: cached, or stored in an attribute or a global."""
    decorators = " ".join(ast.unparse(item) for item in function.node.decorator_list)
    if _CACHES.search(decorators):
        return True
    kept = {
        name
        for item in function.nodes
        if isinstance(item, ast.Global | ast.Nonlocal)
        for name in item.names
    }
    for item in function.nodes:
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            inside = any(inner is node for inner in ast.walk(item.value))
            if inside and any(_outlives(target, kept) for target in targets):
                return True
    return False


def _outlives(target: ast.expr, kept: set[str]) -> bool:
    if isinstance(target, ast.Name):
        return target.id in kept
    return isinstance(target, ast.Attribute | ast.Subscript)


RULE = Rule(
    id="HTTPX001",
    title="An HTTP client is made for each request, or waits for ever",
    severity="note",
    how="source",
    why="Each client loads certificates and opens connections anew (tens of milliseconds); "
    "without a timeout a silent peer holds the request for ever.",
    fix="make one client in the lifespan and pass it on; give every call a timeout",
    seed='"httpx.AsyncClient for external APIs"',
    expected="clients made at the start, cached or stored, and httpx's own timeout of five "
    "seconds.",
    bad="""
import httpx2
import requests
from fastapi import FastAPI

app = FastAPI()


@app.get("/rates")
async def rates() -> int:
    async with httpx2.AsyncClient() as client:  # finding
        return (await client.get("https://rates.example.com")).status_code


@app.get("/slow")
async def slow() -> int:
    client = httpx2.AsyncClient(timeout=None)  # finding
    return (await client.get("https://rates.example.com")).status_code


@app.get("/blocking")
def blocking() -> int:
    return requests.get("https://rates.example.com").status_code  # finding
""",
    good="""
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

import httpx2
import requests
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx2.AsyncClient(timeout=10) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)
shared = None


@lru_cache
def cached() -> httpx2.Client:
    return httpx2.Client()


def stored() -> httpx2.Client:
    global shared
    if shared is None:
        shared = httpx2.Client()
    return shared


@app.get("/rates")
async def rates(request: Request) -> int:
    return (await request.app.state.client.get("https://rates.example.com")).status_code


@app.get("/kept")
def kept(request: Request) -> int:
    request.app.state.other = httpx2.Client()
    cached().get("https://rates.example.com")
    stored().get("https://rates.example.com")
    return requests.get("https://rates.example.com", timeout=5).status_code
""",
    find=find,
    is_habit=True,
)
