"""CORS001: every site may use the visitor's log-in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Module

__all__ = ["RULE"]

_DEVELOPING: Final = re.compile(r"(dev|debug|local|test|prod|env)", re.IGNORECASE)
# `os.getenv("ORIGINS")` asks for a setting, not where the application runs.
_READS: Final = re.compile(
    r"\b(os\.)?(getenv|environ(\.get)?)\b|['\"]?\w*(origin|cors|allow)\w*['\"]?", re.IGNORECASE
)
_LIVE: Final = re.compile(r"prod|live", re.IGNORECASE)
_ANY = (".*", "^.*$", "https?://.*", "http.*")


def find(review: Review) -> Iterator[Finding]:
    """Find CORS middleware that allows credentials to origins that nobody listed."""
    for item in review.facts.middleware:
        if item.class_.rpartition(".")[2] != "CORSMiddleware":
            continue
        origins = item.options.get("allow_origins") or ()
        pattern = item.options.get("allow_origin_regex")
        if item.options.get("allow_credentials") and ("*" in origins or pattern in _ANY):
            module, call = _place(review) or (None, None)
            yield RULE.found(
                "every origin is allowed to send and read requests with credentials",
                file=module.file if module is not None else None,
                line=call.lineno if call is not None else 0,
                severity="note" if module and call and _only_developing(module, call) else None,
            )


def _place(review: Review) -> tuple[Module, ast.Call] | None:
    """Return where the middleware is added: the first call that names it."""
    for module in review.source.own_modules():
        for node in module.nodes if "CORSMiddleware" in module.text else ():
            if isinstance(node, ast.Call):
                given = [*node.args[:1], *(k.value for k in node.keywords[:1]), node.func]
                names = [ast.unparse(value).rpartition(".")[2] for value in given]
                if "CORSMiddleware" in names:
                    return module, node
    return None


def _only_developing(module: Module, call: ast.Call) -> bool:
    """Tell whether `*` depends on where the application runs, by the same file.

    The review imports it without a word on that, as a developer would.
    """
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    origins = given.get("allow_origins", "")
    for node in module.nodes:
        match node:
            case ast.If(test=test, body=body, orelse=rest):
                holds = any(call in ast.walk(item) for item in body)
                if not holds and not any(call in ast.walk(item) for item in rest):
                    continue
            case (
                ast.Assign(targets=[target], value=ast.IfExp(test=test, body=value))
                | ast.AnnAssign(target=target, value=ast.IfExp(test=test, body=value))
            ) if ast.unparse(target) == origins:
                holds = "'*'" in ast.unparse(value)
            case ast.IfExp(test=test, body=value) if ast.unparse(node) == origins:
                holds = "'*'" in ast.unparse(value)
            case _:
                continue
        if _asks_for_developers(test) is holds:
            return True
    return False


def _asks_for_developers(test: ast.expr) -> bool | None:
    """Tell whether a condition holds where developers run it; `None` if it asks something else."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _asks_for_developers(operand)
            return None if inner is None else not inner
        case _:
            pass
    text = _READS.sub("", ast.unparse(test))
    if not _DEVELOPING.search(text):
        return None
    is_unequal = any(
        isinstance(op, ast.NotEq | ast.NotIn)
        for node in ast.walk(test)
        if isinstance(node, ast.Compare)
        for op in node.ops
    )
    return (_LIVE.search(text) is None) is not is_unequal


RULE = Rule(
    id="CORS001",
    title="Any site may use the visitor's log-in",
    severity="block",
    how="import",
    why="With `*` and credentials the middleware answers every Origin with itself: a page "
    "anywhere can call the API as whoever visits it, and read the answers.",
    fix="list the origins of the front ends in the settings, or drop `allow_credentials`",
    seed='003 "Whitelist specific origins (no wildcards in production)"; 000 shows the fault',
    expected="`*` without credentials, listed origins. What counts is what the imported "
    "application has, so a default of the settings counts too; where the code asks whether it runs "
    "for developers before it allows `*`, it is a note.",
    bad="""
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

app = FastAPI()
app.add_middleware(  # finding
    CORSMiddleware,
    allow_origins=["*"],
    allow_credentials=True,
    allow_methods=["*"],
)
""",
    good="""
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

app = FastAPI()
app.add_middleware(
    CORSMiddleware,
    allow_origins=["https://app.example.com"],
    allow_credentials=True,
    allow_methods=["*"],
)
""",
    find=find,
)
