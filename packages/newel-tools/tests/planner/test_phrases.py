"""Which words belong together."""

import pytest

from newel_tools.planner.cursor import Cursor
from newel_tools.planner.draft import Draft
from newel_tools.planner.phrases import Phrase, is_feature, noun_of, read_phrase
from newel_tools.planner.sentence import Ledger, Span, tokens_of

NOWHERE = Span(start=0, end=0)


def phrase(*words: str) -> Phrase:
    return Phrase(words=words, span=NOWHERE)


@pytest.mark.parametrize(
    ("sentence", "words", "marks"),
    [
        ("the blog posts", ("blog", "posts"), ()),
        ("order items of orders", ("order", "items"), ()),
        ("public simple posts", ("posts",), ("public",)),
        ("soft deleted private posts", ("posts",), ("soft", "private")),
        ("notes API", ("notes",), ()),
        ("API", ("api",), ()),
        ("tasks statuses", ("tasks",), ()),
        ("posts (title)", ("posts",), ()),
        ("posts soft deleted", ("posts",), ()),
    ],
)
def test_a_phrase_ends_where_something_else_begins(sentence, words, marks):
    found = read_phrase(Cursor(tokens_of(sentence)))

    assert found is not None
    assert found.words == words
    assert tuple(word for word, _ in found.marks) == marks


@pytest.mark.parametrize("sentence", ["and posts", "the", "(a)", "", "public"])
def test_where_there_is_no_phrase_nothing_is_taken(sentence):
    cursor = Cursor(tokens_of(sentence))

    assert read_phrase(cursor) is None
    assert cursor.position == 0


def test_a_phrase_ends_before_a_verb_that_is_waited_for():
    found = read_phrase(Cursor(tokens_of("users create posts")), until=frozenset({"create"}))

    assert found is not None
    assert found.words == ("users",)


@pytest.mark.parametrize(
    ("words", "alone", "sure", "expected"),
    [
        (("jwt", "authentication"), False, False, True),
        (("rate", "limiting"), True, False, True),
        (("rate", "limiting"), False, False, False),
        (("roles",), True, False, True),
        (("roles",), False, False, False),
        (("sessions",), True, False, False),
        (("sessions",), False, True, True),
        (("secure", "login"), False, False, True),
        (("posts",), True, True, False),
    ],
)
def test_what_every_service_has(words, alone, sure, expected):
    assert is_feature(phrase(*words), alone=alone, sure=sure) is expected


@pytest.mark.parametrize(
    ("words", "singular_too", "noun"),
    [
        (("posts",), False, "posts"),
        (("blog", "posts"), False, "blog_posts"),
        (("very", "big", "old", "cats"), False, "big_old_cats"),
        (("post",), False, None),
        (("post",), True, "post"),
        (("zork",), True, None),
        (("user",), False, "users"),
        (("caf\u00e9s",), True, None),
        (("contact", "details"), True, None),
        (("kafka", "events"), True, None),
    ],
)
def test_what_a_phrase_names(words, singular_too, noun):
    draft = Draft(ledger=Ledger(""))

    assert noun_of(phrase(*words), draft, singular_too=singular_too) == noun


def test_what_was_named_is_known_in_the_singular():
    draft = Draft(ledger=Ledger(""))
    draft.add("zorks", None)

    assert noun_of(phrase("zork"), draft, singular_too=True) == "zork"
