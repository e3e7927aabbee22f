"""SEC004: a secret of the caller's is written to the log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call
from newel_tools.facts.shapes import Model

__all__ = ["RULE"]

_LOGGERS: Final = re.compile(r"^(_?log(ger|ging)?|LOG(GER)?|self\._?log(ger)?)$")
_METHODS: Final = frozenset(
    {"debug", "info", "warning", "warn", "error", "exception", "critical", "log", "trace"}
)
_SECRETS: Final = re.compile(
    r"^((plain|raw|hashed|new|old|current|user)_?)?(password|passwd|pwd)$"
    r"|^(access|refresh|id|bearer|reset|jwt|auth)_?token$"
    r"|^(authorization|api_?key|secret_?key|client_?secret)$",
    re.IGNORECASE,
)
_PASSWORDS: Final = re.compile(r"^(\w+_)?(password|passwd|pwd|secret)$", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find log calls that are given a secret, all headers, or a body with a password."""
    models = {model.full_name: model for model in review.facts.models.values()}
    for function, reach in review.served.items():
        for call in review.calls.of(function):
            what = _logged(review, call, models) if _is_log(call) else None
            if what is not None:
                yield RULE.found(
                    f"{what} is written to the log",
                    file=function.file,
                    line=call.line,
                    route=reach.route,
                )


def _is_log(call: Call) -> bool:
    match call.node.func:
        case ast.Attribute(value=value, attr=name):
            return name in _METHODS and _LOGGERS.match(ast.unparse(value)) is not None
        case ast.Name(id=name):
            return name == "print"
        case _:
            return False


def _logged(review: Review, call: Call, models: dict[str, Model]) -> str | None:
    values = [*call.node.args, *(keyword.value for keyword in call.node.keywords)]
    for value in (inner for given in values for inner in _shown(given)):
        match value:
            case ast.Name(id=name) | ast.Attribute(attr=name) if _SECRETS.match(name):
                return f"`{ast.unparse(value)}`"
            case ast.Attribute(value=ast.Name(id="request"), attr="headers"):
                return "every header, `Authorization` and cookies among them,"
            case ast.Await(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id="request"), attr=name))
            ):
                if name in ("body", "json", "form"):
                    return "the whole body of the request"
            case ast.Name():
                model = models.get(review.calls.types.type_of(value, call.caller) or "")
                if model is not None and _holds_password(model):
                    return f"`{value.id}` with its password"
            case _:
                pass
    return None


def _shown(value: ast.expr) -> Iterator[ast.expr]:
    """Yield the expressions whose text is in what is logged: of f-strings, `%` and conversions."""
    match value:
        case (
            ast.FormattedValue(value=inner)
            | ast.Call(func=ast.Name(id="dict" | "str" | "repr"), args=[inner])
        ):
            yield from _shown(inner)
        case ast.Call(
            func=ast.Attribute(value=inner, attr="model_dump" | "dict" | "json"), args=[]
        ):
            yield inner
        case (
            ast.JoinedStr(values=parts)
            | ast.Tuple(elts=parts)
            | ast.List(elts=parts)
            | ast.Dict(values=parts)
            | ast.Call(func=ast.Attribute(value=ast.Constant(), attr="format"), args=parts)
        ):
            yield from (shown for part in parts for shown in _shown(part))
        case ast.BinOp(left=left, right=right):
            yield from (*_shown(left), *_shown(right))
        case _:
            yield value


def _holds_password(model: Model) -> bool:
    return any(
        _PASSWORDS.match(field.name)
        and "str" in field.shape.types
        and not field.shape.secret
        and not field.exclude
        for field in model.fields
    )


RULE = Rule(
    id="SEC004",
    title="A secret is written to the log",
    severity="change",
    how="source",
    why="Logs are copied to more places and read by more people than any table; a token there is "
    "the user's "
    "session.",
    fix="log who and what, not the credential: the user's id, the path, the request id; or redact "
    "it in the "
    "logging configuration",
    seed='003 "Log appropriately"',
    expected="parts (`token[:4]`), lengths, what another function has masked, models whose "
    "password is a "
    "SecretStr.",
    bad="""
import logging

from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI()
logger = logging.getLogger(__name__)


class Credentials(BaseModel):
    email: str
    password: str


@app.post("/login")
def login(body: Credentials) -> None:
    logger.info("log-in with %s", body)  # finding
    logger.debug(f"{body.email} said {body.password}")  # finding


@app.middleware("http")
async def log_requests(request: Request, call_next):
    logger.info("headers: %s", dict(request.headers))  # finding
    return await call_next(request)
""",
    good="""
import logging

from fastapi import FastAPI, Request
from pydantic import BaseModel, SecretStr

app = FastAPI()
logger = logging.getLogger(__name__)


class Credentials(BaseModel):
    email: str
    password: SecretStr


def mask(text: str) -> str:
    return text[:2] + "..."


@app.post("/login")
def login(body: Credentials, access_token: str) -> None:
    logger.info("log-in with %s", body)
    logger.info("%s wants in with %s", body.email, mask(access_token))
    logger.debug(f"a token of {len(access_token)} characters, {access_token[:4]}")


@app.middleware("http")
async def log_requests(request: Request, call_next):
    logger.info("%s %s from %s", request.method, request.url.path, request.headers.get("origin"))
    return await call_next(request)
""",
    find=find,
)
