"""CORS001: every site may use the visitor's log-in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
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
            places = list(_places(review))
            module, call = places[0] if places else (None, None)
            is_meant = bool(places) and all(_only_developing(review, *place) for place in places)
            yield RULE.found(
                "every origin is allowed to send and read requests with credentials",
                file=module.file if module is not None else None,
                line=call.lineno if call is not None else 0,
                severity="note" if is_meant else None,
            )


def _places(review: Review) -> Iterator[tuple[Module, ast.Call]]:
    """Yield where the middleware may be added: the calls that name it but those with a list."""
    for module in review.source.own_modules():
        for node in module.nodes if "CORSMiddleware" in module.text else ():
            if isinstance(node, ast.Call):
                given = [*node.args[:1], *(k.value for k in node.keywords[:1]), node.func]
                names = [ast.unparse(value).rpartition(".")[2] for value in given]
                if "CORSMiddleware" in names and not _is_listed(_given(node, "allow_origins")):
                    yield module, node


def _given(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def _is_listed(origins: ast.expr | None) -> bool:
    """Tell whether the origins stand there, each as a text, and none of them is `*`."""
    if not isinstance(origins, ast.List | ast.Tuple) or not origins.elts:
        return False
    return not _opens(origins) and all(isinstance(item, ast.Constant) for item in origins.elts)


def _only_developing(review: Review, module: Module, call: ast.Call) -> bool:
    """Tell whether `*`, or sending credentials, depends on where the application runs.

    The review imports it without a word on that, as a developer would.
    """
    return any(
        _asks_for_developers(test) is holds for test, holds in _conditions(review, module, call)
    )


def _conditions(review: Review, module: Module, call: ast.Call) -> Iterator[tuple[ast.expr, bool]]:
    """Yield what decides on a call or on what is given to it, and how it turned out."""
    for node in module.nodes:
        if isinstance(node, ast.If):
            if _holds(node.body, call):
                yield node.test, True
            elif _holds(node.orelse, call):
                yield node.test, False
    for option in ("allow_origins", "allow_credentials"):
        value = _given(call, option)
        if value is not None:
            yield from _of_value(value)
            if isinstance(value, ast.Name | ast.Attribute) and option == "allow_credentials":
                yield value, True
            yield from _of_name(module.nodes, ast.unparse(value))
            called = value.func if isinstance(value, ast.Call) else value
            name = ast.unparse(called).rpartition(".")[2]
            for function in review.source.functions.values():
                if function.node.name == name and not function.module.is_test:
                    yield from _of_name(function.nodes, None)


def _holds(body: list[ast.stmt], call: ast.Call) -> bool:
    return any(call is inner for statement in body for inner in ast.walk(statement))


def _of_value(value: ast.expr) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the condition in `["*"] if DEBUG else []`, and `ENV == "dev"` itself."""
    match value:
        case ast.IfExp(test=test, body=body):
            yield test, _opens(body)
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp():
            yield value, True
        case _:
            pass


def _of_name(nodes: Iterable[ast.AST], name: str | None) -> Iterator[tuple[ast.expr, bool]]:
    """Yield what decides on the values that a name is set to; `None` is what is returned."""
    for node in nodes:
        match node:
            case ast.If(test=test, body=body, orelse=rest):
                for is_met, branch in ((True, body), (False, rest)):
                    values = list(_set_in(branch, name))
                    if values:
                        yield test, is_met is any(map(_opens, values))
                        break
            case _:
                for value in _set_by(node, name):
                    yield from _of_value(value)


def _set_in(body: list[ast.stmt], name: str | None) -> Iterator[ast.expr]:
    for statement in body:
        for node in ast.walk(statement):
            yield from _set_by(node, name)


def _set_by(node: ast.AST, name: str | None) -> Iterator[ast.expr]:
    match node:
        case ast.Return(value=ast.expr() as value) if name is None:
            yield value
        case (
            ast.Assign(targets=[target], value=ast.expr() as value)
            | ast.AnnAssign(target=target, value=ast.expr() as value)
        ) if ast.unparse(target) == name:
            yield value
        case (
            ast.AugAssign(target=target, value=value)
            | ast.Call(
                func=ast.Attribute(value=target, attr="append" | "extend" | "insert"),
                args=[*_, value],
            )
        ) if ast.unparse(target) == name and _opens(value):  # what is added takes no `*` away
            yield value
        case _:
            pass


def _opens(value: ast.expr) -> bool:
    """Tell whether a value has the `*` in it, or is the `True` of the credentials."""
    return any(
        isinstance(node, ast.Constant) and (node.value == "*" or node.value is True)
        for node in ast.walk(value)
    )


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
