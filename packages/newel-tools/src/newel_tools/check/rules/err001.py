"""ERR001: the text of an exception goes to the client."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

from newel_tools.check.finding import Finding, Severity
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_BROAD: Final = re.compile(
    r"^(Exception|BaseException|OSError|RuntimeError|builtins\.\w*Exception)$"
    r"|^(sqlalchemy|asyncpg|psycopg2?|sqlite3|pymongo|redis|botocore|tortoise)\."
    r"|(SQLAlchemyError|IntegrityError|OperationalError|DBAPIError|DatabaseError|ProgrammingError)$"
)
_HARMLESS: Final = frozenset({"status_code", "detail", "headers", "code", "errors", "response"})
_DEBUG: Final = re.compile(
    r"debug|development|is_dev|env\b|environment|verbose|testing|\bmode\b", re.IGNORECASE
)
_TESTER: Final = re.compile(r"^(test|validate)(_|$)")  # what went wrong is what it is asked for
_LOGS: Final = re.compile(
    r"(^|[._])(log|(get_?)?logger|logging|console)(\(.*\))?\.\w+$"
    r"|^print$|print_exc$|(print|capture|record|log)_exception$",
    re.IGNORECASE,
)
_DEPTH: Final = 4  # functions that an exception is given on through
_TRACES: Final = ("format_exc", "format_exception", "format_tb")


def find(review: Review) -> Iterator[Finding]:
    """Find exceptions of any kind, or of the database, whose text is put into an answer."""
    for function, reach in review.reached.items():
        for handler in function.nodes:
            if isinstance(handler, ast.ExceptHandler) and _is_broad(review, function, handler):
                for node, severity in _told(handler.body, handler.name):
                    if _hands_over(review, function, node, handler.name):
                        continue
                    inside = function not in reach.starts and _is_plain(node)
                    asked = isinstance(node, ast.Return) and _TESTER.match(function.node.name)
                    kept = "note" if inside or asked else severity
                    yield _finding(function, node, kept, reach.route)
    for item in review.facts.handlers:
        function = review.function(item.handler)
        is_broad = item.status == 500 or _BROAD.search(_short(item.exception))
        if function is not None and is_broad and len(function.arguments) > 1:
            name = function.arguments[1].arg
            for node, severity in _told(function.node.body, name):
                if not _hands_over(review, function, node, name):
                    yield _finding(function, node, severity, None)


def _hands_over(review: Review, function: Function, node: ast.AST, name: str | None) -> bool:
    """Tell whether the exception only goes to functions of the project that say nothing of it."""
    silent = _silent(review, function, name, depth=_DEPTH)
    named = [part for part in ast.walk(node) if isinstance(part, ast.Name) and part.id == name]
    return bool(named) and all(id(part) in silent for part in named)


def _silent(review: Review, function: Function, name: str | None, *, depth: int) -> set[int]:
    """Return where a name is given to functions of the project that say nothing of it."""
    return {
        id(value)
        for call in review.calls.of(function)
        if call.function is not None
        for parameter, value in call.given()
        if isinstance(value, ast.Name) and value.id == name
        if not _says(review, call.function, parameter, depth=depth - 1)
    }


def _says(review: Review, function: Function, name: str, *, depth: int) -> bool:
    """Tell whether a function uses a parameter for more than to choose, log or raise by it."""
    if depth == 0:
        return True
    body = [node for statement in function.node.body for node in ast.walk(statement)]
    hidden = _hidden(body) | _noted(body) | _silent(review, function, name, depth=depth)
    return any(_shows(node, name) and id(node) not in hidden for node in body)


def _noted(nodes: Iterable[ast.AST]) -> set[int]:
    """Return expressions that are looked at, written to a log or raised, and answered by none."""
    found: set[int] = set()
    for node in nodes:
        match node:
            case ast.Expr(value=ast.Call(func=called)) if _LOGS.search(ast.unparse(called)):
                found |= {id(inner) for inner in ast.walk(node)}
            case ast.Raise(exc=raised, cause=cause):
                found |= {id(raised), id(cause)}
            case ast.Match(subject=value) | ast.Compare(left=value, ops=[ast.Is() | ast.IsNot()]):
                found.add(id(value))
            case _:
                pass
    return found


def _is_plain(node: ast.AST) -> bool:
    """Tell whether a value is returned that is no answer yet: what a helper says goes anywhere."""
    return isinstance(node, ast.Return) and not isinstance(node.value, ast.Call)


def _short(name: str | None) -> str:
    return (name or "").removeprefix("builtins.")


def _is_broad(review: Review, function: Function, handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = [review.source.name_of(function.module, kind) or "" for kind in kinds]
    return any(_BROAD.search(_short(name)) for name in names)


def _told(body: Iterable[ast.stmt], name: str | None) -> Iterator[tuple[ast.AST, Severity]]:
    """Yield what answers with the exception, and how grave it is."""
    for node in _walk(body):
        match node:
            case ast.Raise(exc=ast.Call() as call) if "HTTPException" in ast.unparse(call.func):
                if any(_tells(item, name) for item in (*call.args, *_values(call))):
                    yield node, "note" if _is_clients_fault(call) else "change"
            case ast.Return(value=ast.expr() as value) if isinstance(
                value, ast.Dict | ast.Call | ast.JoinedStr
            ):
                answers = not isinstance(value, ast.Call) or "Response" in ast.unparse(value.func)
                if answers and _tells(value, name):
                    yield node, "note" if _is_clients_fault(value) else "change"
            case _:
                pass


def _walk(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield nodes; not those below a condition that asks whether this is development."""
    pending = list(body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.If | ast.IfExp) and _DEBUG.search(ast.unparse(node.test)):
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def _values(call: ast.Call) -> Iterator[ast.expr]:
    for keyword in call.keywords:
        if keyword.arg in ("detail", "content"):
            yield keyword.value


