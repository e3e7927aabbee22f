"""Tokens that remember where they stood, and the account of what was understood."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.planner.sentence import Ledger, Span, split_items, tokens_of


def kinds(sentence: str) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens_of(sentence)]


def test_words_signs_and_brackets():
    assert kinds("Posts (a, b(c)) -> x; y.") == [
        ("word", "posts"),
        ("group", "a, b(c)"),
        ("sign", "->"),
        ("word", "x"),
        ("stop", ";"),
        ("word", "y"),
        ("stop", "."),
    ]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("e-commerce", ["ecommerce"]),
        ("E-mails and to-dos", ["emails", "and", "todos"]),
        ("payment-processing", ["payment", "processing"]),
        ("user's posts", ["user", "posts"]),
        ("check-ins", ["checkins"]),
        ("Café", ["cafe"]),
    ],
)
def test_words_are_bare_and_lower(sentence, words):
    assert [token.text for token in tokens_of(sentence)] == words


def test_a_dash_between_spaces_is_a_colon_and_a_bullet_a_comma():
    assert ("colon", "-") in kinds("blog - posts")
    assert ("colon", "\u2014") in kinds("blog \u2014 posts")
    assert kinds("with\n- posts\n* tags")[1] == ("comma", "-")
    assert kinds("with\n- posts\n* tags")[3] == ("comma", "*")


def test_a_point_within_a_number_is_no_stop():
    assert kinds("x = 1.5") == [("word", "x"), ("sign", "="), ("sign", "1.5")]
    assert kinds("a.b")[1] == ("sign", ".")


def test_tokens_know_where_they_stood():
    sentence = "a blog with  (posts)"
    assert [sentence[t.span.start : t.span.end] for t in tokens_of(sentence)] == [
        "a",
        "blog",
        "with",
        "(posts)",
    ]


@pytest.mark.parametrize("sentence", ["posts (title", "a [b", "a ((b)", "{", "(a]"])
def test_a_bracket_that_is_never_closed(sentence):
    with pytest.raises(PlanError, match="is never closed") as caught:
        tokens_of(sentence)
    assert caught.value.fix.startswith("add the")


def test_a_bracket_that_was_never_opened_is_a_sign():
    assert kinds("a ) b") == [("word", "a"), ("sign", ")"), ("word", "b")]


def items(inner: str) -> list[str]:
    return [inner[i.start : i.end] for i in split_items(inner, Span(start=0, end=len(inner)))]


@pytest.mark.parametrize(
    ("inner", "parts"),
    [
        ("name, sku unique", ["name", "sku unique"]),
        ("price decimal(1,2), size enum[a, b]", ["price decimal(1,2)", "size enum[a, b]"]),
        ("a; b\nc", ["a", "b", "c"]),
        ("a, b and c", ["a", "b", "c"]),
        ("a, and b", ["a", "b"]),
        ("a & b", ["a", "b"]),
        ('x str = "a, b", y', ['x str = "a, b"', "y"]),
        ('x = "open, y', ['x = "open', "y"]),
        ("- a\n- b", ["a", "b"]),
        ("-> posts, a", ["-> posts", "a"]),
        (" , ,a. ", ["a"]),
        ("brand and\tband", ["brand", "band"]),
        ("sandy", ["sandy"]),
    ],
)
def test_a_list_is_cut_at_its_separators(inner, parts):
    assert items(inner) == parts


def test_coverage_counts_content_words_only():
    ledger = Ledger("a blog with posts and zork")
    ledger.understood(Span(start=2, end=6))

    assert ledger.coverage() == pytest.approx(1 / 3)
    ledger.understood(Span(start=12, end=17))
    assert ledger.coverage() == pytest.approx(2 / 3)
    assert ledger.missed() == ("zork",)


def test_neighbours_that_were_missed_are_one():
    ledger = Ledger("blog via green ideas, red ones (blue) ideas")

    assert ledger.missed() == ("blog via green ideas", "red ones", "blue", "ideas")


def test_words_that_have_no_place_count_as_missed():
    ledger = Ledger("posts tags")
    ledger.understood(Span(start=0, end=10))
    ledger.lost(Span(start=6, end=10))

    assert ledger.missed() == ("tags",)


def test_a_sentence_without_content_was_not_understood():
    assert Ledger("a the and").coverage() == 0
    assert Ledger("").missed() == ()


def test_words_are_given_on_one_line():
    assert Ledger("a\n  b").words(Span(start=0, end=5)) == "a b"
