"""Reads how a sentence begins: what is to be built, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural, plural, singular
from newel_tools.planner.deeds import ONE, verb_inside
from newel_tools.planner.lexicon import (
    ADJECTIVES,
    API_NOUNS,
    BREAKS,
    DETERMINERS,
    FEATURE_PARTS,
    FEATURES,
    LEADS,
    LISTED_AS,
    MANAGEMENT,
)
from newel_tools.planner.phrases import MARKS, is_feature, read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import Span, Token
from newel_tools.planner.vocabulary import vocabulary

__all__ = ["read_header"]

_MANAGES: Final = frozenset(
    {"handle", "handling", "keep", "keeping", "manage", "managing", "organise", "organising"}
    | {"organize", "organizing", "record", "recording", "store", "storing", "track", "tracking"}
)
_MANAGED: Final = frozenset({"handles", "keeps", "manages", "records", "stores", "tracks"})
_ABOUT: Final = frozenset({"about", "around", "for", "of"})
_PEOPLE: Final = frozenset({"account", "accounts", "identity", "login", "user", "users"})
_LONGEST_TOPIC: Final = 4


@dataclass(slots=True)
class _Head:
    """The words that say what is built."""

    topic: list[Token] = field(default_factory=list[Token])
    is_service: bool = False

    @property
    def words(self) -> list[str]:
        return [token.text for token in self.topic]

    @property
    def thing(self) -> list[str]:
        """The topic without management and the like."""
        kept = [w for w in self.words if w not in MANAGEMENT and w not in {"tracking", "handling"}]
        return kept or []

    @property
    def span(self) -> Span:
        return self.topic[0].span.to(self.topic[-1].span)


def read_header(reading: Reading) -> None:
    """Take the words before the first list, and note the topic and what it usually keeps."""
    head = _Head()
    while _take_word(reading, head):
        pass
    if not head.topic or _back_off(reading, head):
        return
    reading.draft.topic = reading.draft.ledger.words(head.span)
    _take_place(reading)
    _judge(reading, head)


def _take_place(reading: Reading) -> None:
    """Take ``for a hotel`` behind the topic: it says where, and names nothing to keep."""
    here = reading.cursor.position
    if reading.cursor.match("for|in|of a|an|the|my|our"):
        phrase = read_phrase(reading.cursor)
        if phrase is not None and not is_plural(phrase.words[-1]) and len(phrase.words) <= 3:
            reading.draft.ledger.understood(phrase.span)
            return
    reading.cursor.position = here


def _take_word(reading: Reading, head: _Head) -> bool:
    """Take one word of the beginning; false where it ends."""
    cursor, ledger = reading.cursor, reading.draft.ledger
    word = cursor.word()
    nothing_yet = not head.thing
    if cursor.kind() == "comma" and nothing_yet and cursor.position:
        cursor.take()  # "a simple, secure blog"
        return True
    if not word or (word in MARKS and word != "public" and nothing_yet):
        return False
    said_before = word in LEADS | DETERMINERS | ADJECTIVES | _ABOUT or _is_praise(reading)
    if word in API_NOUNS and not _is_thing(reading, head):
        head.is_service = True
    elif word == "to" and nothing_yet and cursor.word(1) in LEADS:
        pass  # "I want to build an API"
    elif word == "public" and nothing_yet:
        reading.draft.all_public = cursor.tokens[cursor.position].span
    elif nothing_yet and said_before:
        reading.draft.features = reading.draft.features or word in FEATURES
    elif _is_purpose(reading, nothing_yet=nothing_yet) or (
        nothing_yet and head.is_service and word in _MANAGED
    ):
        return _take_purpose(reading)
    elif word in BREAKS or (cursor.kind(1) == "colon" and word in LISTED_AS):
        return False
    else:
        head.topic.append(cursor.take())
        return True
    ledger.understood(cursor.take().span)
    return True


def _is_purpose(reading: Reading, *, nothing_yet: bool) -> bool:
    """Tell whether ``to manage``, ``that tracks`` or ``managing`` stands here."""
    word, after = reading.cursor.word(), reading.cursor.word(1)
    if word in {"to", "that", "which", "for"}:
        return after in _MANAGES or (word in {"that", "which"} and after in _MANAGED)
    return word in _MANAGES and nothing_yet and bool(after)


def _take_purpose(reading: Reading) -> bool:
    """Take ``to manage``; nouns follow."""
    start = reading.cursor.take().span
    if reading.cursor.word() in _MANAGES | _MANAGED:
        start = start.to(reading.cursor.take().span)
    reading.draft.ledger.understood(start)
    return False


def _is_thing(reading: Reading, head: _Head) -> bool:
    """Tell whether a word such as ``project`` is what the service is about: a list goes on."""
    cursor = reading.cursor
    word = cursor.word()
    listed = cursor.word(1) == "and" or cursor.kind(1) in {"comma", "group"}
    if word in {"project", "projects", "program", "service", "services", "application"}:
        return cursor.word(1) in MANAGEMENT | {"tracking"} or (
            is_plural(word) and (listed or not head.topic)
        )
    return is_plural(word) and listed and word not in {"apis", "endpoints"}


def _is_praise(reading: Reading) -> bool:
    """Tell whether a feature stands where an adjective would: ``a FastAPI service``."""
    cursor = reading.cursor
    word, after = cursor.word(), cursor.word(1)
    return word in FEATURES and bool(after) and after not in BREAKS and after not in MANAGEMENT


def _back_off(reading: Reading, head: _Head) -> bool:
    """Leave the first noun to the statements where a list of nouns begins with it."""
    cursor = reading.cursor
    last = head.words[-1]
    listed = cursor.word() == "and" or cursor.kind() in {"comma", "group"}
    if len(head.topic) > _LONGEST_TOPIC or not "".join(head.words).isascii():
        return True
    if cursor.kind() == "group" and last in _PEOPLE and len(head.words) == 1:
        listed = True
    if cursor.word() in {"can", "may"} and last not in API_NOUNS:
        cursor.back_to(head.topic[0].span)
        return True
    if not head.is_service and _is_clause(reading, head):
        return True
    if cursor.tokens[cursor.position - 1] is not head.topic[-1]:
        return False  # "posts API, ...": the list comes after the service's own words
    if listed and (is_plural(last) or cursor.kind() == "group") and last not in API_NOUNS:
        cursor.back_to(head.topic[0].span)
        return True
    return False


def _is_clause(reading: Reading, head: _Head) -> bool:
    """Go back to the topic where somebody does something in it: ``students enrol in courses``."""
    cursor = reading.cursor
    here = cursor.position
    cursor.back_to(head.topic[0].span)
    if cursor.word(-1) in ONE:
        cursor.position -= 1
    begins = cursor.position
    found = verb_inside(reading)
    cursor.position = begins if found else here
    return found


def _judge(reading: Reading, head: _Head) -> None:
    """Note what a service of that name is about."""
    draft = reading.draft
    noun = snake(" ".join(head.thing))
    words = " ".join(singular(word) for word in head.words)
    domain = vocabulary().domain(words)
    managed = len(head.thing) < len(head.words)
    users = bool(head.thing) and set(head.thing) <= _PEOPLE
    known = bool(domain) or vocabulary().knows(noun or "x")
    named = head.is_service or managed or users or known
    # "zorks; zorks are public" goes on, "green ideas sleep." does not
    goes_on = reading.cursor.token(1) is not None
    if not named and not goes_on:
        draft.topic = ""
        return
    draft.ledger.understood(head.span)
    draft.topic_span = head.span
    if "chat" in head.words:
        draft.chat = draft.chat or head.span
    if users:
        draft.about_users = True
        reading.subjects, reading.start = ["users"], head.span
    elif all(word in FEATURE_PARTS for word in head.words):
        draft.features = draft.about_users = True
    elif noun and is_plural(noun) and not managed:
        reading.name(noun, head.span)
    elif domain is not None:
        draft.candidates = domain[1]
    elif noun and (managed or vocabulary().knows(noun)):
        draft.candidates = (plural(noun),)
    _begin_fields(reading)


def _begin_fields(reading: Reading) -> None:
    """Take the topic for a resource where its fields follow: ``book API with title and isbn``."""
    cursor, draft = reading.cursor, reading.draft
    if len(draft.candidates) != 1 or not cursor.length("with|having|has|containing|including"):
        return
    here = cursor.position
    cursor.take()
    phrase = read_phrase(cursor)
    if (
        phrase is not None
        and not is_plural(phrase.words[-1])
        and not is_feature(phrase, alone=True)
        and not (cursor.kind() == "group" and not _is_size(reading))
        and not vocabulary().knows(snake(" ".join(phrase.words)))
    ):
        name = draft.candidates[0]
        draft.add(name, draft.topic_span)
        reading.subjects, reading.start = [name], draft.topic_span
    cursor.position = here


def _is_size(reading: Reading) -> bool:
    """Tell whether a bracket holds the bounds of a type and no fields."""
    token = reading.cursor.token()
    return token is not None and any(letter.isdigit() for letter in token.text[:6])
