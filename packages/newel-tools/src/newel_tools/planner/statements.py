"""Reads what a sentence says, from left to right: lists of nouns, their fields and states.

Words that no rule takes are left behind and turn up as not understood.
"""

from __future__ import annotations

from newel_tools.plan.fields import TYPE_WORDS
from newel_tools.plan.names import snake
from newel_tools.plan.nouns import is_plural
from newel_tools.plan.verbs import action_of, is_participle
from newel_tools.planner.draft import Flow, Rule
from newel_tools.planner.errands import errand
from newel_tools.planner.events import published
from newel_tools.planner.lexicon import BREAKS, FIELD_PLURALS, LISTED_AS, STATE_WORDS
from newel_tools.planner.mentions import snake_choice
from newel_tools.planner.phrases import Phrase, is_feature, noun_of, read_phrase
from newel_tools.planner.reading import Reading
from newel_tools.planner.rights import allowed, does, everyone_reads, granted, is_so, mark, visible
from newel_tools.planner.ties import about, arrow, assigned, belongs, many
from newel_tools.planner.vocabulary import vocabulary

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
        can_be,
        belongs,
        assigned,
        many,
        arrow,
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


def states(reading: Reading) -> bool:
    """``with statuses draft, published and archived``."""
    cursor = reading.cursor
    if cursor.word() not in STATE_WORDS or not reading.resources():
        return False
    here = cursor.position
    start = cursor.take().span
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
    reading.resources()[-1].flow = Flow(values=tuple(words), span=span)
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


def described(reading: Reading) -> bool:
    """``title, body text and pages`` behind ``posts with``: one field."""
    cursor = reading.cursor
    if not reading.describing or not (cursor.word() or cursor.kind() == "sign"):
        return False
    if cursor.word() in BREAKS:
        return False
    here = cursor.position
    phrase = read_phrase(cursor)
    things = phrase is not None and _are_things(reading, phrase)
    cursor.position = here
    if things:
        return False
    start = cursor.take().span
    end = start
    while not _item_ends(reading):
        end = cursor.take().span
    reading.add_mentions(reading.subjects[-1], start.to(end))
    return True


def noun(reading: Reading) -> bool:
    """A noun of a list, with its fields in brackets."""
    cursor = reading.cursor
    phrase = read_phrase(cursor)
    if phrase is None:
        return False
    if _is_said_of_service(reading, phrase) or granted(reading, phrase):
        return True
    if cursor.match("is|are|must|should be? unique|optional"):
        _rule(reading, phrase)
        return True
    has_fields = cursor.kind() == "group"
    found = noun_of(phrase, reading.draft, singular_too=not reading.describing or has_fields)
    if found is None and has_fields and len(phrase.words) <= 3:
        found = snake(" ".join(phrase.words)) or None
    if found is None or not found[0].isalpha():
        return True
    name = reading.name(found, phrase.span)
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


def _are_things(reading: Reading, phrase: Phrase) -> bool:
    """Tell whether a phrase in a list of fields begins a list of resources instead."""
    cursor = reading.cursor
    last = phrase.words[-1]
    if is_feature(phrase, alone=False):
        return True
    if not is_plural(last) and last != "users":
        return cursor.kind() == "group" and reading.draft.knows(snake(" ".join(phrase.words)))
    if cursor.kind() == "group" or reading.verb_follows():
        return not any(word in TYPE_WORDS for word in phrase.words[1:])
    known = vocabulary()
    name = snake(" ".join(phrase.words))
    return last not in FIELD_PLURALS and (known.knows(name) or not known.is_field(name))


def _item_ends(reading: Reading) -> bool:
    """Tell whether a field's words end here."""
    cursor = reading.cursor
    if cursor.kind() in {"comma", "stop"} or (cursor.word() in STATE_WORDS):
        return True
    if cursor.word() in _INSIDE and cursor.word(1) and cursor.word(1) not in BREAKS:
        return False
    return cursor.word() in BREAKS


def _grouped_states(reading: Reading) -> list[str]:
    token = reading.cursor.token()
    if token is None or token.kind != "group":
        return []
    reading.cursor.take()
    inner = token.text.replace("|", ",").replace("/", ",").replace("->", ",").replace(" or ", ",")
    return [word for part in inner.split(",") if (word := snake_choice(part.lower()))]


def _state_words(reading: Reading) -> list[str]:
    """Take a list of states; a plural that begins a new noun ends it."""
    cursor = reading.cursor
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
        while cursor.kind() == "comma" or cursor.word() in {"and", "or"} or _is_separator(reading):
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
