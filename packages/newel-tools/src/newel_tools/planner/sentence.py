"""A sentence as tokens that remember where they stood, and the account of which were understood."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from newel_tools.errors import PlanError
from newel_tools.plan.names import plain
from newel_tools.planner.lexicon import STOP_WORDS

__all__ = ["LONGEST_SENTENCE", "Kind", "Ledger", "Span", "Token", "split_items", "tokens_of"]

LONGEST_SENTENCE: Final = 10_000

Kind = Literal["word", "group", "comma", "stop", "colon", "sign"]

_OPEN: Final = {"(": ")", "[": "]", "{": "}"}
_TOKEN: Final = re.compile(
    r"(?P<word>[^\W\d_]\w*(?:['\u2019]\w+)?)"
    r"|(?P<sign><->|->|[<>]=|\d+(?:\.\d+)*\w*|\"[^\"\n]*\"|[^\s\w]|_+\w*)"
)
# written with a hyphen, and one word all the same
_ONE_WORD: Final = re.compile(
    r"\b(?:(e)-(commerce|mails?)|(to)-(dos?\b)|(check|log|sign)-(ins?|outs?|ups?)\b)", re.IGNORECASE
)
_AND: Final = re.compile(r"(?<!\d)\s(?:and|&)\s|\s(?:and|&)\s(?!\d)")  # not 'between 1 and 5'
_CONTENT: Final = re.compile(r"[^\W\d_][\w'\u2019]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of the sentence, by character."""

    start: int
    end: int

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of ``other``."""
        return Span(start=self.start, end=other.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word in lower case, a bracket with all that is in it, or a sign."""

    kind: Kind
    text: str
    span: Span


@dataclass(slots=True)
class Ledger:
    """Which content words of a sentence led to something."""

    sentence: str
    _understood: list[Span] = field(default_factory=list[Span])
    _lost: list[Span] = field(default_factory=list[Span])
    _elsewhere: dict[Span, str] = field(default_factory=dict[Span, str])

    def words(self, span: Span) -> str:
        """Return a part of the sentence as it was written, on one line."""
        return " ".join(self.sentence[span.start : span.end].split())

    def understood(self, span: Span) -> None:
        """Note that these words led to something."""
        self._understood.append(span)

    def lost(self, span: Span) -> None:
        """Note that these words, though understood, have no place in a plan."""
        self._lost.append(span)

    def elsewhere(self, span: Span, *, page: str) -> None:
        """Note that these words, though understood, are done by hand, as ``page`` shows."""
        self._elsewhere[span] = page
        self._understood.append(span)

    def coverage(self) -> float:
        """Return the share of the content words that were understood; 0 when there are none."""
        words = list(self._content())
        return sum(known for _, known in words) / len(words) if words else 0.0

    def missed(self) -> tuple[str, ...]:
        """Return the words that led to nothing, neighbours together, and where they may lead."""
        runs: list[Span] = []
        open_run = False
        for span, known in self._content():
            if known:
                open_run = False
                continue
            between = self.sentence[runs[-1].end : span.start] if open_run else ""
            if open_run and not re.search(r"[,;:()\[\]]", between):
                runs[-1] = runs[-1].to(span)
            else:
                runs.append(span)
            open_run = True
        said = {run.start: self.words(run) for run in runs}
        for span, page in self._elsewhere.items():
            said[span.start] = f"{self.words(span)} (no line of a plan: see {page})"
        return tuple(said[start] for start in sorted(said))

    def _content(self) -> Iterator[tuple[Span, bool]]:
        known = bytearray(len(self.sentence))
        for span in self._understood:
            known[span.start : span.end] = b"\1" * (span.end - span.start)
        for span in self._lost:
            known[span.start : span.end] = bytes(span.end - span.start)
        for found in _CONTENT.finditer(self.sentence):
            if found[0].lower() not in STOP_WORDS:
                yield Span(start=found.start(), end=found.end()), bool(known[found.start()])


def tokens_of(sentence: str) -> list[Token]:
    """Cut a sentence into tokens; ``PlanError`` for a bracket that is never closed."""
    tokens: list[Token] = []
    position = 0
    while found := _TOKEN.search(sentence, position):
        span = Span(start=found.start(), end=found.end())
        joined = _ONE_WORD.match(sentence, found.start())
        if joined:
            span = Span(start=joined.start(), end=joined.end())
            tokens.append(Token(kind="word", text=joined[0].replace("-", "").lower(), span=span))
        elif found["word"]:
            tokens.append(Token(kind="word", text=_bare(found["word"]), span=span))
        elif found[0] in _OPEN:
            span = Span(start=span.start, end=_closing(sentence, span.start) + 1)
            inner = sentence[span.start + 1 : span.end - 1]
            tokens.append(Token(kind="group", text=inner, span=span))
        elif token := _sign(sentence, found[0], span):
            tokens.append(token)
        position = span.end
    return tokens


def split_items(sentence: str, span: Span) -> list[Span]:
    """Cut what is in a bracket at its commas, semicolons, line ends and the last ``and``."""
    items: list[Span] = []
    start, position = span.start, span.start
    while position < span.end:
        letter = sentence[position]
        word = _AND.match(sentence, position, span.end)
        if letter in _OPEN:
            position = min(_closing(sentence, position), span.end - 1)
        elif letter == '"':
            close = sentence.find('"', position + 1, span.end)
            position = close if close > 0 else position
        elif letter in ",;\n" or word:
            items.append(Span(start=start, end=position))
            start = word.end() if word else position + 1
            position = start - 1
        position += 1
    items.append(Span(start=start, end=span.end))
    return [trimmed for item in items if (trimmed := _trim(sentence, item)) is not None]


def _trim(sentence: str, span: Span) -> Span | None:
    text = sentence[span.start : span.end]
    bare = text.strip().lstrip("-*\u2022 \t") if not text.strip().startswith("->") else text.strip()
    bare = re.sub(r"^and\s+", "", bare).rstrip(" .")
    if not bare:
        return None
    start = span.start + text.index(bare)
    return Span(start=start, end=start + len(bare))


def _sign(sentence: str, text: str, span: Span) -> Token | None:
    before = sentence[span.start - 1 : span.start]
    after = sentence[span.end : span.end + 1]
    kind: Kind = "sign"
    if text == "," or (text in "-*\u2022" and _starts_line(sentence, span.start)):
        kind = "comma"
    elif text == ";" or (text in ".!?" and not after.strip()):
        kind = "stop"
    elif text == ":" or (text in "-\u2013\u2014" and before.isspace() and after.isspace()):
        kind = "colon"
    elif text == "-" and before.isalnum() and after.isalnum():
        return None
    return Token(kind=kind, text=text, span=span)


def _starts_line(sentence: str, position: int) -> bool:
    return sentence[:position].rpartition("\n")[2].strip() == "" and position > 0


def _bare(word: str) -> str:
    return plain(re.sub(r"['\u2019]s?$", "", word.lower()))


def _closing(sentence: str, start: int) -> int:
    """Return where the bracket that opens at ``start`` is closed."""
    waiting: list[str] = []
    for position in range(start, len(sentence)):
        letter = sentence[position]
        if letter in _OPEN:
            waiting.append(_OPEN[letter])
        elif waiting and letter == waiting[-1]:
            waiting.pop()
            if not waiting:
                return position
    near = " ".join(sentence[start : start + 24].split())
    raise PlanError(
        f"the bracket in '{near}' is never closed",
        fix=f"add the '{_OPEN[sentence[start]]}'",
        word=near,
    )
