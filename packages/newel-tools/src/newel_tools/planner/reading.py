"""Where one is in a sentence, and which nouns it speaks about there."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from newel_tools.plan.fields import TYPE_WORDS
from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural, singular
from newel_tools.planner.cursor import Cursor
from newel_tools.planner.draft import Draft, DraftResource
from newel_tools.planner.lexicon import FIELD_PLURALS, STATE_WORDS
from newel_tools.planner.mentions import Mention, is_modifier, is_specification, read_mention
from newel_tools.planner.phrases import Phrase, is_feature, read_phrase
from newel_tools.planner.sentence import Span, split_items
from newel_tools.planner.vocabulary import vocabulary

__all__ = ["Reading"]

_VERBS: Final = frozenset(
    {"are", "is", "belong", "belongs", "can", "may", "must", "has", "have", "with", "should"}
)


class Reading:
    """The cursor, the draft, and the subjects: the resources that were named last.

    ``describing``: what follows are fields of the last subject. ``closed``: something was said
    about the subjects, so that the next noun begins anew. ``previous``: the subjects of the clause
    before. ``actor``: who was said to do something in this clause. ``featuring``: the list one is
    in names what every service has.
    """

    def __init__(self, cursor: Cursor, draft: Draft) -> None:
        self.cursor = cursor
        self.draft = draft
        self.subjects: list[str] = []
        self.previous: list[str] = []
        self.start: Span | None = None
        self.actor: Phrase | None = None
        self.named_at = -1
        self.describing = False
        self.closed = False
        self.featuring = False

    def reset(self) -> None:
        """Begin a new clause."""
        self.previous = self.subjects or self.previous
        self.subjects, self.start, self.describing, self.closed = [], None, False, False
        self.actor, self.featuring = None, False

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

    def things_follow(self) -> bool:
        """Tell whether a list of resources begins here, rather than one of fields."""
        here = self.cursor.position
        phrase = None if self.cursor.word() in STATE_WORDS else read_phrase(self.cursor)
        found = phrase is not None and self._are_things(phrase)
        self.cursor.position = here
        return found

    def add_mentions(self, name: str, span: Span, *, whole: bool = False) -> None:
        """Read the fields in a part of the sentence, and add them to a resource or to users.

        ``whole``: it is one field. ``required`` behind a comma belongs to the field before.
        """
        sentence = self.draft.ledger.sentence
        kept = self.draft.users if name == "users" else self.draft.resources[name].mentions
        items = [span] if whole else split_items(sentence, span)
        for at in range(len(items) - 1, 0, -1):
            if is_modifier(sentence[items[at].start : items[at].end]):
                items[at - 1 : at + 1] = [items[at - 1].to(items[at])]
        for item in items:
            mention = read_mention(sentence[item.start : item.end])
            if mention is None:
                continue
            if whole and not mention.type_text and self._is_field_of_each(mention.name):
                mention = replace(mention, name=singular(mention.name))
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

    def role(self, phrase: Phrase) -> str:
        """Return the words of a phrase, as they would name a role."""
        return "_".join(phrase.words)

    def _are_things(self, phrase: Phrase) -> bool:
        cursor = self.cursor
        last = phrase.words[-1]
        group = cursor.token() if cursor.kind() == "group" else None
        if cursor.kind() == "colon" and is_specification(cursor.word(1)):
            return False
        if is_feature(phrase, alone=False):
            return True
        if group is not None and is_specification(group.text):
            return False
        if not is_plural(last) and last != "users":
            return group is not None and self.draft.knows(snake(" ".join(phrase.words)))
        if group is not None or self.verb_follows():
            return not any(word in TYPE_WORDS for word in phrase.words[1:])
        known = vocabulary()
        name = snake(" ".join(phrase.words))
        is_field = self._is_field_of_each(name) or known.is_field(name)
        return last not in FIELD_PLURALS and (known.knows(name) or not is_field)

    def _is_field_of_each(self, name: str) -> bool:
        """Tell whether a plural is one field of each: ``cards with due dates``."""
        known, one = vocabulary(), singular(name)
        kept = known.knows(name) or self.draft.knows(name)
        return one != name and not kept and known.is_field(one) and known.line(one) != "url"

    def _account(self, mention: Mention, item: Span) -> None:
        """Note an item as understood, but for the words in it that mean nothing."""
        ledger = self.draft.ledger
        end = item.end
        for word in reversed(mention.unknown):
            at = ledger.sentence.rfind(word, item.start, end)
            if at > item.start:
                end = at
        ledger.understood(Span(start=item.start, end=end))
