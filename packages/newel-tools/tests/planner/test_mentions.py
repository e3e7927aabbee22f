"""A field as people mention it."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.planner.mentions import Mention, read_mention, snake_choice


@pytest.mark.parametrize(
    ("text", "name", "kind", "modifiers"),
    [
        ("name str(3..64)", "name", "str(3..64)", ()),
        ("name: str(64) unique", "name", "str(64)", ("unique",)),
        ("description text optional", "description", "text", ("optional",)),
        ("is_active bool = true", "is_active", "bool", ("= true",)),
        ("published boolean default false", "published", "bool", ("= false",)),
        ("published bool by default true", "published", "bool", ("= true",)),
        ("level int(1..5) = 3", "level", "int(1..5)", ("= 3",)),
        ('color string = "dark blue" optional', "color", "str", ('= "dark blue"', "optional")),
        ("color string = 'red'", "color", "str", ("= 'red'",)),
        ("sku unique", "sku", "", ("unique",)),
        ("unique slug", "slug", "", ("unique",)),
        ("phone (optional)", "phone", "", ("optional",)),
        ("name required", "name", "", ()),
        ("name not null", "name", "", ()),
        ("age nullable", "age", "", ("optional",)),
        ("unit price decimal", "unit_price", "decimal", ()),
        ("price per night decimal(8,2)", "price_per_night", "decimal(8,2)", ()),
        ("amount money", "amount", "decimal", ()),
        ("birthday date", "birthday", "date", ()),
        ("due date", "due_date", "", ()),
        ("image url", "image_url", "", ()),
        ("cooking time in minutes", "cooking_time_minutes", "", ()),
        ("amount in cents int", "amount_cents", "int", ()),
        ("contact email", "contact_email", "", ()),
        ("date", "date", "", ()),
        ("email", "email", "", ()),
        ("date of birth", "date_of_birth", "", ()),
        ("the title", "title", "", ()),
        ("a book's title", "book_title", "", ()),
        ("isActive", "is_active", "", ()),
        ("role enum(admin, user)", "role", "enum[admin, user]", ()),
        ('role enum["admin", "user"]', "role", "enum[admin, user]", ()),
        ("role enum[admin|user]", "role", "enum[admin, user]", ()),
        ("status state[a -> b|c]", "status", "state[a -> b|c]", ()),
        ("home state", "home_state", "", ()),
        ("tags string[]", "tags", "json = []", ()),
        ("tags: list of strings", "tags", "json = []", ()),
        ("price: number", "price", "number", ()),
        ("price (number, required)", "price", "number", ()),
        ("active (boolean, default true)", "active", "bool", ("= true",)),
        ("title: string(1-200)", "title", "str(1..200)", ()),
        ("max_attendees: integer (1-500)", "max_attendees", "int(1..500)", ()),
        ("author -> authors", "author", "-> authors", ()),
        ("author -> author", "author", "-> authors", ()),
        ("author: -> authors optional", "author", "-> authors", ("optional",)),
        ("-> posts", "post", "-> posts", ()),
        ("<-> tags", "tags", "<-> tags", ()),
        ("user -> users", "user", "-> users", ()),
    ],
)
def test_what_a_mention_says(text, name, kind, modifiers):
    mention = read_mention(text)

    assert mention is not None
    assert (mention.name, mention.type_text, mention.modifiers) == (name, kind, modifiers)
    assert mention.unknown == ()


@pytest.mark.parametrize(
    ("text", "kind", "choices"),
    [
        ("size S|M|L", "enum[S, M, L]", ("S", "M", "L")),
        ("size S / M / L", "enum[S, M, L]", ("S", "M", "L")),
        ("status (draft, in progress)", "enum[draft, in_progress]", ("draft", "in progress")),
        ("priority (low or high)", "enum[low, high]", ("low", "high")),
        ("type movie or series", "enum[movie, series]", ("movie", "series")),
    ],
)
def test_choices_are_heard(text, kind, choices):
    mention = read_mention(text)

    assert mention is not None
    assert (mention.type_text, mention.choices) == (kind, choices)


def test_choices_behind_a_colon():
    for text in ("status: draft|published", "status: draft or published"):
        assert read_mention(text) == Mention(name="status", type_text="enum[draft, published]")
    mention = read_mention("type: movie, series or game")
    assert mention == Mention(name="type", type_text="enum[movie, series, game]")


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("stock >= 0", "0.."),
        ("stock int >= 0 <= 9", "0..9"),
        ("age at least 18", "18.."),
        ("discount at most 50", "..50"),
        ("score min 0 max 100", "0..100"),
        ("rating 1-5", "1..5"),
        ("rating (1-5)", "1..5"),
        ("rating from 1 to 5", "1..5"),
        ("year between 1950 and 2030", "1950..2030"),
        ("title (required, max 100)", "..100"),
        ("title (max 200 chars)", "..200"),
        ("capacity of at most 20", "..20"),
        ("gpa 0.0-4.0", "0.0..4.0"),
        ("quantity > 0", ">0.."),
    ],
)
def test_bounds_are_heard(text, bounds):
    mention = read_mention(text)

    assert mention is not None
    assert mention.bounds == bounds


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("price decimal positive", ("positive",)),
        ("name str(5) trimmed and lower", ("trimmed", "and", "lower")),
        ("author -> authors soon", ("soon",)),
        ("manager (employee)", ("employee",)),
    ],
)
def test_words_that_mean_nothing_are_named(text, unknown):
    mention = read_mention(text)

    assert mention is not None
    assert mention.unknown == unknown


@pytest.mark.parametrize("text", ["", "  ", "the", "!!!", "alpha beta gamma delta epsilon", "5"])
def test_prose_is_no_field(text):
    assert read_mention(text) is None


@pytest.mark.parametrize(
    ("text", "word"), [("name strng(64)", "strng"), ("name: strng", "strng"), ("name: ?", "?")]
)
def test_a_type_there_is_not(text, word):
    with pytest.raises(PlanError) as caught:
        read_mention(text)
    assert caught.value.word == word


@pytest.mark.parametrize(
    ("text", "choice"), [("in progress", "in_progress"), ("a/b", "a_b"), ("-x-", "-x-"), ("__", "")]
)
def test_choices_have_no_spaces(text, choice):
    assert snake_choice(text) == choice
