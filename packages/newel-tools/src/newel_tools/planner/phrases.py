"""The noun phrases of a sentence: which words belong together, and what they name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural
from newel_tools.plan.verbs import is_participle, is_verb
from newel_tools.planner.cursor import Cursor
from newel_tools.planner.draft import Draft
from newel_tools.planner.lexicon import (
    ADJECTIVES,
    AMBIGUOUS,
    BREAKS,
    DETERMINERS,
    FEATURE_PARTS,
    FEATURES,
    MASS_PLURALS,
    QUALITIES,
    STATE_WORDS,
    TECHNOLOGY,
)
from newel_tools.planner.sentence import Span, Token
from newel_tools.planner.vocabulary import vocabulary

__all__ = ["MARKS", "Phrase", "head_of", "is_feature", "noun_of", "read_phrase"]

MARKS: Final = frozenset({"public", "private", "personal", "shared", "moderated", "soft"})
"""Adjectives that say something of a resource; ``soft`` is short for soft deleted."""

_NAMES_OF_SERVICES: Final = frozenset({"api", "apis", "app", "backend", "microservice"})
_LONGEST: Final = 3
_COUNTS: Final = frozenset(
    {"details", "data", "features", "functions", "info", "information", "fields"}
    | {"mondays", "tuesdays", "wednesdays", "thursdays", "fridays", "saturdays", "sundays"}
    | {"weekdays", "weekends", "seconds", "minutes", "hours", "days", "weeks", "months", "years"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Words that belong together. ``marks`` are adjectives that say something of a resource."""

    words: tuple[str, ...]
    span: Span
    marks: tuple[tuple[str, Span], ...] = ()
    spans: tuple[Span, ...] = ()

    def named(self) -> Span:
        """Return where the last words stand, which a name is made of; what is before is none."""
        return self.spans[-_LONGEST].to(self.span) if len(self.words) > _LONGEST else self.span


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
    tokens: list[Token] = []
    while (word := cursor.word()) and word not in BREAKS | until:
        if word in STATE_WORDS and (tokens or not is_plural(word)):
            break
        if cursor.length("soft deleted"):
            break
        tokens.append(cursor.take())
    if not tokens:
        cursor.position = start
        return None
    span = tokens[0].span.to(tokens[-1].span)
    while len(tokens) > 1 and tokens[-1].text in _NAMES_OF_SERVICES:
        tokens.pop()  # "private notes API" is about notes
    return Phrase(
        words=tuple(token.text for token in tokens),
        span=span,
        marks=tuple(marks),
        spans=tuple(token.span for token in tokens),
    )


def head_of(cursor: Cursor, phrase: Phrase) -> Phrase:
    """Cut ``documents synced from`` behind its plural: no name goes on in the singular."""
    words = phrase.words
    for at, word in enumerate(words[:-1]):
        if is_plural(word) and word not in MASS_PLURALS and not is_plural(words[-1]):
            spans = phrase.spans[: at + 1]
            cursor.back_to(phrase.spans[at + 1])
            return replace(phrase, words=words[: at + 1], span=spans[0].to(spans[-1]), spans=spans)
    return phrase


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


def _is_quality(word: str) -> bool:
    """Tell whether a word says in which state something is, rather than of what kind."""
    return is_participle(word) or word in QUALITIES or (word.endswith("ed") and len(word) > _SHORT)


def _ends_name(word: str, after: str) -> bool:
    """Tell whether a plural is followed by what can only be said of it."""
    return is_plural(word) and word not in MASS_PLURALS and not is_plural(after)


_SHORT: Final = 4  # "bed frames", "seed banks"


def noun_of(phrase: Phrase, draft: Draft, *, singular_too: bool) -> str | None:
    """Return the resource a phrase names, in snake_case; ``None`` when it names none.

    The plural of any noun is one; a single thing only when ``singular_too`` and it is known.
    ``approved documents`` are documents, where there are documents; ``users create lists`` name
    nothing.
    """
    words = phrase.words[-_LONGEST:] if len(phrase.words) > _LONGEST else phrase.words
    while len(words) > 1 and _is_quality(words[0]) and draft.knows("_".join(words[1:])):
        if draft.knows("_".join(words)):
            break
        words = words[1:]
    noun = snake(" ".join(words))
    if any(_ends_name(*pair) for pair in pairwise(words)):
        return None
    if not " ".join(words).isascii() or phrase.words[-1] in _COUNTS or TECHNOLOGY & set(words):
        return None
    if noun in {"user", "users"}:
        return "users"
    if noun.endswith("_users") and is_verb(noun.partition("_")[0]):
        return None  # "activate users"
    if is_plural(noun):
        return noun
    known = draft.knows(noun) or vocabulary().knows(noun)
    return noun if singular_too and known else None
