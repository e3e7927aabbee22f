"""Python that is newer than the one that newel runs on, read all the same: `parse`."""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from contextlib import suppress
from typing import Final

import libcst as cst

__all__ = ["parse"]

_ESCAPE: Final = re.compile(r"\\(?s:.)")
# The other parser calls itself in native code, where what is too deep ends the process.
_DEEPENING: Final = 900
_FLAT: Final = frozenset({")", "]", "}", ",", ":", "="})


def parse(text: str) -> ast.Module:
    """Return the tree of a module, with syntax of later releases as it was written before them.

    Every line keeps its number. What no release knows, or not this way, is a ``SyntaxError``.
    """
    try:
        return ast.parse(text)
    except SyntaxError:
        with suppress(cst.ParserSyntaxError, SyntaxError, RecursionError):
            if _is_shallow(text):
                older = cst.parse_module(text).visit(_Older()).code
                if older.count("\n") == text.count("\n"):
                    return ast.parse(older)
        raise


def _is_shallow(text: str) -> bool:
    """Tell whether no statement, nor chain of `elif`, has so much that it may be too deep."""
    deepening = chained = 0
    with suppress(tokenize.TokenError):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NEWLINE:
                deepening = 0
            elif keyword.iskeyword(token.string) or token.type == tokenize.OP:
                deepening += token.string not in _FLAT
                chained += token.string == "elif"
            if max(deepening, chained) > _DEEPENING:
                return False
    return True


class _Older(cst.CSTTransformer):
    """Writes a module as Python 3.11 has it."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0  # of f-strings in f-strings

    def leave_FunctionDef(  # noqa: N802 - libcst calls it by the node's name
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        """Leave out `[T]`: what it names stands for any type."""
        del original_node
        lines = _lines(updated_node.type_parameters)
        return updated_node.with_changes(type_parameters=None, whitespace_after_name=lines)

    def leave_ClassDef(  # noqa: N802 - as above
        self, original_node: cst.ClassDef, updated_node: cst.ClassDef
    ) -> cst.ClassDef:
        """Leave out `[T]`, too."""
        del original_node
        lines = _lines(updated_node.type_parameters)
        return updated_node.with_changes(type_parameters=None, whitespace_after_name=lines)

    def leave_TypeAlias(  # noqa: N802 - as above
        self, original_node: cst.TypeAlias, updated_node: cst.TypeAlias
    ) -> cst.Assign:
        """Write `type Id = int` as `Id = int`."""
        del original_node
        target = cst.AssignTarget(
            updated_node.name, whitespace_before_equal=_lines(updated_node.type_parameters)
        )
        return cst.Assign([target], updated_node.value)

    def leave_ExceptHandler(  # noqa: N802 - as above
        self, original_node: cst.ExceptHandler, updated_node: cst.ExceptHandler
    ) -> cst.ExceptHandler:
        """Write `except A, B` with its parentheses."""
        del original_node
        kinds = updated_node.type
        if not isinstance(kinds, cst.Tuple) or kinds.lpar:
            return updated_node
        bracketed = kinds.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        return updated_node.with_changes(type=bracketed)

    def visit_FormattedString(self, node: cst.FormattedString) -> None:  # noqa: N802 - as above
        """Count how deep it is."""
        del node
        self._depth += 1

    def leave_FormattedString(  # noqa: N802 - as above
        self, original_node: cst.FormattedString, updated_node: cst.FormattedString
    ) -> cst.FormattedString:
        """Put three quotes around an f-string, so that it may hold one, and lines."""
        del original_node
        self._depth -= 1
        if len(updated_node.end) > 1:
            return updated_node
        other = "'" if updated_node.end == '"' else '"'
        quotes = (other if self._depth else updated_node.end) * 3
        return updated_node.with_changes(start=updated_node.start[:-1] + quotes, end=quotes)

    def leave_FormattedStringExpression(  # noqa: N802 - as above
        self,
        original_node: cst.FormattedStringExpression,
        updated_node: cst.FormattedStringExpression,
    ) -> cst.FormattedStringExpression:
        """Write a blank for what is escaped inside the braces, which no rule looks at."""
        del original_node
        code = cst.Module([]).code_for_node(updated_node.expression)
        if "\\" not in code:
            return updated_node
        return updated_node.with_changes(expression=cst.parse_expression(_ESCAPE.sub(" ", code)))


def _lines(parameters: cst.TypeParameters | None) -> cst.SimpleWhitespace:
    """Return as many ends of lines as type parameters have, each of which goes on."""
    code = "" if parameters is None else cst.Module([]).code_for_node(parameters)
    return cst.SimpleWhitespace("\\\n" * code.count("\n"))
