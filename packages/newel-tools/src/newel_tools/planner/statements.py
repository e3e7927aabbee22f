"""Reads what a sentence says, from left to right: lists of nouns, their fields and states.

Words that no rule takes are left behind and turn up as not understood.
"""

from __future__ import annotations

from newel_tools.plan.fields import TYPE_WORDS
from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural, singular
from newel_tools.plan.verbs import action_of, is_participle
from newel_tools.planner.deeds import SINGULAR_VERBS, allowed, does, everyone_reads
from newel_tools.planner.draft import Flow, Rule
from newel_tools.planner.errands import errand
from newel_tools.planner.events import published
from newel_tools.planner.lexicon import (
    BREAKS,
    LISTED_AS,
    PREPOSITIONS,
    STATE_WORDS,
    STOP_WORDS,
)
from newel_tools.planner.mentions import UNITS, snake_choice
from newel_tools.planner.phrases import Phrase, head_of, is_feature, noun_of, read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.rights import is_so, mark, visible
from newel_tools.planner.sentence import Span
from newel_tools.planner.ties import about, are_usual, arrow, assigned, belongs, many, tie

__all__ = ["read_statements"]

_INSIDE = frozenset({"of", "per", "to"})
"""These may stand inside the name of a field: ``date of birth``."""


def read_statements(reading: Reading) -> None:
    """Read to the end of the sentence."""
    rules = (
        published,
        errand,
        everyone_reads,
        visible,
        allowed,
        belongs,
        can_be,
        assigned,
        many,
        arrow,
        without,
        listed,
        goes,
        states,
        is_so,
        having,
        about,
        described,
        does,
        noun,
    )
    cursor = reading.cursor
    while not cursor.done:
        if cursor.kind() == "stop":
            cursor.take()
            reading.reset()
        elif not any(rule(reading) for rule in rules):
            cursor.take()


def can_be(reading: Reading) -> bool:
    """``comments can be moderated``, ``orders can be paid``, ``issues can be open or closed``."""
    start = reading.cursor.match("can|may|could be either?")
    if start is None:
        return False
    words = _state_words(reading)
    resources = reading.resources()
    if not resources or not words:
        return True
    span = reading.from_subject(start).to(reading.cursor.last_span())
    if words == ["moderated"]:
        mark(reading, "moderated", span)
    elif all(is_participle(word) for word in words):
        resources[-1].actions += [(action_of(word), span) for word in words]
    elif len(words) > 1:
        resources[-1].flow = Flow(values=tuple(words), span=span)
    else:
        return True
    reading.close(span)
    return True


def goes(reading: Reading) -> bool:
    """``issues go from open to in progress to closed``."""
    cursor = reading.cursor
    here = cursor.position
    start = cursor.match("can|may? go|goes|move|moves|pass|passes|change|changes from")
    resources = reading.resources()
    words = _state_words(reading, between=frozenset({"to", "then", "through"})) if start else []
    if start is None or len(words) < 2 or not resources:
        cursor.position = here
        return False
    span = reading.from_subject(start).to(cursor.last_span())
    resources[-1].flow = Flow(values=tuple(words), span=span, steps=True)
    reading.close(span)
    return True


def states(reading: Reading, *, what: str = "") -> bool:
    """``with statuses draft, published and archived``; ``what`` they are of: ``payment status``."""
    cursor = reading.cursor
    if cursor.word() not in STATE_WORDS or not reading.resources():
        return False
    here = cursor.position
    start = cursor.take().span
    name = snake(f"{what} {singular(cursor.word(-1))}") if what else "status"
    follows = cursor.kind() in {"colon", "group"} or (
        cursor.word() not in {"", "and", "or"} and TYPE_WORDS.get(cursor.word()) is None
    )
    if not follows:
        cursor.position = here
        return False
    if cursor.kind() == "colon":
        cursor.take()
    for words in ("can be", "is|are|of", "either", "one of"):
        cursor.match(words)
    words = _grouped_states(reading) or _state_words(reading)
    if len(words) < 2:
        cursor.position = here
        return False
    span = start.to(cursor.last_span())
    reading.resources()[-1].flow = Flow(values=tuple(words), span=span, name=name)
    describing = reading.describing
    reading.close(span)
    # "tasks with status open, done; title" may go on with fields
    reading.describing, reading.closed = describing, not describing
    return True


