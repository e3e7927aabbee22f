"""Texts that match a regular expression."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["matching"]

_ANY: Final = "a7-Z _."
_CLASSES: Final = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def matching(pattern: str, *, serial: int, min_length: int = 0) -> str | None:
    """Return a text that ``pattern`` finds, another one for another ``serial`` where it can be.

    ``None`` if none was found: the pattern uses what this writer does not know.
    """
    try:
        # Private, and the only parser whose idea of a pattern is Python's own.
        tree: Any = importlib.import_module("re._parser").parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    for extra in (0, 1, 2, 4, 8, 16, 32):
        text = _Writer(serial, extra=extra).write(tree)
        if len(text) >= min_length and re.search(pattern, text):
            return text
    return None


class _Writer:
    """Walks the parsed pattern and writes the first thing that fits; repeats ``extra`` times."""

    def __init__(self, serial: int, *, extra: int) -> None:
        self._digits = serial
        self._extra = extra

    def write(self, tree: Any) -> str:
        return "".join(self._one(str(code), value) for code, value in tree)

    def _one(self, code: str, value: Any) -> str:
        writers: dict[str, Callable[[Any], str]] = {
            "LITERAL": chr,
            "NOT_LITERAL": lambda value: next(one for one in _ANY if ord(one) != value),
            "ANY": lambda _: "a",
            "IN": self._chosen,
            "BRANCH": lambda value: self.write(value[1][0]),
            "SUBPATTERN": lambda value: self.write(value[3]),
            "ATOMIC_GROUP": self.write,
            "MAX_REPEAT": self._repeated,
            "MIN_REPEAT": self._repeated,
            "POSSESSIVE_REPEAT": self._repeated,
        }
        # Anchors and look-arounds take no room; a back reference is not written.
        return writers[code](value) if code in writers else ""

    def _repeated(self, value: Any) -> str:
        least, most, inner = value
        times = min(int(least) + self._extra, int(most))
        return "".join(self.write(inner) for _ in range(times))

    def _chosen(self, items: Any) -> str:
        allowed = [one for one in self._candidates() if _is_in(one, items)]
        return allowed[0] if allowed else ""

    def _candidates(self) -> list[str]:
        """Return characters to choose from, turned by the serial so that texts differ."""
        self._digits, turn = divmod(self._digits, 10) if self._digits else (0, 0)
        digits, letters = "0123456789", "abcdefghij"
        order = letters[turn:] + letters + letters.upper()[turn:] + digits[turn:] + digits
        every = "".join(map(chr, range(33, 127)))
        return list(order + every + " ")


def _is_in(character: str, items: Any) -> bool:
    negated = False
    found = False
    for code, value in items:
        match str(code):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found = found or ord(character) == value
            case "RANGE":
                found = found or value[0] <= ord(character) <= value[1]
            case "CATEGORY":
                found = found or re.match(_CLASSES[str(value)], character) is not None
            case _:
                pass
    return found != negated
