"""AUTH008: a token that is stolen stays good for long."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function, Module

__all__ = ["RULE"]

_LIMITS: Final = {"access": 60 * 60, "refresh": 30 * 24 * 60 * 60}
_SECONDS: Final = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86400}
_NAME: Final = re.compile(
    r"^(jwt_?)?(access|refresh|jwt|auth)?_?(jwt_?)?(token)?_?(expir\w*|ttl|lifetime|life_?time|duration|max_?age)"
    r"(_(delta|time|in))?_?(in_)?(second|sec|minute|min|hour|day)s?$",
    re.IGNORECASE,
)
_PLAIN: Final = re.compile(
    r"^(?:jwt_?)?(?:access|refresh)_(?:jwt_?)?token_(second|minute|hour|day)s$", re.IGNORECASE
)
_OF_TOKENS: Final = re.compile(r"token|jwt|access|refresh", re.IGNORECASE)
_MAKER: Final = re.compile(r"(access|refresh)_?(jwt_?)?token", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find settings, constants and `timedelta`s that let tokens live longer than the seeds say."""
    for module in review.source.own_modules():
        for node in module.nodes if _speaks(module) else ():
            yield from _assigned(module, node)
    for function in review.source.functions.values():
        kind = _MAKER.search(function.node.name)
        if kind is not None and not function.module.is_test:
            yield from _made(function, kind[1].lower())


def _speaks(module: Module) -> bool:
    return re.search(r"token|jwt|expire", module.text, re.IGNORECASE) is not None


def _assigned(module: Module, node: ast.AST) -> Iterator[Finding]:
    match node:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            found = _NAME.match(name) or _PLAIN.match(name)
            number = _number(value)
            if found is None or number is None or not _OF_TOKENS.search(name):
                return
            seconds = number * _SECONDS[found.groups()[-1].lower()]
            yield from _too_long(
                "refresh" if "refresh" in name.lower() else "access", seconds, module, value
            )
        case _:
            pass


def _made(function: Function, kind: str) -> Iterator[Finding]:
    for node in function.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("timedelta"):
            parts = [
                number * _SECONDS[keyword.arg.rstrip("s")]
                for keyword in node.keywords
                if keyword.arg
                and keyword.arg.rstrip("s") in _SECONDS
                and (number := _number(keyword.value)) is not None
            ]
            if len(parts) == len(node.keywords):
                yield from _too_long(kind, sum(parts), function.module, node)


def _too_long(kind: str, seconds: float, module: Module, node: ast.expr) -> Iterator[Finding]:
    if seconds > _LIMITS[kind]:
        yield RULE.found(
            f"{'an' if kind == 'access' else 'a'} {kind} token is good for {_said(seconds)}",
            file=module.file,
            line=node.lineno,
        )


def _said(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 2 * 86400 else f"{seconds / 3600:.3g} hours"


def _number(node: ast.expr) -> float | None:
    """Return the value of a number, a product, or a default in `int(os.getenv(..., "30"))`."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Constant(value=str(text)) if text.isdigit():
            return float(text)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            first, second = _number(left), _number(right)
            return None if first is None or second is None else first * second
        case ast.Call(args=[*_, last]) if ast.unparse(node.func).rpartition(".")[2] in (
            "int",
            "float",
            "getenv",
            "get",
            "Field",
            "config",
        ):
            return _number(next((k.value for k in node.keywords if k.arg == "default"), last))
        case ast.Call(keywords=keywords):
            default = next((k.value for k in keywords if k.arg == "default"), None)
            return None if default is None else _number(default)
        case _:
            return None


RULE = Rule(
    id="AUTH008",
    title="A stolen token stays good for long",
    severity="note",
    how="source",
    why="Nobody can take an access token back before its end; until then it is the user.",
    fix="let access tokens live for 15 minutes and renew them with refresh tokens, "
    "which can be revoked",
    seed='003 "Access token (short-lived, 15min)", "Refresh token (long-lived, 30 days)"',
    expected="up to an hour and 30 days; tokens for machines, for resets and for verification; "
    "values without a unit in their name.",
    bad="""
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI

app = FastAPI()
ACCESS_TOKEN_EXPIRE_MINUTES = 60 * 24 * 8  # finding
REFRESH_TOKEN_EXPIRE_DAYS: int = 365  # finding


def create_access_token(delta: timedelta | None = None) -> datetime:
    return datetime.now(UTC) + (delta or timedelta(days=7))  # finding
""",
    good="""
import os
from datetime import UTC, datetime, timedelta

from fastapi import FastAPI

app = FastAPI()
ACCESS_TOKEN_EXPIRE_MINUTES = int(os.getenv("ACCESS_TOKEN_EXPIRE_MINUTES", "15"))
REFRESH_TOKEN_EXPIRE_DAYS: int = 30
EMAIL_RESET_TOKEN_EXPIRE_HOURS: int = 48
CACHE_TTL_DAYS = 90


def create_access_token(delta: timedelta | None = None) -> datetime:
    return datetime.now(UTC) + (delta or timedelta(minutes=15))


def create_api_key() -> datetime:
    return datetime.now(UTC) + timedelta(days=365)
""",
    find=find,
)