def _tells(value: ast.expr, name: str | None) -> bool:
    """Tell whether an expression holds the exception's text or its traceback."""
    kept = list(_walk([value]))
    hidden = _hidden(kept)
    return any(_shows(node, name) and id(node) not in hidden for node in kept)


def _shows(node: ast.AST, name: str | None) -> bool:
    match node:
        case ast.Name(id=found):
            return found == name
        case ast.Attribute(attr=attribute):
            return attribute in _TRACES
        case _:
            return False


def _hidden(nodes: Iterable[ast.AST]) -> set[int]:
    """Return expressions of which only the kind is asked, or an attribute that does no harm."""
    found: set[int] = set()
    for node in nodes:
        match node:
            case ast.Attribute(value=value, attr=attribute) if attribute in _HARMLESS:
                found.add(id(value))
            case ast.Call(func=ast.Name(id="type" | "isinstance"), args=[value, *_]):
                found.add(id(value))
            case _:
                pass
    return found


def _is_clients_fault(value: ast.expr) -> bool:
    """Tell whether a status below 500 is written in the answer."""
    return (
        re.search(
            r"(?<!\d)4\d\d(?!\d)|HTTP_4\d\d|HTTPStatus\.(?!INTERNAL|BAD_GATEWAY|SERVICE)",
            ast.unparse(value),
        )
        is not None
    )


def _finding(function: Function, node: ast.AST, severity: Severity, route: str | None) -> Finding:
    return RULE.found(
        "the text of any exception is sent to the client",
        file=function.file,
        line=getattr(node, "lineno", 0),
        route=route,
        severity=severity,
    )


RULE = Rule(
    id="ERR001",
    title="The text of an exception goes to the client",
    severity="change",
    how="source",
    why="It holds statements, values of other people's rows, paths and host names: an attacker "
    "reads the inside of the service.",
    fix="log it with the request's id and answer with a sentence of your own; let unexpected "
    "exceptions reach the handler for all of them",
    seed='003 "Expose internal errors to API"',
    expected="exceptions of the project's own, ValueError and the like, whose text is meant for "
    "the client; what is only sent in development; exceptions given to a function that only "
    "logs them or asks for their kind. With a status below 500 it is a note, and so is what a "
    "helper returns, or a route that tests or validates what the client names.",
    bad="""
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError

app = FastAPI()


def work() -> int:
    return 1


@app.get("/raised")
def raised() -> int:
    try:
        return work()
    except Exception as error:
        raise HTTPException(status_code=500, detail=f"failed: {error}")  # finding


@app.get("/returned")
def returned() -> object:
    try:
        return work()
    except (ValueError, IntegrityError) as error:
        return {"error": str(error)}  # finding


def helped() -> dict[str, str]:
    try:
        return {"work": str(work())}
    except Exception as error:
        return {"error": str(error)}  # finding


@app.get("/helped")
def with_help() -> dict[str, str]:
    return helped()


@app.get("/noted")
def noted() -> int:
    try:
        return work()
    except Exception as error:
        raise HTTPException(400, str(error))  # finding


@app.exception_handler(Exception)
async def unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": repr(error)}, status_code=500)  # finding


def shown(error: Exception) -> dict[str, str]:
    return {"error": f"{error}"}


def passed_on(error: Exception) -> dict[str, str]:
    return shown(error)


@app.get("/handed-over")
def handed_over() -> object:
    try:
        return work()
    except Exception as error:
        return JSONResponse(passed_on(error), status_code=500)  # finding


def formatted(error: Exception) -> dict[str, str]:
    return {"error": "failed: {}".format(error)}


@app.get("/formatted")
def with_format() -> object:
    try:
        return work()
    except Exception as error:
        return JSONResponse(formatted(error), status_code=500)  # finding
""",
    good="""
import logging
from enum import Enum

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse



class Mode(Enum):
    LIVE = "live"
    TESTING = "testing"


DEBUG = False
MODE = Mode.LIVE
app = FastAPI()


class NoteLocked(Exception):
    pass


def work() -> int:
    return 1


@app.get("/own")
def own() -> int:
    try:
        return work()
    except NoteLocked as error:
        raise HTTPException(409, str(error)) from error
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    except HTTPException as error:
        raise HTTPException(error.status_code, error.detail) from error


@app.get("/logged")
def logged() -> object:
    try:
        return work()
    except Exception as error:
        logging.exception("failed: %s", error)
        if DEBUG:
            return {"error": str(error)}
        if MODE == Mode.TESTING:
            raise HTTPException(500, str(error)) from error
        raise HTTPException(500, f"failed: {type(error).__name__}") from error


def sentence(error: Exception) -> dict[str, str]:
    logging.error("failed: %s", error)
    return {"error": "not found" if isinstance(error, KeyError) else "something went wrong"}


@app.get("/translated")
def translated() -> object:
    try:
        return work()
    except Exception as error:
        return JSONResponse(sentence(error), status_code=500)


@app.exception_handler(NoteLocked)
async def locked(request: Request, error: NoteLocked) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=409)


@app.exception_handler(Exception)
async def unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "something went wrong"}, status_code=500)
""",
    find=find,
    is_habit=True,
)
