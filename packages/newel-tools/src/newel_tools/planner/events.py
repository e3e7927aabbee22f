"""Reads which facts are published, and by what: ``publish order.paid events to kafka``."""

from __future__ import annotations

import re
from typing import Final, cast

from newel_tools.plan.names import snake
from newel_tools.plan.nouns import singular
from newel_tools.plan.plan import Broker
from newel_tools.plan.verbs import is_participle
from newel_tools.planner.clauses import NAME, Clause, clauses_at, take
from newel_tools.planner.draft import Draft, Fact
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import Span

__all__ = ["fact_words", "place_fact", "published"]

_BROKERS: Final = {"rabbitmq": "rabbit", "amqp": "rabbit", "valkey": "redis"}
_BROKER: Final = (
    r"(?:an?\s+|the\s+|apache\s+)*(?P<broker>kafka|nats|rabbit\s?mq|rabbit|amqp|redis|valkey)"
    r"(?:\s+(?:jetstream|streams?|topics?|queues?|broker|cluster))?\b"
)
_TO: Final = rf"(?:to|on|onto|via|over|through|into|in|with|using|by)\s+{_BROKER}"
_VERB: Final = (
    r"(?:publish(?:es|ing)?|emit(?:s|ting)?|send(?:s|ing)?|stream(?:s|ing)?|produc(?:es?|ing)|"
    r"rais(?:es?|ing)|broadcast(?:s|ing)?)"
)
_FEW: Final = rf"(?:{NAME}\s+){{1,4}}?"
_DOTTED: Final = r"[a-z]\w*\.[a-z]\w*"
_AND: Final = r"(?:\s*,\s*(?:and\s+)?|\s+and\s+)"
_ARTICLES: Final = r"(?:(?:an?|the|all|every|its|their|domain)\s+)*"

_EVENTS: Final = r"(?:\s+(?:events?|messages?))?\b"
_WORDS: Final = rf"{NAME}(?:\s+{NAME}){{0,3}}?"
_GO: Final = r"(?:(?:are|get|is)\s+)?(?:(?:published|sent|streamed|emitted|going|go)\s+)?"
_BUS: Final = r"(?:message\s+|event\s+)?(?:bus|broker|queue)\b"
_FORMS: Final = (
    # publish order paid, order shipped and stock movement events to kafka
    rf"{_VERB}\s+{_ARTICLES}(?P<names>(?:{_WORDS}{_AND})*{_WORDS})\s+events?\b(?:\s+{_TO})?",
    # order.paid and order.shipped
    rf"(?:{_VERB}\s+)?{_ARTICLES}(?P<names>{_DOTTED}(?:{_AND}{_DOTTED})*){_EVENTS}(?:\s+{_TO})?",
    rf"{_ARTICLES}(?P<names>{_FEW})(?:events?|messages)\s+{_GO}{_TO}",
    rf"{_ARTICLES}(?P<names>{_FEW})event\b",
    rf"(?:{_VERB}\s+)?{_ARTICLES}(?:events?|changes|everything|messages)\s+{_GO}{_TO}",
    rf"{_BROKER}\s+(?:events?|messages|messaging|support|integration)\b",
    rf"(?:message|event)\s+(?:bus|broker|queue)\s*(?:is\s+|[:=]\s*)?{_BROKER}",
    rf"{_BROKER}\s+as\s+(?:an?\s+|the\s+)?{_BUS}",
)
_BROKER_ALONE: Final = re.compile(_BROKER)
_WHEN: Final = re.compile(
    rf"{_VERB}\s+{_ARTICLES}(?:{NAME}\s+)?events?\s+(?:when|whenever|after|once|as soon as)\s+(.+)"
)

# what happens, as a noun
_NOMINAL: Final = {
    "adjustment": "adjusted", "approval": "approved", "arrival": "arrived", "booking": "booked",
    "cancellation": "cancelled", "change": "changed", "completion": "completed",
    "confirmation": "confirmed", "creation": "created", "deletion": "deleted",
    "delivery": "delivered", "departure": "departed", "dispatch": "dispatched",
    "expiration": "expired", "expiry": "expired", "import": "imported", "movement": "moved",
    "payment": "paid", "publication": "published", "purchase": "purchased", "receipt": "received",
    "refund": "refunded", "registration": "registered", "rejection": "rejected",
    "removal": "removed", "return": "returned", "sale": "sold", "shipment": "shipped",
    "signup": "registered", "submission": "submitted", "transfer": "transferred",
    "update": "updated",
}  # fmt: skip


_ALL: Final = r"(?:all\s+|every\s+)?(?:events?|changes)|everything"
_WEBHOOKS: Final = re.compile(
    r"(?:(?:an?|the|send|sends|sending|with|signed|outgoing|user)\s+)*(?:webhooks?|web hooks?)"
    rf"(?:\s+(?:for|on|about|of)\s+(?:{_ALL}|(?P<what>.+?)(?:\s+(?:events|changes))?))?"
    r"(?:\s+(?:when|whenever|after|once)\s+(?P<fact>.+))?"
)


