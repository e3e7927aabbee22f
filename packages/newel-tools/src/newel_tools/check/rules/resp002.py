"""RESP002: a route does not say what it answers with."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.answers import is_constant, is_rendered, is_response, returned
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_EMPTY: Final = frozenset({204, 205, 304})
_FEW: Final = 3  # routes of an application that may all go without


def find(review: Review) -> Iterator[Finding]:
    """Find routes that answer with JSON and declare no model; if all do, say it once."""
    routes = [route for route in review.http_routes if route.in_schema]
    missing = [route for route in routes if _is_silent(review, route)]
    if len(missing) > _FEW and all(route.response.model is None for route in routes):
        file, line = review.at(missing[0])
        yield RULE.found(
            f"no route declares what it answers with, {len(missing)} of them answer with JSON",
            file=file,
            line=line,
            also=[route.label for route in missing],
        )
        return
    for route in missing:
        file, line = review.at(route)
        yield RULE.found(
            f"`{_name(route)}` declares no response model",
            file=file,
            line=line,
            route=route.label,
        )


def _name(route: Route) -> str:
    return route.endpoint.name if route.endpoint is not None else route.name


def _is_silent(review: Review, route: Route) -> bool:
    """Tell whether a route answers with JSON that it does not describe."""
    if route.response.model is not None or "JSON" not in (route.response.answer or ""):
        return False
    status = route.status_code or 200
    documented = route.response.documented
    said = documented.get(str(status), {})
    others = [code for code in documented if code.startswith("2") and code != str(status)]
    if status in _EMPTY or 300 <= status < 400 or said.get("model") or others:
        return False
    function = review.function(route.endpoint)
    if function is not None and (is_rendered(function) or _answers_nothing(function)):
        return False
    values = list(returned(function)) if function is not None else []
    return bool(values) and not any(
        function is None or is_constant(value) or is_response(review, value, function)
        for value in values
    )


def _answers_nothing(function: Function) -> bool:
    """Tell whether a function says `-> None`: FastAPI takes that for no model, and sends null."""
    said = function.node.returns
    return isinstance(said, ast.Constant) and said.value is None


RULE = Rule(
    id="RESP002",
    title="A route declares no response model",
    severity="change",
    how="import",
    why="Nothing filters what it answers with, clients cannot generate types, and any change "
    "of the answer goes unnoticed.",
    fix="annotate what the function returns, or set `response_model=`",
    seed='"OpenAPI docs complete", 003 "exclude sensitive"',
    expected="responses of their own (files, streams, redirects, HTML, JSONResponse), decorators "
    "that render a template, answers without a body or `-> None`, constants such as a health "
    "check's, another success that is documented, hidden routes. If no route has one, it is one.",
    bad="""
from fastapi import FastAPI

app = FastAPI()


@app.get("/notes/{note_id}")
def read(note_id: int):  # finding
    note = {"id": note_id}
    return note


@app.get("/typed")
def typed() -> dict[str, int]:
    return {"id": 1}
""",
    good="""
from enum import IntEnum
from functools import wraps

from fastapi import FastAPI, Request, Response, status
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Note(BaseModel):
    id: int


class Code(IntEnum):
    SUCCESS = 0


def answer(value: int):
    return JSONResponse({"id": value})


@app.get("/notes/{note_id}", response_model=Note)
def read(note_id: int):
    return {"id": note_id}


@app.get("/annotated")
def annotated() -> list[Note]:
    return []


@app.get("/documented", responses={200: {"model": Note}})
def documented():
    note = {"id": 1}
    return note


@app.get("/health")
def health():
    return {"status": "ok", "parts": ["database"]}


@app.get("/alive")
def alive():
    return {"code": Code.SUCCESS.value, "message": "alive"}


@app.get("/page", response_class=HTMLResponse)
def page():
    return "<p>" + "hello"


def template(name: str):
    return lambda function: wraps(function)(lambda: HTMLResponse(name + str(function())))


@app.get("/rendered")
@template("rendered.html")
def rendered():
    found = {"title": "hello"}
    return found


def read_or_make():
    made = answer(2)
    return made


@app.get("/made")
def made():
    found = read_or_make()
    return found


@app.post("/told")
async def told() -> None:
    found = print("told")
    return found


@app.post("/started", responses={202: {"model": Note}})
def started(note: Note):
    found = {"id": note.id}
    return found


@app.get("/manual")
def manual():
    return get_swagger_ui_html(openapi_url="/openapi.json", title="manual")


@app.get("/moved")
def moved(to: str):
    return RedirectResponse(to)


@app.get("/helped")
async def helped():
    return answer(1)


@app.delete("/notes/{note_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete(note_id: int):
    return None


@app.post("/hook", include_in_schema=False)
def hook(note: Note):
    return note
""",
    find=find,
    is_habit=True,
)
