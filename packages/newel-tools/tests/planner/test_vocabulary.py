"""What is usual."""

import pytest

from newel_tools.plan.fields import read_line
from newel_tools.plan.names import field_conflict, resource_conflict
from newel_tools.plan.plan import Field, Relation, States
from newel_tools.planner.vocabulary import SATELLITES, Usual, vocabulary


def test_every_usual_line_can_be_read():
    known = vocabulary()
    for name, usual in known.resources.items():
        assert resource_conflict(name.partition("@")[0]) is None, name
        for text in usual.fields:
            line = read_line(*text.split(": ", 1))
            assert isinstance(line, Field | States)
            field = line.name if isinstance(line, Field) else line.field
            assert field_conflict(field) is None, f"{name}.{field}"
        for text in usual.links:
            assert isinstance(read_line(*text.split(": ", 1)), Relation), f"{name}: {text}"


def test_permissions_of_usual_states_are_of_their_own_resource():
    for name, usual in vocabulary().resources.items():
        for text in usual.fields:
            line = read_line(*text.split(": ", 1))
            for step in line.transitions if isinstance(line, States) else ():
                assert step.by is None or step.by.startswith(f"{name}:")


def test_every_service_keeps_resources_that_are_known_or_plain():
    for name, resources in vocabulary().domains.items():
        assert resources, name
        assert all(resource_conflict(r) is None or r == "tables" for r in resources)


def test_satellites_are_known():
    known = vocabulary()
    assert {"comments", "tags", "categories"} <= SATELLITES & known.resources.keys()


def test_an_unknown_resource_has_a_name_and_a_description():
    usual = vocabulary().usual("widgets")

    assert usual == Usual()
    assert usual.fields[0] == "name: str(255)"
    assert usual.keeping == "shared"


def test_the_last_word_tells_where_the_whole_name_is_not_known():
    known = vocabulary()

    assert known.usual("product_categories") == known.usual("categories")
    assert known.usual("order_items") != known.usual("items")


def test_tickets_beside_events_are_other_tickets():
    known = vocabulary()

    assert "priority" in known.usual("tickets").fields[2]
    assert "seat" in known.usual("tickets", beside=["events"]).fields[2]
    assert known.usual("tickets", beside=["users"]) == known.usual("tickets")


@pytest.mark.parametrize(("noun", "is_known"), [("post", True), ("posts", True), ("zork", False)])
def test_knows_one_and_many(noun, is_known):
    assert vocabulary().knows(noun) is is_known


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("blog", "blog"),
        ("small town library", "library"),
        ("issue tracker", "issue tracker"),
        ("pet clinic", "pet clinic"),
        ("payment processing", "payment"),
        ("bakery", None),
        ("weblog", None),
    ],
)
def test_the_longest_name_of_a_service_counts(words, name):
    found = vocabulary().domain(words)

    assert (found and found[0]) == name


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("email", "email"),
        ("contact_email", "email"),
        ("avatar_url", "url"),
        ("price", "decimal(12,2, 0..)"),
        ("unit_price", "decimal(12,2, 0..)"),
        ("price_per_night", "decimal(12,2, 0..)"),
        ("balance", "decimal(12,2)"),
        ("stock", "int(0..)"),
        ("quantity", "int(0..)"),
        ("number_of_seats", "int(0..)"),
        ("age", "int(0..150)"),
        ("rating", "int(1..5)"),
        ("health_score", "int(0..100)"),
        ("latitude", "float(-90..90)"),
        ("is_active", "bool = false"),
        ("created_on", "date"),
        ("due_date", "date"),
        ("starts_at", "datetime"),
        ("description", "text(..5000)"),
        ("body", "text"),
        ("config", "json"),
        ("sku", "str(64)"),
        ("isbn", "str(10..17)"),
        ("currency", "str(3..3)"),
        ("phone", "str(32)"),
        ("username", "str(3..64) unique"),
        ("first_name", "str(100)"),
        ("title", "str(200)"),
        ("priority", "enum[low, medium, high, critical] = medium"),
        ("name", "str(255)"),
        ("zork", "str(255)"),
        ("ip_address", "str(45)"),
    ],
)
def test_a_field_is_what_its_name_says(field, line):
    known = vocabulary()

    assert known.line(field) == line
    assert known.is_field(field) is (field != "zork")
    assert isinstance(read_line(field, line), Field)


def test_every_pattern_names_a_type():
    for pattern, line in vocabulary().names.items():
        assert isinstance(read_line("x", line), Field | Relation), pattern
