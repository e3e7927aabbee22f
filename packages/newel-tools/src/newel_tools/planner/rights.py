"""Reads who may do what: ``posts are public``, ``editors can write posts``."""

from __future__ import annotations

from typing import Final

from newel_tools.plan.nouns import singular
from newel_tools.planner.draft import Grant
from newel_tools.planner.lexicon import EVERYONE, MODERATE_VERBS, READ_VERBS, WRITE_VERBS
from newel_tools.planner.phrases import read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import Span

__all__ = ["grant", "is_so", "mark", "publish", "visible"]

_ANYONE: Final = frozenset({"anyone", "everyone", "person", "user"})
_EVERYONE: Final = "|".join(sorted(EVERYONE))


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
    publish(reading, reading.subjects, reading.from_subject(span))
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


def publish(reading: Reading, names: list[str], span: Span) -> None:
    """Note that anyone reads these resources; all there are when none is named."""
    if not names:
        reading.draft.all_public = span
    for name in names:
        if name != "users":
            reading.draft.resources[name].read = ("public", span)
    reading.subjects = list(names) or reading.subjects
    reading.close(span)


def grant(reading: Reading, role: str, verbs: set[str], names: list[str], span: Span) -> None:
    """Note who may do what to these resources; users who write something own it."""
    for name in names:
        _grant_one(reading, role, verbs, name, span)


def _grant_one(reading: Reading, role: str, verbs: set[str], name: str, span: Span) -> None:
    resource = reading.draft.resources[name]
    grants = reading.draft.grants
    if role in {"author", "creator", "owner"} or role.rpartition("_")[2] in _ANYONE:
        if verbs & WRITE_VERBS:
            resource.owner = span
        return
    if verbs & MODERATE_VERBS:
        resource.moderated = span
        grants.append(Grant(role=role, verb="moderate", target=name, span=span))
    if role in {"admin", "administrator"}:
        return
    if verbs & WRITE_VERBS:
        grants.append(Grant(role=role, verb="write", target=name, span=span))
    elif verbs & READ_VERBS:
        grants.append(Grant(role=role, verb="read", target=name, span=span))
