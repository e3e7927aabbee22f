"""Keys that are empty unless somebody sets them: what they sign, everybody can sign."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.review import Review
from newel_tools.facts.source import Module

__all__ = ["empty_keys"]

_READS: Final = re.compile(r"(^|\.)(getenv|environ\.get)$")
_SIGNERS: Final = (  # what is called, the place and the name of the key that it takes
    (re.compile(r"^(jwt|jose\.(jwt|jws))\.(encode|decode|sign|verify)$"), 1, "key"),
    (re.compile(r"(^|\.)SessionMiddleware$"), 1, "secret_key"),
    (re.compile(r"(^|\.)JWTStrategy$"), 0, "secret"),
    (re.compile(r"^itsdangerous\.(\w+\.)?\w*(Serializer|Signer)$"), 0, "secret_key"),
)


def empty_keys(review: Review) -> Iterator[tuple[Module, int, str]]:
    """Yield where a key to sign with is read as `os.getenv("KEY", "")`, and no code asks if it is.

    In doubt a key is asked for: where any condition, comparison or validator names it.
    """
    modules = list(review.source.own_modules())
    signing = {name for module in modules for name in _signing(review, module)}
    if not signing:
        return
    asked = {name for module in modules for node in module.nodes for name in _asked(node)}
    for module in modules:
        bodies = [module.tree.body, *(n.body for n in module.nodes if isinstance(n, ast.ClassDef))]
        for node in (statement for body in bodies for statement in body):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as value)
                ) if name in signing - asked and _is_empty(value):
                    yield module, node.lineno, name
                case _:
                    pass


def _is_empty(call: ast.Call) -> bool:
    """Tell whether a call reads a variable that is empty where it is not set."""
    if _READS.search(ast.unparse(call.func)) is None:
        return False
    named = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
    return any(isinstance(n, ast.Constant) and n.value == "" for n in [*call.args[1:2], *named])


def _signing(review: Review, module: Module) -> Iterator[str]:
    """Yield the names of the keys that calls of a module sign with."""
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if getattr(called, "attr", "") == "add_middleware" and node.args:
            called = node.args[0]
        name = review.source.name_of(module, called) or ""
        for signer, position, keyword in _SIGNERS:
            if signer.search(name) is not None:
                given = [k.value for k in node.keywords if k.arg == keyword]
                for key in given or node.args[position : position + 1]:
                    yield from _last_name(key)


def _last_name(key: ast.expr) -> Iterator[str]:
    match key:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case _:
            pass


def _asked(node: ast.AST) -> Iterator[str]:
    """Yield the names that a condition, a comparison or a validator looks at."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
            looked_at: list[ast.AST] = [test]
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            looked_at = [node]
        case ast.FunctionDef(decorator_list=decorators) if any(
            "validator" in ast.unparse(decorator) for decorator in decorators
        ):
            looked_at = [node]
        case _:
            looked_at = []
    for inner in (inner for outer in looked_at for inner in ast.walk(outer)):
        match inner:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                yield name
            case _:
                pass
