"""HTTP006: an answer for one user is offered to every cache."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_PUBLIC: Final = re.compile(r"(^|[,\s])(public|s-maxage=[1-9]\d*)\b", re.IGNORECASE)
_HEADER: Final = "cache-control"
_FOR_ALL: Final = "/.well-known/"  # RFC 8615: what a site says of itself, keys for example


def find(review: Review) -> Iterator[Finding]:
    """Find `Cache-Control: public` in what protected routes, and only they, run."""
    access = Access(review)
    for function, reach in review.reached.items():
        lines = list(_public(function))
        if lines and all(
            access.is_protected(route) and _FOR_ALL not in route.path for route in reach.routes
        ):
            for line in lines:
                yield RULE.found(
                    "an answer that depends on who asks may be kept and shown to anybody",
                    file=function.file,
                    line=line,
                    route=reach.route,
                )


def _public(function: Function) -> Iterator[int]:
    for node in function.nodes:
        match node:
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value=str(name)))], value=value
            ) if name.lower() == _HEADER and _is_public(value):
                yield node.lineno
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    named = isinstance(key, ast.Constant) and str(key.value).lower() == _HEADER
                    if named and _is_public(value):
                        yield value.lineno
            case _:
                pass


def _is_public(value: ast.expr) -> bool:
    parts = value.values if isinstance(value, ast.JoinedStr) else [value]
    texts = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
    return any(_PUBLIC.search(text) for text in texts)


RULE = Rule(
    id="HTTP006",
    title="An answer for one user is offered to every cache",
    severity="block",
    how="import",
    why="`public` lets a proxy or CDN keep an answer although it was asked for with "
    "`Authorization`, and hand "
    "it to the next user.",
    fix="`Cache-Control: private, max-age=60`, or `no-store`",
    seed='003 "Security Best Practices"; 004 Caching',
    expected="routes that ask nobody, what lies below `/.well-known/`, code that public "
    "routes run too, `private` and `no-store`.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


@app.get("/me")
def me(response: Response, token: Annotated[str, Depends(bearer)]) -> str:
    response.headers["Cache-Control"] = "public, max-age=300"  # finding
    return token


@app.get("/mine")
def mine(token: Annotated[str, Depends(bearer)]) -> JSONResponse:
    return JSONResponse([token], headers={"cache-control": f"s-maxage=60"})  # finding
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


@app.get("/me")
def me(response: Response, token: Annotated[str, Depends(bearer)]) -> str:
    response.headers["Cache-Control"] = "private, max-age=300"
    return token


@app.get("/.well-known/jwks.json", dependencies=[Depends(bearer)])
def keys(response: Response) -> list[str]:
    response.headers["Cache-Control"] = "public, max-age=300"
    return []


@app.get("/prices")
def prices(response: Response) -> list[int]:
    response.headers["Cache-Control"] = "public, max-age=300"
    return []
""",
    find=find,
)
