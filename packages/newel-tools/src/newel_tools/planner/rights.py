"""Reads who may do what: ``posts are public``, ``editors can write posts``."""

from __future__ import annotations

from typing import Final

from newel_tools.plan.nouns import singular
from newel_tools.planner.draft import Grant
from newel_tools.planner.lexicon import EVERYONE, MODERATE_VERBS, PEOPLE, READ_VERBS, WRITE_VERBS
from newel_tools.planner.phrases import Phrase, read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import Span

__all__ = ["allowed", "does", "everyone_reads", "granted", "is_so", "mark", "visible"]

_READS: Final = "|".join(sorted(READ_VERBS))
_EVERYONE: Final = "|".join(sorted(EVERYONE))
_VERBS: Final = READ_VERBS | WRITE_VERBS | MODERATE_VERBS


def everyone_reads(reading: Reading) -> bool:
    """``everyone can read posts``."""
    start = reading.cursor.match(f"{_EVERYONE} can|may {_READS}") or reading.cursor.match(
        f"the? public can|may {_READS}"
    )
    if start is None:
        return False
    names = reading.objects()
    _publish(reading, names, start.to(reading.cursor.last_span()))
    return True


def visible(reading: Reading) -> bool:
    """``are visible to everyone``, ``publicly readable``."""
    cursor = reading.cursor
    span = (
        cursor.match(
            f"are|is? visible|readable|accessible|open|available to|by|for all|{_EVERYONE}"
        )
        or cursor.match("are|is? visible|readable|accessible|open|available to|by|for the public")
        or cursor.match("are|is? publicly visible|readable|accessible|available")
    )
    if span is None:
        return False
    _publish(reading, reading.subjects, reading.from_subject(span))
    return True


def allowed(reading: Reading) -> bool:
    """``lets users create tasks``."""
    cursor = reading.cursor
    start = cursor.match("that|which? lets|let|allows|allow|allowing|letting")
    if start is None:
        return False
    who = read_phrase(cursor, until=_VERBS)
    cursor.match("to")
    if who is not None and cursor.word() in _VERBS:
        _grant(reading, who, start)
    return True


def granted(reading: Reading, who: Phrase) -> bool:
    """``editors can write posts``: the cursor stands at ``can``."""
    cursor = reading.cursor
    if cursor.word(1) not in _VERBS or not cursor.match("can|may"):
        return False
    _grant(reading, who, who.span)
    return True


def does(reading: Reading) -> bool:
    """``users upload photos``, ``admins manage users``, ``viewers only read``: without a ``can``.

    It is never the name of something to keep. What the verb means when it is none of ours, as in
    ``users rate books``, is not understood; its object is.
    """
    cursor = reading.cursor
    here = cursor.position
    who = read_phrase(cursor, until=_VERBS)
    cursor.match("only")
    if who is None or not PEOPLE.fullmatch(who.words[0 if who.words[0] == "users" else -1]):
        cursor.position = here
        return False
    if len(who.words) > 1 and who.words[0] == "users":
        cursor.position = here + 2
        return True
    if cursor.word() not in _VERBS or reading.draft.knows(reading.role(who)):
        cursor.position = here
        return False
    _grant(reading, who, who.span)
    return True


def is_so(reading: Reading) -> bool:
    """``are moderated``, ``is public``, ``are soft deleted``."""
    cursor = reading.cursor
    here = cursor.position
    if not cursor.match("that|which? are|is|be"):
        return False
    start = cursor.last_span()
    word = "soft" if cursor.match("soft deleted|delete") else cursor.word()
    if word != "soft" and word in {"moderated", "public", "private", "personal", "shared"}:
        cursor.take()
    elif word != "soft":
        cursor.position = here
        return False
    span = reading.from_subject(start.to(cursor.last_span()))
    if word == "moderated":
        span = _moderators(reading, span)
    if tail := cursor.match("to|for|by|between the|their|its|each|all? owner|owners|user|users"):
        span = span.to(tail)
    mark(reading, word, span)
    reading.close(span if reading.resources() else None)
    return True


def mark(reading: Reading, word: str, span: Span) -> None:
    """Note an adjective of the subjects."""
    for resource in reading.resources():
        if word == "moderated":
            resource.moderated = span
        elif word == "public":
            resource.read = ("public", span)
        elif word == "shared":
            resource.shared = span
        elif word == "soft":
            resource.soft_delete = span
        else:
            resource.owner = resource.owner or span
            resource.read = ("owner", span)


def _moderators(reading: Reading, span: Span) -> Span:
    """Read ``by editors`` behind ``are moderated``."""
    here = reading.cursor.position
    if not reading.cursor.match("by"):
        return span
    who = read_phrase(reading.cursor)
    if who is None:
        reading.cursor.position = here
        return span
    whole = span.to(who.span)
    for resource in reading.resources():
        role = singular(reading.role(who))
        reading.draft.grants.append(
            Grant(role=role, verb="moderate", target=resource.name, span=whole)
        )
    return whole


def _publish(reading: Reading, names: list[str], span: Span) -> None:
    """Note that anyone reads these resources; all there are when none is named."""
    if not names:
        reading.draft.all_public = span
    for name in names:
        if name != "users":
            reading.draft.resources[name].read = ("public", span)
    reading.subjects = list(names) or reading.subjects
    reading.close(span)


def _grant(reading: Reading, who: Phrase, start: Span) -> None:
    """Read verbs and objects; users who write something own it."""
    cursor = reading.cursor
    verbs: set[str] = set()
    while cursor.word() in _VERBS | {"and", "or"} or cursor.kind() == "comma":
        verbs.add(cursor.take().text)
    names = reading.objects()
    role = singular(reading.role(who))
    if not names or reading.draft.knows(role):
        return
    span = start.to(cursor.last_span())
    for name in names:
        if name != "users":
            _grant_one(reading, role, verbs, name, span)
    reading.subjects = names
    reading.close(span)


def _grant_one(reading: Reading, role: str, verbs: set[str], name: str, span: Span) -> None:
    resource = reading.draft.resources[name]
    grants = reading.draft.grants
    if role.rpartition("_")[2] in {"user", "person", "everyone", "anyone"}:
        if verbs & WRITE_VERBS:
            resource.owner = span
        return
    if role in {"admin", "administrator"}:
        return
    if verbs & MODERATE_VERBS:
        resource.moderated = span
        grants.append(Grant(role=role, verb="moderate", target=name, span=span))
    if verbs & WRITE_VERBS:
        grants.append(Grant(role=role, verb="write", target=name, span=span))
    elif verbs & READ_VERBS:
        grants.append(Grant(role=role, verb="read", target=name, span=span))
