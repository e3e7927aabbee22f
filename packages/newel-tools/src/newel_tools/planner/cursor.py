"""A reading position in a sentence's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from newel_tools.planner.sentence import Span, Token

__all__ = ["Cursor"]


class Cursor:
    """Reads tokens from left to right; ``position`` may be put back."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.position = 0

    @property
    def done(self) -> bool:
        """Whether there is nothing left."""
        return self.position >= len(self.tokens)

    def token(self, ahead: int = 0) -> Token | None:
        """Return a token without taking it."""
        at = self.position + ahead
        return self.tokens[at] if 0 <= at < len(self.tokens) else None

    def word(self, ahead: int = 0) -> str:
        """Return the word there; the empty string when it is no word."""
        token = self.token(ahead)
        return token.text if token is not None and token.kind == "word" else ""

    def kind(self, ahead: int = 0) -> str:
        """Return the kind of the token there; ``stop`` behind the end."""
        token = self.token(ahead)
        return "stop" if token is None else token.kind

    def take(self) -> Token:
        """Take the next token."""
        self.position += 1
        return self.tokens[self.position - 1]

    def back_to(self, span: Span) -> None:
        """Go back to the token that begins with ``span``."""
        while self.position and self.tokens[self.position - 1].span.start >= span.start:
            self.position -= 1

    def length(self, pattern: str, ahead: int = 0) -> int:
        """Return how many words match ``pattern`` here; 0 when they do not.

        A pattern is words; ``can|may`` is either, ``the?`` may be missing.
        """
        count = 0
        for part in pattern.split():
            if self.word(ahead + count) in part.rstrip("?").split("|") and self.word(ahead + count):
                count += 1
            elif not part.endswith("?"):
                return 0
        return count

    def match(self, pattern: str) -> Span | None:
        """Take the words that match ``pattern`` and return where they stood."""
        count = self.length(pattern)
        if not count:
            return None
        first = self.tokens[self.position].span
        self.position += count
        return first.to(self.tokens[self.position - 1].span)

    def last_span(self) -> Span:
        """Return where the token before the position stands."""
        return self.tokens[self.position - 1].span
