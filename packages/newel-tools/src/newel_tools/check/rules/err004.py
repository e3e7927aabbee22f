"""ERR004: code below the routers raises HTTP errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_FOLDERS: Final = frozenset({"api", "controllers", "endpoints", "routers", "routes", "views"})


def find(review: Review) -> Iterator[Finding]:
    """Find `raise HTTPException` in modules that hold neither routes nor dependencies."""
    starts = {start for route in review.routes for start in review.starts(route)}
    # A class that is made for a request may well be a service: its file is no router for it.
    routing = {start.module for start in starts if start.node.name != "__init__"}
    for function, reach in review.reached.items():
        if function.module in routing or _is_router(function) or _is_http(function):
            continue
        for node in function.nodes:
            if isinstance(node, ast.Raise) and _raises_http(review, function, node):
                yield RULE.found(
                    f"`{function.name}` raises an HTTPException, and is no route",
                    file=function.file,
                    line=function.line,
                    route=reach.route,
                )
                break


def _is_router(function: Function) -> bool:
    """Tell whether a function lies in a folder that is named for routes."""
    return not _FOLDERS.isdisjoint(function.file.split("/")[:-1])


def _is_http(function: Function) -> bool:
    """Tell whether a function takes HTTP's own objects: it is part of that layer then."""
    annotations = [ast.unparse(a.annotation) for a in function.arguments if a.annotation]
    return any(
        word in text
        for text in annotations
        for word in ("Request", "Response", "Depends", "WebSocket", "Security")
    )


def _raises_http(review: Review, function: Function, node: ast.Raise) -> bool:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = review.source.name_of(function.module, raised) if raised is not None else None
    return (name or "").endswith(".HTTPException")


RULE = Rule(
    id="ERR004",
    title="A service raises an HTTP error",
    severity="note",
    how="source",
    why="The rule cannot be used from a job, a command or a test without HTTP, and each caller "
    "has to know what 409 means.",
    fix="raise an exception of the project's own, and turn it into a status in one handler",
    seed='003 "Use custom exception classes"',
    expected="functions in the files and folders of routes and dependencies, functions that take"
    " the request or the response.",
    bad="""
# file: main.py
from fastapi import FastAPI

import services

app = FastAPI()


@app.get("/notes/{note_id}")
def read(note_id: int) -> int:
    return services.load(note_id)


# file: services.py
from fastapi import HTTPException


def load(note_id: int) -> int:  # finding
    if note_id < 0:
        raise HTTPException(404)
    return note_id
""",
    good="""
# file: main.py
from fastapi import FastAPI, HTTPException, Request

import cookies
import services
from api import errors

app = FastAPI()


def check(note_id: int) -> None:
    if note_id == 0:
        raise HTTPException(404)


@app.get("/notes/{note_id}")
def read(note_id: int, request: Request) -> int:
    check(note_id)
    cookies.require(request)
    errors.never()
    try:
        return services.load(note_id)
    except services.NoteMissing:
        raise HTTPException(404) from None


# file: api/errors.py
from fastapi import HTTPException


def never() -> None:
    if False:
        raise HTTPException(418)


# file: cookies.py
from fastapi import HTTPException, Request


def require(request: Request) -> None:
    if not request.cookies:
        raise HTTPException(401)


# file: services.py
class NoteMissing(Exception):
    pass


def load(note_id: int) -> int:
    if note_id < 0:
        raise NoteMissing
    return note_id
""",
    find=find,
    is_habit=True,
)
