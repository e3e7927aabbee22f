"""What has been gathered so far, and what it is called."""

import pytest

from newel_tools.planner.draft import Draft
from newel_tools.planner.sentence import Ledger


def draft(*names: str, topic: str = "") -> Draft:
    made = Draft(ledger=Ledger(""), topic=topic)
    for name in names:
        made.add(name, None)
    return made


def test_a_noun_is_one_resource_in_any_number():
    made = draft("post", "posts")

    assert list(made.resources) == ["posts"]
    assert made.knows("post")
    assert not made.knows("tag")


def test_a_short_name_is_the_only_long_one():
    assert draft("order_items").name_of("item") == "order_items"
    assert draft("order_items", "cart_items").name_of("item") == "items"
    assert draft("items", "order_items").name_of("item") == "items"


@pytest.mark.parametrize(
    ("topic", "noun", "name"),
    [
        ("bank", "accounts", "bank_accounts"),
        ("SQL", "tables", "sql_tables"),
        ("", "sessions", "sessions_entries"),
        ("settings", "settings", "settings_entries"),
        ("setting", "settings", "settings_entries"),
        ("a topic that is much too long for it", "accounts", "accounts_entries"),
        ("x", "y" * 40 + "s", "y" * 20 + "_entries"),
    ],
)
def test_a_name_that_is_taken_is_another_and_said(topic, noun, name):
    made = draft(noun, topic=topic)

    assert list(made.resources) == [name]
    assert len(made.notes) == 1
    assert made.notes[0].startswith(f"{noun} are called {name}: ")
    made.add(noun, None)
    assert len(made.notes) == 1


def test_asking_says_nothing():
    made = draft(topic="bank")

    assert made.name_of("accounts") == "bank_accounts"
    assert made.notes == []


def test_what_is_usual_depends_on_the_others():
    assert "seat" in draft("events", "tickets").usual("tickets").fields[2]
    assert "priority" in draft("tickets").usual("tickets").fields[2]
