"""What is forbidden: ``users cannot delete notes``. A plan says who may, not who may not.

Such words are left out before anything is read, so that nothing is made of their nouns and nobody
is granted what they forbid; they turn up as not understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from newel_tools.planner.sentence import Token

__all__ = ["without_prohibitions"]

_AND: Final = frozenset({"and", "but", "though", "while"})
_NOBODY: Final = frozenset({"nobody", "noone"})
_CANNOT: Final = frozenset({"cannot", "can't", "mustn't", "shouldn't", "won't", "don't", "doesn't"})
_MODALS: Final = frozenset({"allowed", "are", "can", "do", "does", "may", "must", "should", "will"})


def without_prohibitions(tokens: Iterable[Token]) -> Iterator[Token]:
    """Yield the tokens but for clauses that forbid something, from an ``and`` before it on."""
    clause: list[Token] = []
    for token in tokens:
        if token.kind in {"comma", "stop"}:
            yield from _allowed(clause)
            clause = []
            yield token
        else:
            clause.append(token)
    yield from _allowed(clause)


def _allowed(clause: Sequence[Token]) -> Sequence[Token]:
    words = [token.text if token.kind == "word" else "" for token in clause]
    for at in range(len(words)):
        if _forbids(words, at):
            before = [place for place in range(at) if words[place] in _AND]
            return clause[: before[-1]] if before else ()
    return clause


def _forbids(words: Sequence[str], at: int) -> bool:
    word, before = words[at], words[at - 1] if at else ""
    if word == "one" and before == "no":
        return True
    return word in _NOBODY | _CANNOT or (word in {"not", "never"} and before in _MODALS)