def having(reading: Reading) -> bool:
    """``with``, ``has``: what follows are fields of the last subject, or the service's parts."""
    cursor = reading.cursor
    if not cursor.match(
        "that|which? with|including|includes|include|containing|contains|has|have|having"
    ):
        return False
    reading.describing = bool(reading.subjects)
    if span := cursor.match("soft delete|deletes|deletion|deleted"):
        if reading.resources():
            mark(reading, "soft", span)
        else:
            reading.draft.all_soft = span
        reading.draft.ledger.understood(span)
    return True


def listed(reading: Reading) -> bool:
    """``posts: title, body text``: fields behind a colon, unless it is a list of things."""
    cursor = reading.cursor
    if cursor.kind() != "colon" or not reading.subjects or cursor.position != reading.named_at:
        return False
    cursor.take()
    reading.describing = not reading.things_follow()
    reading.subjects = reading.subjects[-1:]
    return True


def without(reading: Reading) -> bool:
    """``without login``, ``when it is hot``: no things that are wanted."""
    cursor = reading.cursor
    if cursor.match("when|whenever|if|unless|until"):
        while cursor.kind() in {"word", "sign"} and cursor.word() != "and":
            cursor.take()
        return True
    if not cursor.match("without|no"):
        return False
    read_phrase(cursor)
    return True


def described(reading: Reading) -> bool:
    """``title, body text and pages`` behind ``posts with``: one field.

    What a preposition adds to one, such as ``in EUR``, is no field and not understood.
    """
    cursor = reading.cursor
    if not reading.describing or not (cursor.word() or cursor.kind() == "sign"):
        return False
    if cursor.word() in BREAKS or reading.things_follow():
        return cursor.word() not in BREAKS and _among_fields(reading)
    added = cursor.word(-1) in PREPOSITIONS | {"as", "at", "by", "from"}
    start = cursor.take().span
    end = start
    while not _item_ends(reading):
        end = cursor.take().span
    words = reading.draft.ledger.words(start.to(end))
    end = (_more_choices(reading) or end) if ":" in words else end
    if cursor.word() in STATE_WORDS and states(reading, what=words):
        reading.draft.ledger.understood(start.to(end))
        return True
    if cursor.word() == "with" and not added:  # "users have one profile with bio and avatar"
        reading.draft.ledger.understood(start.to(end))
        reading.draft.notes.append(f"{words}: kept in fields of {reading.subjects[-1]}")
    elif not added and cursor.word() != "by":  # "sorted by due date"
        reading.add_mentions(reading.subjects[-1], start.to(end), whole=True)
    return True


def _among_fields(reading: Reading) -> bool:
    """Take ``items`` of ``order with number, items, total``: rows of their own, with a link."""
    cursor, draft = reading.cursor, reading.draft
    here = cursor.position
    parent = reading.subjects[-1]
    phrase = read_phrase(cursor)
    noun = noun_of(phrase, draft, singular_too=False) if phrase else None
    listed = cursor.kind() == "comma" and cursor.kind(1) == "word" and cursor.word(1) != "and"
    cursor.position += listed
    if (
        phrase is None
        or noun is None
        or parent == "users"
        or not listed
        or (reading.things_follow() or cursor.word() in BREAKS)
    ):
        cursor.position = here
        return False
    child = draft.add(noun, phrase.span)
    draft.ledger.understood(phrase.span)
    if not are_usual(parent, child.name):
        tie(draft, child, parent, phrase.span)
    return True


def noun(reading: Reading) -> bool:
    """A noun of a list, with its fields in brackets."""
    cursor = reading.cursor
    apart = reading.describing or cursor.word(-1) in {"at", "by", "in", "on"}  # "in order"
    phrase = read_phrase(cursor)
    if phrase is None:
        return False
    if _is_said_of_service(reading, phrase):
        return True
    if cursor.match("is|are|must|should be? unique|optional"):
        _rule(reading, phrase)
        return True
    phrase = head_of(cursor, phrase)
    has_fields = cursor.kind() == "group" or (cursor.kind() == "colon" and not reading.describing)
    found = noun_of(phrase, reading.draft, singular_too=not apart or has_fields)
    if phrase.words[-1] not in STOP_WORDS and cursor.length(SINGULAR_VERBS):
        has_fields = True
    if found is None and has_fields and len(phrase.words) <= 3:
        found = snake(" ".join(phrase.words)) or None
    if found is None or not found[0].isalpha():
        return True
    name = reading.name(found, phrase.named())
    for word, span in phrase.marks:
        subjects, reading.subjects = reading.subjects, [name]
        mark(reading, word, span.to(phrase.span))
        reading.subjects = subjects
        reading.draft.ledger.understood(span)
    if reading.group(name):
        reading.named_at = cursor.position
    reading.describing = False
    return True


