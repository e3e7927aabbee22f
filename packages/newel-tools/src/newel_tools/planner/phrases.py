"""The noun phrases of a sentence: which words belong together, and what they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural
from newel_tools.planner.cursor import Cursor
from newel_tools.planner.draft import Draft
from newel_tools.planner.lexicon import (
    ADJECTIVES,
    AMBIGUOUS,
    BREAKS,
    DETERMINERS,
    FEATURE_PARTS,
    FEATURES,
    STATE_WORDS,
    TECHNOLOGY,
)
from newel_tools.planner.sentence import Span
from newel_tools.planner.vocabulary import vocabulary

__all__ = ["MARKS", "Phrase", "is_feature", "noun_of", "read_phrase"]

MARKS: Final = frozenset({"public", "private", "personal", "shared", "moderated", "soft"})
"""Adjectives that say something of a resource; ``soft`` is short for soft deleted."""

_NAMES_OF_SERVICES: Final = frozenset({"api", "apis", "app", "backend", "microservice"})
_LONGEST: Final = 3
_COUNTS: Final = frozenset(
    {"details", "data", "features", "functions", "info", "information", "fields"}
    | {"mondays", "tuesdays", "wednesdays", "thursdays", "fridays", "saturdays", "sundays"}
    | {"weekdays", "weekends"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Words that belong together. ``marks`` are adjectives that say something of a resource."""

    words: tuple[str, ...]
    span: Span
    marks: tuple[tuple[str, Span], ...] = ()


def read_phrase(cursor: Cursor, *, until: frozenset[str] = frozenset()) -> Phrase | None:
    """Take the noun phrase at the cursor; ``None``, and nothing taken, when there is none.

    It ends where something else begins, and before the words ``until``.
    """
    start = cursor.position
    marks: list[tuple[str, Span]] = []
    while cursor.word() in DETERMINERS | ADJECTIVES | MARKS:
        if soft := cursor.match("soft deleted"):
            marks.append(("soft", soft))
            continue
        if cursor.word() == "soft":
            break
        token = cursor.take()
        if token.text in MARKS:
            marks.append((token.text, token.span))
    words: list[str] = []
    first: Span | None = None
    while (word := cursor.word()) and word not in BREAKS | STATE_WORDS | until:
        if cursor.length("soft deleted"):
            break
        first = first or cursor.tokens[cursor.position].span
        words.append(cursor.take().text)
    if first is None:
        cursor.position = start
        return None
    span = first.to(cursor.last_span())
    while len(words) > 1 and words[-1] in _NAMES_OF_SERVICES:
        words.pop()  # "private notes API" is about notes
    return Phrase(words=tuple(words), span=span, marks=tuple(marks))


def is_feature(phrase: Phrase, *, alone: bool, sure: bool = False) -> bool:
    """Tell whether a phrase names what every service has.

    ``alone``: nothing is being described, so that ``roles`` can only be the service's; ``sure``:
    the list has named such things before.
    """
    words = [w for w in phrase.words if w not in ADJECTIVES]
    if not all(w in FEATURE_PARTS for w in words):
        return False
    if len(words) == 1 and words[0] in AMBIGUOUS:
        return sure
    return alone or sure or any(w in FEATURES for w in words)


def noun_of(phrase: Phrase, draft: Draft, *, singular_too: bool) -> str | None:
    """Return the resource a phrase names, in snake_case; ``None`` when it names none.

    The plural of any noun is one; a single thing only when ``singular_too`` and it is known.
    """
    words = phrase.words[-_LONGEST:] if len(phrase.words) > _LONGEST else phrase.words
    noun = snake(" ".join(words))
    if not " ".join(words).isascii() or words[-1] in _COUNTS or TECHNOLOGY & set(words):
        return None
    if noun in {"user", "users"}:
        return "users"
    if is_plural(noun):
        return noun
    known = draft.knows(noun) or vocabulary().knows(noun)
    return noun if singular_too and known else None
