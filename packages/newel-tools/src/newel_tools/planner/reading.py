"""Where one is in a sentence, and which nouns it speaks about there."""

from __future__ import annotations

from typing import Final

from newel_tools.planner.cursor import Cursor
from newel_tools.planner.draft import Draft, DraftResource
from newel_tools.planner.lexicon import PEOPLE
from newel_tools.planner.mentions import Mention, read_mention
from newel_tools.planner.phrases import Phrase, noun_of, read_phrase
from newel_tools.planner.sentence import Span, split_items

__all__ = ["Reading"]

_VERBS: Final = frozenset(
    {"are", "is", "belong", "belongs", "can", "may", "must", "has", "have", "with", "should"}
)


class Reading:
    """The cursor, the draft, and the subjects: the resources that were named last.

    ``describing``: what follows are fields of the last subject. ``closed``: something was said
    about the subjects, so that the next noun begins anew. ``previous``: the subjects of the clause
    before. ``featuring``: the list one is in names what every service has.
    """

    def __init__(self, cursor: Cursor, draft: Draft) -> None:
        self.cursor = cursor
        self.draft = draft
        self.subjects: list[str] = []
        self.previous: list[str] = []
        self.start: Span | None = None
        self.named_at = -1
        self.describing = False
        self.closed = False
        self.featuring = False

    def reset(self) -> None:
        """Begin a new clause."""
        self.previous = self.subjects or self.previous
        self.subjects, self.start, self.describing, self.closed = [], None, False, False
        self.featuring = False

    def close(self, span: Span | None = None) -> None:
        """Note that something was said about the subjects, in these words."""
        if span is not None:
            self.draft.ledger.understood(span)
        self.describing, self.closed = False, True

    def name(self, noun: str, span: Span) -> str:
        """Make a noun a subject, together with those before it in the same list."""
        self.draft.ledger.understood(span)
        name = "users" if noun == "users" else self.draft.add(noun, span).name
        if self.closed or name in self.subjects or not self.subjects:
            self.subjects, self.start = [], span
        self.subjects.append(name)
        self.named_at = self.cursor.position
        self.closed = False
        return name

    def resources(self) -> list[DraftResource]:
        """Return the subjects but users."""
        return [self.draft.resources[name] for name in self.subjects if name != "users"]

    def take_up(self) -> None:
        """Go on about the clause before: ``posts (title); owned by users``."""
        if not self.subjects:
            self.subjects = self.previous

    def nearest(self) -> list[DraftResource]:
        """Return what a participle without a comma is about: the last, or both of a bare pair."""
        found = self.resources()
        bare = not any(resource.mentions for resource in found)
        return found if len(found) == 2 and bare else found[-1:]

    def from_subject(self, verb: Span) -> Span:
        """Return where a statement begins whose verb follows its subjects."""
        return (self.start or verb).to(verb)

    def verb_follows(self) -> bool:
        """Tell whether a verb stands here, so that the noun before it begins something new."""
        return self.cursor.word() in _VERBS

    def add_mentions(self, name: str, span: Span) -> None:
        """Read the fields in a part of the sentence, and add them to a resource or to users."""
        sentence = self.draft.ledger.sentence
        kept = self.draft.users if name == "users" else self.draft.resources[name].mentions
        for item in split_items(sentence, span):
            mention = read_mention(sentence[item.start : item.end])
            if mention is None:
                continue
            kept.append((mention, item))
            self._account(mention, item)

    def group(self, name: str) -> bool:
        """Take a bracket behind a noun as its fields."""
        token = self.cursor.token()
        if token is None or token.kind != "group":
            return False
        self.cursor.take()
        self.add_mentions(name, Span(start=token.span.start + 1, end=token.span.end - 1))
        return True

    def objects(self) -> list[str]:
        """Take the list of resources that a verb is about: the subjects for ``them`` or nothing."""
        names: list[str] = []
        cursor = self.cursor
        if cursor.match("them|it") and self._ends():
            self.take_up()
            return list(self.subjects)
        if cursor.match("everything|all") and self._ends():
            return list(self.subjects)
        while True:
            here = cursor.position
            if names and not (cursor.kind() == "comma" or cursor.word() in {"and", "or"}):
                break
            if names:
                cursor.take()
            phrase = read_phrase(cursor)
            noun = noun_of(phrase, self.draft, singular_too=False) if phrase else None
            if phrase is None or noun is None or (names and self._begins_anew(phrase)):
                cursor.position = here
                break
            names.append("users" if noun == "users" else self.draft.add(noun, phrase.span).name)
        return names

    def role(self, phrase: Phrase) -> str:
        """Return the words of a phrase, as they would name a role."""
        return "_".join(phrase.words)

    def _begins_anew(self, phrase: Phrase) -> bool:
        """Tell whether a phrase is what somebody does: ``and editors review posts``."""
        who, *rest = phrase.words
        return self.verb_follows() or (len(rest) > 1 and PEOPLE.fullmatch(who) is not None)

    def _ends(self) -> bool:
        return self.cursor.kind() != "word" or self.cursor.word() in {"and", "but"}

    def _account(self, mention: Mention, item: Span) -> None:
        """Note an item as understood, but for the words in it that mean nothing."""
        ledger = self.draft.ledger
        end = item.end
        for word in reversed(mention.unknown):
            at = ledger.sentence.rfind(word, item.start, end)
            if at > item.start:
                end = at
        ledger.understood(Span(start=item.start, end=end))
