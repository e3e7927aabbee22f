"""Turns a sentence into a plan, and says what it took from where.

    plan = plan_sentence("blog with posts, comments and tags; comments are moderated")

Nothing is guessed silently: what the sentence does not say is taken from the vocabulary and listed
in ``assumed``; words that led to nothing are listed in ``not_understood``; and a sentence of which
less than 60 % of the content words were understood is refused.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationError

from newel_tools.errors import PlanError
from newel_tools.plan.fields import refusal
from newel_tools.plan.nouns import plural, singular
from newel_tools.plan.plan import Plan
from newel_tools.planner.blueprint import Blueprint
from newel_tools.planner.cursor import Cursor
from newel_tools.planner.draft import Draft
from newel_tools.planner.elsewhere import set_aside
from newel_tools.planner.errands import place
from newel_tools.planner.header import read_header
from newel_tools.planner.lexicon import FOREIGN, SURELY_FOREIGN
from newel_tools.planner.prohibitions import without_prohibitions
from newel_tools.planner.reading import Reading
from newel_tools.planner.sentence import LONGEST_SENTENCE, Ledger, tokens_of
from newel_tools.planner.statements import read_statements
from newel_tools.planner.vocabulary import SATELLITES

__all__ = ["LEAST_COVERAGE", "SKELETON", "plan_sentence"]

LEAST_COVERAGE: Final = 0.6
"""The share of content words that must be understood."""

SKELETON: Final = """\
service: my_service
title: My service API
users:
  fields:
    full_name: str(255) optional
resources:
  things:
    owner: users  # leave it out for rows that all share
    read: owner  # owner, signed_in or public
    fields:
      name: str(3..64)
      description: text optional
"""
"""A plan to fill in, for whoever was not understood."""


def plan_sentence(sentence: str) -> Plan:
    """Plan the service that an English sentence asks for.

    Raises ``PlanError``, with a skeleton to fill in, for a sentence that is empty, not English,
    longer than 10,000 characters, mostly not understood, or names nothing to keep; without one for
    a contradiction, such as bounds the wrong way round.
    """
    if len(sentence) > LONGEST_SENTENCE:
        raise PlanError(
            f"the sentence has more than {LONGEST_SENTENCE} characters",
            fix="say it shorter, or write the plan as YAML",
        )
    sentence = sentence.replace("\0", " ").strip()
    _refuse_foreign(sentence)
    draft = _read(sentence)
    _complete(draft)
    _understand_rules(draft)
    place(draft)
    _refuse_unclear(draft)
    try:
        return Blueprint(draft).plan()
    except ValidationError as error:
        raise refusal(error) from None


def _read(sentence: str) -> Draft:
    draft = Draft(ledger=Ledger(sentence))
    tokens = without_prohibitions(set_aside(draft, tokens_of(sentence)))
    reading = Reading(Cursor(list(tokens)), draft)
    read_header(reading)
    read_statements(reading)
    return draft


def _complete(draft: Draft) -> None:
    """Add what a service of that name usually keeps, where the sentence names nothing itself."""
    if set(draft.resources) == {"messages"} and "rooms" in draft.candidates:
        draft.add("rooms", None)  # where they are said
    others = [name for name in draft.resources if name not in SATELLITES]
    if draft.about_users or others or not draft.candidates:
        return
    topic = draft.ledger.words(draft.topic_span) if draft.topic_span else draft.topic
    for name in draft.candidates:
        draft.add(name, None)
    draft.notes.append(f"{topic}: taken to be about {', '.join(draft.candidates)}")


def _understand_rules(draft: Draft) -> None:
    """Note which of ``sku is unique`` is about a field that there is."""
    names: set[str] = set()
    for resource in draft.resources:
        for name in draft.fields_of(resource):
            names |= {name, plural(name), f"{singular(resource)}_{name}"}
    for rule in draft.rules:
        if rule.field in names:
            draft.ledger.understood(rule.span)


def _refuse_foreign(sentence: str) -> None:
    if not re.search(r"[^\W\d_]", sentence):
        raise PlanError(
            "there is no sentence to plan",
            fix='say what to keep, such as "blog with posts, comments and tags"',
            skeleton=SKELETON,
        )
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", sentence) if not word.isupper()}
    small = words & FOREIGN
    if len(small) >= 2 or small & SURELY_FOREIGN:
        shown = "', '".join(sorted(small)[:3])
        raise PlanError(
            f"the sentence does not look English ('{shown}')",
            fix="say it in English, or fill in the plan below and give it as a file",
            word=min(small),
            skeleton=SKELETON,
        )


def _refuse_unclear(draft: Draft) -> None:
    coverage = draft.ledger.coverage()
    missed = ", ".join(f"'{words}'" for words in draft.ledger.missed()[:4])
    if coverage < LEAST_COVERAGE:
        share = f"only {coverage:.0%} of the sentence was understood, not {missed}"
        raise PlanError(
            share if coverage else f"nothing of the sentence was understood: {missed}",
            fix="name what is kept, in the plural: 'shop with products (name, price decimal) and "
            "orders; orders belong to users', or fill in the plan below and give it as a file",
            word=missed,
            skeleton=SKELETON,
        )
    brought = draft.files or draft.chat
    if not (draft.resources or draft.about_users or draft.features or draft.users or brought):
        raise PlanError(
            "the sentence names nothing that the service would keep",
            fix="name the things in the plural, such as 'with books and authors'",
            skeleton=SKELETON,
        )