def published(reading: Reading) -> bool:
    """``stock movements event to kafka``, ``publish order.paid events``, ``events go to nats``."""
    for clause in clauses_at(reading):
        if _told_by_webhook(reading, clause):
            return True
    for clause in clauses_at(reading, over_commas=True):
        whole = _WHEN.fullmatch(clause.text)
        if whole is not None and (words := fact_words(whole[1])):
            span = take(reading, clause, len(clause.text))
            reading.draft.facts.append(Fact(words=words, span=span))
            return True
        for form in _FORMS:
            if (found := re.match(form, clause.text)) and _says_events(found, clause):
                _note(reading, clause, found)
                return True
        alone = _BROKER_ALONE.fullmatch(clause.text)
        if alone and alone["broker"] not in {"redis", "valkey"}:
            _note(reading, clause, alone)
            return True
    return False


def _told_by_webhook(reading: Reading, clause: Clause) -> bool:
    """``webhooks for orders``, ``a webhook when one is paid``: users hear of their own rows."""
    found = _WEBHOOKS.fullmatch(clause.text)
    if found is None:
        return False
    draft = reading.draft
    words = fact_words(found["fact"]) if found["fact"] else ()
    if (found["fact"] and not words) or (found["what"] and not draft.knows(snake(found["what"]))):
        return False
    draft.webhooks = take(reading, clause, len(clause.text))
    if words:
        draft.facts.append(Fact(words=words, span=draft.webhooks))
    return True


def fact_words(text: str) -> tuple[str, ...]:
    """Return the words of ``an order is paid`` or ``order payment``: what, and what happened.

    Empty when nothing happens in it.
    """
    text = re.sub(r"^(?:(?:an?|the|each|every|any|new|his|her|their|some)\s+)+", "", text.strip())
    if re.fullmatch(r"(?:(?:user|account)\s+)?(?:sign-?\s?ups?|registrations?|registering)", text):
        return ("user", "registered")
    if re.fullmatch(
        r"(?:users?|some(?:one|body)|people|customers?|members?|they)\s+"
        r"(?:signs?\s+up|registers?|registered|joins?|signed\s+up)",
        text,
    ):
        return ("user", "registered")
    text = re.sub(r"\b(?:is|are|was|were|has|have|gets?|been|newly|becomes?|a|an|the)\b", " ", text)
    text = re.sub(r"^(\w+)\s+of\s+(\w+)\b", r"\2 \1", text.strip())  # the price of a product
    what, _, last = snake(text.replace("'s", "").replace(".", " ")).rpartition("_")
    happened = _NOMINAL.get(singular(last)) or {"changes": "changed"}.get(last, last)
    words = tuple(word for word in (*what.split("_"), happened) if word)
    return words if len(words) <= _LONGEST and _is_past(happened) else ()


def place_fact(draft: Draft, words: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the resource and its event that words mean: of itself, or of one of its fields."""
    if words == ("user", "registered"):
        return "users", "registered"
    for count in range(len(words) - 1, 0, -1):
        noun = "_".join(words[:count])
        if draft.knows(noun):
            return draft.name_of(noun), "_".join(words[count:])
    for count in range(len(words) - 1, 0, -1):
        noun = "_".join(words[:count])
        for name in draft.resources:
            if noun in draft.fields_of(name):
                return name, "_".join(words)
    return None


def _says_events(found: re.Match[str], clause: Clause) -> bool:
    """Tell a fact from a thing: ``sport events`` are kept, ``paid events`` are published."""
    said = found[0]
    names = found.groupdict().get("names")
    if names is None or found.groupdict().get("broker") or "." in names:
        return True
    if re.match(rf"{_VERB}\b", said):
        return True
    rest = clause.text[found.end() :].strip()
    return bool(fact_words(names)) and (not rest or rest.startswith(("and ", ",")))


def _note(reading: Reading, clause: Clause, found: re.Match[str]) -> None:
    """Note the broker and the facts of a form that matched."""
    draft = reading.draft
    span = take(reading, clause, found.end())
    if (broker := found.groupdict().get("broker")) is not None:
        known = _BROKERS.get(broker.replace(" ", ""), broker)
        draft.broker = (cast("Broker", known), span)
    if not found.groupdict().get("names"):
        return
    start, end = found.span("names")
    for name in re.split(rf"{_AND}", draft.ledger.sentence[clause.span.start :][start:end]):
        _note_fact(draft, name, span)


def _note_fact(draft: Draft, name: str, span: Span) -> None:
    words = fact_words(snake(name).replace("_", " "))
    if words:
        draft.facts.append(Fact(words=words, span=span))
    else:  # "product events": all that happens to them, if there are such
        draft.facts.append(Fact(words=(snake(name),), span=span))


def _is_past(word: str) -> bool:
    return is_participle(word) or (word.endswith("ed") and len(word) > 4) or word in _PAST


_PAST: Final = frozenset(_NOMINAL.values())
_LONGEST: Final = 5  # words; what is longer is prose
