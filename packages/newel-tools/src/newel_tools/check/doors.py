"""Doors in the code: a token or password that a literal is compared with lets anybody in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from newel_tools.check.finding import Severity
from newel_tools.check.review import Review
from newel_tools.check.secret import literal
from newel_tools.facts.source import Function

__all__ = ["doors"]

_CREDENTIAL: Final = re.compile(
    r"(^|[_-])(token|api[_-]?key|access[_-]?key|secret([_-]?key)?|password|passwd|passcode|credentials"
    r"|authorization|bearer)$",
    re.IGNORECASE,
)
_SENT: Final = re.compile(
    r"^(credentials|creds|body|form|form_data|data|payload|request|req|login|login_data|headers|"
    r"cookies|auth|authorization)\b",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(r"[\w.~+/=!@#$%^&*-]{8,}")
_MADE: Final = re.compile(
    r"token|key|secret|admin|pass|mock|demo|test|master|magic|super|internal|debug|dev",
    re.IGNORECASE,
)
_NAMES: Final = re.compile(
    r"(access|refresh|id|csrf|api|auth|reset)[-_]?(token|key)", re.IGNORECASE
)
_REFUSED: Final = re.compile(
    r"\b(return( False| None)?|continue|break)$|= (False|None)$|\braise\b|\b40[0-9]\b"
    r"|weak|strength|invalid|error|warn|fail|unauthori|forbid|[Rr]edirect",
    re.MULTILINE,
)
_BARRED: Final = re.compile(  # lists of what nobody may use, and functions that ask for them
    r"weak|common|black|den(y|ied)|block|revok|bann?ed|forbid|default|placeholder|insecure|leaked"
    r"|pwned|expired|invalid|reserved|unsafe",
    re.IGNORECASE,
)
_PLACES: Final = re.compile(r"^(page|next|sync|cursor|continuation|prev(ious)?)_", re.IGNORECASE)
_ON_PURPOSE: Final = re.compile(
    r"debug|\bdev|develop|test|local|\benv|environment|mock|settings\.|config\.", re.IGNORECASE
)


def doors(review: Review) -> Iterator[tuple[Function, int, str, Severity]]:
    """Yield the comparisons that let in whoever sends a literal, in code that requests lead to.

    A comparison that refuses the literal is none; one below a switch of the settings is a note.
    """
    for function in review.served:
        if not function.module.is_test:
            of_loops = _loop_names(function)
            for node, name, around in _in_body(function.node.body, "", _bound(function)):
                said = f"{function.node.name} {_without_texts(node)}"
                if name in of_loops or _BARRED.search(said):
                    continue
                severity: Severity = "note" if _ON_PURPOSE.search(around) else "block"
                yield function, node.lineno, name, severity


def _loop_names(function: Function) -> frozenset[str]:
    """Return the names that loops bind: the tokens of a text are no credentials."""
    return frozenset(
        inner.id
        for node in function.nodes
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension)
        for inner in ast.walk(node.target)
        if isinstance(inner, ast.Name)
    )


def _bound(function: Function) -> Mapping[str, ast.expr]:
    """Return what the function's names stand for, and its module's lists of texts."""
    found = {
        name: value for name, value in function.module.values.items() if list(_texts_in(value))
    }
    for node in function.nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = value
            case _:
                pass
    return found


def _in_body(
    body: list[ast.stmt], around: str, bound: Mapping[str, ast.expr]
) -> Iterator[tuple[ast.expr, str, str]]:
    """Yield comparisons with the name that is compared and the conditions that they stand in."""
    for statement in body:
        match statement:
            case ast.If(test=test, body=inner, orelse=rest):
                yield from _in_test(test, around, bound, grants=not _refuses(inner))
                said = f"{around} {_without_texts(test)}"
                yield from _in_body(inner, said, bound)
                yield from _in_body(rest, around, bound)
            case ast.Match(subject=subject, cases=cases):
                for case in cases:
                    tests = (ast.Compare(subject, [ast.Eq()], [text]) for text in _matched(case))
                    for test in map(partial(ast.copy_location, old_node=case.pattern), tests):
                        yield from _in_test(test, around, bound, grants=not _refuses(case.body))
                    yield from _in_body(case.body, around, bound)
            case ast.Return(value=ast.expr() as value):
                yield from _in_test(value, around, bound, grants=True)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass  # functions of their own
            case _:
                for field in ("body", "orelse", "finalbody"):
                    yield from _in_body(getattr(statement, field, []), around, bound)


def _refuses(body: list[ast.stmt]) -> bool:
    return _REFUSED.search("\n".join(map(ast.unparse, body))) is not None


def _matched(case: ast.match_case) -> list[ast.expr]:
    """Return the values that a case is for, if it asks for nothing else."""
    patterns = case.pattern.patterns if isinstance(case.pattern, ast.MatchOr) else [case.pattern]
    return [item.value for item in patterns if isinstance(item, ast.MatchValue)]


def _in_test(
    test: ast.expr, around: str, bound: Mapping[str, ast.expr], *, grants: bool
) -> Iterator[tuple[ast.expr, str, str]]:
    match test:
        case ast.BoolOp(op=op, values=values):
            for value in values:  # what stands beside an `or` is no condition of it
                said = f"{around} {_without_texts(test)}" if isinstance(op, ast.And) else around
                yield from _in_test(value, said, bound, grants=grants)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _in_test(operand, around, bound, grants=not grants)
        case ast.Name(id=name) if name in bound:
            rest = {other: value for other, value in bound.items() if other != name}
            yield from _in_test(bound[name], around, rest, grants=grants)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            is_met = isinstance(op, ast.Eq | ast.In)
            texts = [right]
            if isinstance(op, ast.In | ast.NotIn):
                texts = list(_texts_in(_stands_for(right, bound)))
            names = (_compared(left, text, bound) or _compared(text, left, bound) for text in texts)
            name = next((name for name in names if name is not None), None)
            if name is not None and grants is is_met:
                yield test, name, around
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[left, right]):
            name = _compared(left, right, bound) or _compared(right, left, bound)
            if called == "compare_digest" and name is not None and grants:
                yield test, name, around
        case _:
            pass


def _stands_for(node: ast.expr, bound: Mapping[str, ast.expr]) -> ast.expr:
    return bound.get(node.id, node) if isinstance(node, ast.Name) else node


def _texts_in(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the texts of a list, a set, or the keys of a dictionary."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            found = items
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple"), args=[inner]):
            found = list(_texts_in(inner))
        case ast.Dict(keys=keys):
            found = [key for key in keys if key is not None]
        case _:
            found = []
    yield from (item for item in found if isinstance(item, ast.Constant))


def _compared(sent: ast.expr, text: ast.expr, bound: Mapping[str, ast.expr]) -> str | None:
    """Return the name of what a client sent, if it is compared with a token in the code."""
    name = _sent_name(sent) or _sent_name(_stands_for(sent, bound))
    found = literal(_bare(_stands_for(text, bound)), name=name or "")
    if name is None or found is None or _TOKEN.fullmatch(found) is None or _NAMES.fullmatch(found):
        return None
    has_digits = any(character.isdigit() for character in found)
    return name if has_digits or ("-" in found and _MADE.search(found)) else None


def _bare(node: ast.expr) -> ast.expr:
    """Return what is encoded, or a token without what stands before it in a header."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="encode" | "strip")):
            return _bare(inner)
        case ast.Constant(value=bytes(value)):
            return _bare(ast.Constant(value.decode(errors="replace")))
        case ast.Constant(value=str(value)) if value.startswith("Bearer "):
            return ast.Constant(value=value.removeprefix("Bearer "))
        case _:
            return node


def _sent_name(node: ast.expr) -> str | None:
    """Return the name of a credential that a client sends; `None` for settings and rows."""
    match _bare(node):
        case ast.Name(id=name):
            named = not name.isupper()
        case ast.Attribute(value=owner, attr=name):
            named = _SENT.match(ast.unparse(owner)) is not None
        case (
            ast.Subscript(value=ast.Attribute(attr=owner), slice=ast.Constant(value=str(name)))
            | ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr=owner), attr="get"),
                args=[ast.Constant(value=str(name)), *_],
            )
        ):
            named = owner in ("headers", "cookies", "query_params")
        case _:
            return None
    return name if named and _CREDENTIAL.search(name) and not _PLACES.match(name) else None


def _without_texts(node: ast.expr) -> str:
    """Return a condition's code without what stands in quotes."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "''", ast.unparse(node))
