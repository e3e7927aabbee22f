"""Wishes for what newel brings: chats and files, and what a plan has no words for.

They are taken out before anything is read, so that ``file uploads`` are no table and
``multi-tenant`` is no part of a name. Those without words are listed with the page that shows how.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from newel_tools.planner.draft import Draft
from newel_tools.planner.lexicon import ADJECTIVES, DETERMINERS, LEADS
from newel_tools.planner.sentence import Span, Token

__all__ = ["set_aside"]

_FILE: Final = r"(?:avatar|cv|document|file|image|invoice|logo|photo|picture|receipt|resume|video)"
_OWN: Final = r"(?:only\s+)?(?:has|sees)\s+(?:only\s+)?(?:its|their)\s+own\s+data"
_PAGES: Final = {
    "scope": (
        r"multi-?\s?ten(?:ant|ants|ancy)",
        r"tenant isolation",
        rf"(?:each|every)\s+\w+\s+{_OWN}",
    ),
    "files": (
        rf"(?:(?:and|with)\s+)?(?:multiple\s+)?{_FILE}s?\s+(?:uploads?|attachments?)",
        rf"uploads?\s+of\s+{_FILE}s?|uploads|attachments",
        r"(?:upload|attach|shar)(?:e|ing)?\s+files?",
        r"file\s+sharing",
    ),
    "images": (r"thumbnails", r"image\s+(?:resizing|processing)"),
    "chat": (
        r"(?:live|group|web-?socket|real-?\s?time|private|one-(?:to|on)-one)\s+(?P<chat>chats?)",
        r"(?P<chat>chats?)\s+(?:messages|over\s+web-?sockets?)",
        r"chat\s+rooms?",
        r"(?:with|and|plus)\s+(?:an?\s+)?chat(?=\s*(?:and\b|[,;.]|$))",
        r"real-?\s?time\s+messaging",
        r"(?:live|real-?\s?time)(?=\s+messages)",
    ),
    "rooms": (
        r"(?:(?:over|via|using|with|by|through)\s+)?web-?sockets?",
        r"real-?\s?time(?:\s+(?:updates|notifications))?",
        r"server-sent\s+events",
        r"live\s+(?:updates|notifications)",
        r"push\s+notifications",
    ),
    "cache": (r"cach(?:e|es|ed|ing)(?:\s+layer|\s+with\s+redis)?", r"redis\s+cach(?:e|ing)"),
    "versions": (r"(?:api\s+)?versioning", r"api\s+versions"),
    "jobs": (r"background\s+(?:task|job)s?(?=\s+and\b|\s*(?:[,;.]|$))",),
    "job_routes": (r"(?:(?:job|task)\s+ids?\s+)?polling",),
    "events": (r"(?:audit|activity)\s+(?:logs?|trails?)",),
    "metrics": (r"metrics", r"prometheus"),
    "telemetry": (r"(?:distributed\s+)?tracing", r"open-?telemetry"),
    "idempotency": (r"idempotency(?:\s+keys?)?",),
}
_WISHES: Final = tuple(
    (re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE), page)
    for page, patterns in _PAGES.items()
    for words in patterns
)


_SOCKETS: Final = re.compile(r".*web-?sockets?", re.IGNORECASE)
_TALK: Final = re.compile(r"\b(?:chats?|messages|messaging)\b", re.IGNORECASE)
_MESSAGES: Final = re.compile(r"\bmessages\b", re.IGNORECASE)


def set_aside(draft: Draft, tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens that are left to read; note who wishes for what newel brings."""
    sentence, taken = draft.ledger.sentence, list[Span]()
    for pattern, wish in _WISHES:
        for found in pattern.finditer(sentence):
            span = _span_of(found)
            if not any(other.start < span.end and span.start < other.end for other in taken):
                _note(draft, span, wish)
                if not _is_kept(found[0], sentence):
                    taken.append(span)
    for token in tokens:
        if not any(span.start <= token.span.start < span.end for span in taken):
            yield token


def _span_of(found: re.Match[str]) -> Span:
    """Return what is taken: of ``a live chat API`` the ``live`` alone, as the rest is the topic."""
    start, end = found.span()
    before = re.findall(r"\w+", found.string[:start].lower())
    if found.groupdict().get("chat") and set(before) <= LEADS | DETERMINERS | ADJECTIVES:
        first, last = found.span("chat")
        start, end = (start, first) if first > start else (last, end)
    return Span(start=start, end=end)


def _is_kept(words: str, sentence: str) -> bool:
    """Tell whether they are rows, too: ``chat rooms`` where there are messages to be in them."""
    rooms = "room" in words.lower() and bool(_MESSAGES.search(sentence))
    return rooms or words.lower() == "attachments"


def _note(draft: Draft, span: Span, wish: str) -> None:
    words = draft.ledger.words(span)
    if wish == "chat" or (_SOCKETS.fullmatch(words) and _TALK.search(draft.ledger.sentence)):
        draft.chat = draft.chat or span
    elif wish == "files":
        draft.files = draft.files or span
    else:
        draft.ledger.elsewhere(span, page=f"docs/{wish}.md")
    draft.ledger.understood(span)
