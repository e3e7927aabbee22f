"""Actions are called after the state they lead to."""

import keyword

import pytest

from newel_tools.plan.fields import read_line
from newel_tools.plan.names import field_conflict
from newel_tools.plan.plan import States
from newel_tools.plan.verbs import action_of, is_participle
from newel_tools.planner.vocabulary import vocabulary


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("approved", "approve"),
        ("rejected", "reject"),
        ("published", "publish"),
        ("archived", "archive"),
        ("shipped", "ship"),
        ("planned", "plan"),
        ("opened", "open"),
        ("submitted", "submit"),
        ("cancelled", "cancel"),
        ("canceled", "cancel"),
        ("transferred", "transfer"),
        ("verified", "verify"),
        ("checked_in", "check_in"),
        ("paid", "pay"),
        ("closed", "close"),
        ("in_progress", "start"),
        ("done", "finish"),
        ("returned", "give_back"),
        ("active", "activate"),
        ("on_hold", "mark_on_hold"),
        ("frobnicated", "mark_frobnicated"),
    ],
)
def test_the_action_that_leads_to_a_state(state, action):
    assert action_of(state) == action


def test_a_method_can_be_called_after_every_action():
    states = {"imported", "passed", "returned", "open", "pending", "moderated"}
    for usual in vocabulary().resources.values():
        for text in usual.fields:
            line = read_line(*text.split(": ", 1))
            states |= set(line.values) if isinstance(line, States) else set()
    assert len(states) > 20
    for state in states:
        assert not keyword.iskeyword(action_of(state))
        assert field_conflict(action_of(state)) is None


@pytest.mark.parametrize("word", ["approved", "shipped", "paid", "sent", "done"])
def test_participles_say_what_is_done(word):
    assert is_participle(word)


@pytest.mark.parametrize("word", ["pending", "open", "active", "public", "draft", "red"])
def test_adjectives_say_what_is(word):
    assert not is_participle(word)
