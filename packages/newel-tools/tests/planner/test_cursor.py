"""A reading position."""

import pytest

from newel_tools.planner.cursor import Cursor
from newel_tools.planner.sentence import tokens_of


def at(sentence: str, taken: int = 0) -> Cursor:
    cursor = Cursor(tokens_of(sentence))
    for _ in range(taken):
        cursor.take()
    return cursor


def test_words_and_kinds_are_seen_without_taking_them():
    cursor = at("posts (title), tags", taken=1)

    assert cursor.word(-1) == "posts"
    assert (cursor.word(), cursor.kind()) == ("", "group")
    assert cursor.word(2) == "tags"
    assert cursor.kind(9) == "stop"
    assert cursor.token(-9) is None


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("are moderated", 2),
        ("are|is moderated", 2),
        ("that|which? are", 1),
        ("are public", 0),
        ("are moderated now", 0),
        ("are moderated now?", 2),
        ("moderated", 0),
        ("that?", 0),
    ],
)
def test_a_pattern_matches_or_takes_nothing(pattern, count):
    cursor = at("posts are moderated", taken=1)

    assert cursor.length(pattern) == count
    assert (cursor.match(pattern) is not None) == bool(count)
    assert cursor.position == 1 + count


def test_a_match_says_where_it_stood():
    sentence = "posts are moderated now"
    cursor = at(sentence, taken=1)
    span = cursor.match("are moderated")

    assert span is not None
    assert sentence[span.start : span.end] == "are moderated"
    assert cursor.last_span().end == span.end
    assert not cursor.done
    cursor.take()
    assert cursor.done
