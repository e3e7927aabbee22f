"""Wishes that a plan has no words for although newel fulfils them: they are listed with their page.

They are taken out before anything is read, so that ``file uploads`` are no table and
``multi-tenant`` is no part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from newel_tools.planner.sentence import Ledger, Span, Token

__all__ = ["set_aside"]

_FILE: Final = r"(?:avatar|cv|document|file|image|invoice|logo|photo|picture|receipt|resume|video)"
_OWN: Final = r"(?:only\s+)?(?:has|sees)\s+(?:only\s+)?(?:its|their)\s+own\s+data"
_PAGES: Final = {
    "scope": (
        r"multi-?\s?ten(?:ant|ants|ancy)",
        r"tenant isolation",
        rf"(?:each|every)\s+\w+\s+{_OWN}",
    ),
    "file_routes": (
        rf"(?:(?:and|with)\s+)?(?:multiple\s+)?{_FILE}s?\s+uploads?",
        rf"uploads(?:\s+of\s+{_FILE}s)?",
        r"upload(?:ing)?\s+files?",
    ),
    "images": (r"thumbnails", r"image\s+(?:resizing|processing)"),
    "chat": (
        r"(?:live|group|web-?socket)\s+chats?",
        r"chat\s+(?:rooms?|messages|over\s+web-?sockets?)",
    ),
    "rooms": (
        r"web-?sockets?",
        r"real-?\s?time(?:\s+(?:updates|notifications|messages|messaging))?",
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


def set_aside(ledger: Ledger, tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens that are left to read; note what stands elsewhere, and on which page."""
    taken: list[Span] = []
    for pattern, page in _WISHES:
        for found in pattern.finditer(ledger.sentence):
            span = Span(start=found.start(), end=found.end())
            if not any(other.start < span.end and span.start < other.end for other in taken):
                taken.append(span)
                ledger.elsewhere(span, page=f"docs/{page}.md")
    for token in tokens:
        if not any(span.start <= token.span.start < span.end for span in taken):
            yield token
