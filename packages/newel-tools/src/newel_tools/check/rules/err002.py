"""ERR002: nothing answers for exceptions that nobody expected."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_HANDLER: Final = re.compile(
    r"exception_handler\(\s*(500|Exception)\b|exception_handlers\b[^\n]*\b(500|Exception)\s*[:\]]\s*\w"
)
_ALL: Final = frozenset({"Exception", "BaseException", "builtins.Exception"})


def find(review: Review) -> Iterator[Finding]:
    """Find applications without a handler for `Exception` or 500, in a middleware either."""
    handled = any(item.exception in _ALL or item.status == 500 for item in review.facts.handlers)
    if handled or not review.http_routes or _catches(review) or _is_mounted(review):
        return
    file, line = review.application_place
    yield RULE.found(
        "an exception that nobody expected answers with plain text", file=file, line=line
    )


def _is_mounted(review: Review) -> bool:
    """Tell whether another application of the project, mounted perhaps, has such a handler."""
    return any(_HANDLER.search(module.text) for module in review.source.own_modules())


def _catches(review: Review) -> bool:
    """Tell whether a middleware of the project catches every exception."""
    for item in review.facts.middleware:
        function = review.function(item.dispatch)
        cls = review.class_(item)
        functions = [function] if function is not None else []
        functions += list(cls.methods.values()) if cls is not None else []
        for method in functions:
            for node in method.nodes:
                if isinstance(node, ast.ExceptHandler):
                    caught = ast.unparse(node.type) if node.type is not None else "Exception"
                    if any(name in caught.strip("()").split(", ") for name in _ALL):
                        return True
    return False


RULE = Rule(
    id="ERR002",
    title="No handler answers for unexpected exceptions",
    severity="change",
    how="import",
    why="Clients that expect JSON get `Internal Server Error` as plain text, without anything to "
    "quote when they report it.",
    fix="`@app.exception_handler(Exception)`: log with the request's id, and answer with it in the "
    "format of the other errors",
    seed='003 "Implement global error handlers"',
    expected="a handler for 500 in any application of the project, a middleware of it that "
    "catches everything.",
    bad="""
from fastapi import FastAPI

app = FastAPI()  # finding


@app.get("/notes")
def notes() -> list[int]:
    return []
""",
    good="""
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()


@app.exception_handler(Exception)
async def unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "something went wrong"}, status_code=500)


@app.get("/notes")
def notes() -> list[int]:
    return []
""",
    find=find,
)
