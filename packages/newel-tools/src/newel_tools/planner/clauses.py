"""The clause one stands at, as text: what is said of events and jobs is read as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from newel_tools.plan.names import snake
from newel_tools.planner.lexicon import DETERMINERS
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import Span

__all__ = ["NAME", "Clause", "bare", "clauses_at", "name_of", "take"]

_BEGINNINGS: Final = frozenset(
    {"also", "and", "including", "or", "plus", "that", "then", "which", "with", "it"}
)
_NO_NAME: Final = (
    "a|all|an|and|are|as|at|be|been|belong|belongs|by|can|each|every|for|from|has|have|if|in|into|is|its|may|"
    "must|of|on|or|over|should|than|that|the|their|through|to|via|was|were|when|whenever|where|"
    "which|who|will|with"
)
NAME: Final = rf"(?!(?:{_NO_NAME})\b)[a-z][\w'-]*"
"""A regular expression for a word that names something."""

_LONGEST_NAME: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """Words from the position on: ``text`` is in lower case, ``span`` where it stands."""

    text: str
    span: Span
    tokens: int

    def part(self, start: int, end: int) -> Span:
        """Return where a part of the text stands in the sentence."""
        return Span(start=self.span.start + start, end=self.span.start + end)


def clauses_at(reading: Reading, *, over_commas: bool = False) -> Iterator[Clause]:
    """Yield what may be one statement, the longest first: up to a comma, a colon or an ``and``.

    Nothing in the middle of a clause.
    """
    cursor = reading.cursor
    begins = cursor.position == 0 or cursor.kind(-1) in {"comma", "stop", "colon"}
    if not begins and cursor.word(-1) not in _BEGINNINGS:
        return
    ends = {"stop"} if over_commas else {"stop", "comma"}
    count = 0
    cuts: list[int] = []
    while cursor.kind(count) not in ends:
        if count and (cursor.word(count) == "and" or cursor.kind(count) == "colon"):
            cuts.append(count)
        count += 1
    for tokens in (count, *reversed(cuts)):
        first, last = cursor.token(), cursor.token(tokens - 1)
        if first is None or last is None:
            return
        span = first.span.to(last.span)
        text = reading.draft.ledger.sentence[span.start : span.end].lower()
        if text.isascii():
            yield Clause(text=text, span=span, tokens=tokens)


def take(reading: Reading, clause: Clause, end: int) -> Span:
    """Take the tokens of a clause up to ``end`` of its text; return where they stand."""
    cursor = reading.cursor
    while (token := cursor.token()) is not None and token.span.start < clause.span.start + end:
        cursor.take()
    span = clause.span.to(cursor.last_span())
    reading.close(span)
    return span


def name_of(words: str) -> str:
    """Return words as a name in snake_case, without articles; empty when they give none."""
    kept = [w for w in re.findall(r"[\w']+", words) if w not in DETERMINERS | {"new", "per"}]
    name = snake(" ".join(word.removesuffix("'s") for word in kept))
    while len(name) > _LONGEST_NAME:
        name = name.rpartition("_")[0]
    return name if name[:1].isalpha() else ""


def bare(verb: str) -> str:
    """Return the verb of ``expires``, ``notifies`` and ``pushes`` as one says it to somebody."""
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if re.search(r"(ss|sh|ch|x|zz)es$", verb):
        return verb[:-2]
    return verb[:-1] if re.search(r"[^s]s$", verb) else verb