def _is_said_of_service(reading: Reading, phrase: Phrase) -> bool:
    """Tell whether a phrase is about the service: a feature, or the word for a list."""
    ledger = reading.draft.ledger
    if phrase.words[-1] in LISTED_AS and reading.cursor.kind() == "colon":
        ledger.understood(phrase.span)
        return True
    if phrase.words in {("soft", "delete"), ("soft", "deletes"), ("soft", "deletion")}:
        reading.draft.all_soft = phrase.span
        ledger.understood(phrase.span)
        return True
    only_users = set(phrase.words) <= {"user", "users"}
    if only_users or not is_feature(phrase, alone=not reading.resources(), sure=reading.featuring):
        return False
    if reading.cursor.kind() == "group":
        return False
    reading.draft.features = reading.featuring = True
    ledger.understood(phrase.span)
    return True


def _rule(reading: Reading, phrase: Phrase) -> None:
    """Note ``sku is unique``; whether there is such a field turns out at the end."""
    word = "unique" if reading.cursor.word(-1) == "unique" else "optional"
    span = phrase.span.to(reading.cursor.last_span())
    name = snake(" ".join(phrase.words))
    reading.draft.rules.append(Rule(field=name, word=word, span=span))


def _more_choices(reading: Reading) -> Span | None:
    """Take ``, editor or viewer`` behind ``role: admin``; None when no ``or`` comes."""
    cursor = reading.cursor
    ahead = 0
    while cursor.kind(ahead) == "comma" and cursor.word(ahead + 1) not in {"", "or"}:
        ahead += 2
    ahead += cursor.kind(ahead) == "comma"
    if ahead == 0 or cursor.word(ahead) != "or" or not cursor.word(ahead + 1):
        return None
    cursor.position += ahead + 2
    return cursor.last_span()


def _item_ends(reading: Reading) -> bool:
    """Tell whether a field's words end here."""
    cursor = reading.cursor
    if cursor.kind() in {"comma", "stop"} or (cursor.word() in STATE_WORDS):
        return True
    after = cursor.word(1)
    if cursor.word() in _INSIDE and after and after not in BREAKS:
        return False
    ended = cursor.kind(1) in {"comma", "stop"} or after in {"and", "optional", *TYPE_WORDS}
    if cursor.word() == "in" and after in UNITS:
        return False  # "time in minutes"
    if (cursor.word() in {"at", "on"} and ended) or cursor.length("of? at least|most"):
        return False  # "spent on date", "published at", "capacity of at most 20"
    number = cursor.token(1)
    if cursor.word() in {"and", "between", "from", "to"} and number and number.text[0].isdigit():
        return False  # "from 1 to 5"
    is_choice = cursor.word() == "or" and cursor.word(-2) not in {"", "and", "or", "with"}
    return cursor.word() in BREAKS and not (is_choice and after)


def _grouped_states(reading: Reading) -> list[str]:
    token = reading.cursor.token()
    if token is None or token.kind != "group":
        return []
    reading.cursor.take()
    inner = token.text.replace("|", ",").replace("/", ",").replace("->", ",").replace(" or ", ",")
    return [word for part in inner.split(",") if (word := snake_choice(part.lower()))]


def _state_words(reading: Reading, *, between: frozenset[str] = frozenset()) -> list[str]:
    """Take a list of states; a plural that begins a new noun ends it."""
    cursor = reading.cursor
    separators = {"and", "or"} | between
    words: list[str] = []
    end = cursor.position
    while not cursor.done:
        item: list[str] = []
        while cursor.word() and (
            cursor.word() not in BREAKS or (not item and cursor.word() in {"in", "on", "under"})
        ):
            item.append(cursor.take().text)
        if not item or len(item) > 3 or (words and _begins_anew(reading, item)):
            cursor.position = end
            break
        name = snake("_".join(item))
        if name and name[0].isalpha() and "_".join(item).isascii():
            words.append(name)
        end = cursor.position
        while cursor.kind() == "comma" or cursor.word() in separators or _is_separator(reading):
            cursor.take()
        if cursor.position == end:
            break
    cursor.position = max(end, 0)
    return words


def _is_separator(reading: Reading) -> bool:
    token = reading.cursor.token()
    return token is not None and token.kind == "sign" and token.text in {"/", "|", "->"}


def _begins_anew(reading: Reading, item: list[str]) -> bool:
    follows = reading.cursor.kind() == "group" or reading.verb_follows()
    return follows or reading.draft.knows("_".join(item)) or is_plural(item[-1])
