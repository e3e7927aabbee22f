"""The parts of a resource: what was said, and the usual where nothing was."""

import pytest

from newel_tools.plan.fields import write_line
from newel_tools.plan.plan import Plan
from newel_tools.planner.planner import plan_sentence


def fields(plan: Plan) -> dict[str, str]:
    return {field.name: write_line(field) for field in plan.resources[0].fields}


@pytest.mark.parametrize(
    ("mention", "line"),
    [
        ("price", "decimal(12,2, 0..)"),
        ("price decimal", "decimal(12,2, 0..)"),
        ("price decimal(8,3)", "decimal(8,3)"),
        ("price decimal >= 1", "decimal(12,2, 1..)"),
        ("stock int", "int(0..)"),
        ("stock int(-5..5)", "int(-5..5)"),
        ("stock >= 5", "int(5..)"),
        ("stock int >= 1 <= 9", "int(1..9)"),
        ("size int", "int"),
        ("balance decimal", "decimal(12,2)"),
        ("name at least 3", "str(3..255)"),
        ("name 1..64", "str(64)"),
        ("body max 500", "text(..500)"),
        ("grade 1..64", "int(1..64)"),
        ("priority from 1 to 5", "int(1..5)"),
        ("capacity at most 20", "int(0..20)"),
        ("price: number", "decimal(12,2, 0..)"),
        ("zorkiness: number", "float"),
        ("zorkiness 0.0-4.0", "float(0.0..4.0)"),
        ("quantity > 0", "int(1..)"),
        ("price > 0", "decimal(12,2, 0.01..)"),
        ("price < 10", "decimal(12,2, 0..9.99)"),
        ("is_active", "bool = false"),
        ("is_active = true", "bool = true"),
        ("is_active bool", "bool"),
        ("sku unique", "str(64) unique"),
        ("username unique", "str(3..64) unique"),
        ("priority", "enum[low, medium, high, critical] = medium"),
        ("priority unique", "enum[low, medium, high, critical] unique"),
        ("priority = high", "enum[low, medium, high, critical] = high"),
        ("price decimal >= 1 optional", "decimal(12,2, 1..) optional"),
        ("level int(1..5) = 3", "int(1..5) = 3"),
        ("rating 1-10", "int(1..10)"),
        ("color enum(red, green) = red", "enum[red, green] = red"),
    ],
)
def test_a_mention_becomes_a_field(mention, line):
    assert list(fields(plan_sentence(f"zorks ({mention})")).values()) == [line]


def test_a_mention_of_a_known_resource_is_what_it_usually_is_there():
    assert fields(plan_sentence("recipes (servings)"))["servings"] == "int(1..100) = 2"
    assert fields(plan_sentence("zorks (servings)"))["servings"] == "int(0..)"


def test_types_that_were_guessed_are_said():
    plan = plan_sentence("zorks (name, size int, color)")

    assert "types of zorks by their names, name str(255), color str(32)" in plan.assumed


def test_a_field_mentioned_twice_counts_once():
    assert list(fields(plan_sentence("zorks (name, name str(5)); zorks have a name"))) == ["name"]


def test_words_behind_a_type_that_mean_nothing_are_not_understood():
    plan = plan_sentence("zorks (name str trimmed, price decimal positive, color, size)")

    assert plan.not_understood == ("trimmed", "positive")
    assert fields(plan)["name"] == "str(255)"


def test_where_fields_were_said_none_is_added():
    assert list(fields(plan_sentence("products (name)"))) == ["name"]
    assert len(fields(plan_sentence("products"))) > 3


def test_states_that_were_said_replace_the_usual_ones():
    plan = plan_sentence("orders with statuses new, old")

    assert "number" in fields(plan)
    states = plan.resource("orders").states
    assert states is not None
    assert states.values == ("new", "old")


def test_users_have_a_name_where_nothing_is_said_of_them():
    assert [f.name for f in plan_sentence("posts").users.fields] == ["full_name"]
    assert [f.name for f in plan_sentence("posts; users (nickname)").users.fields] == ["nickname"]
    assert plan_sentence("posts; users (email)").users.fields == ()


def test_links_are_in_neither_of_both_twice():
    plan = plan_sentence("books (title, author -> authors, authors), authors")
    names = [relation.name for relation in plan.resource("books").relations]

    assert names == ["author", "authors"]


def test_a_field_said_twice_is_one():
    plan = plan_sentence("beasts (title, title str(9), weight int)")

    assert fields(plan) == {"title": "str(200)", "weight": "int"}


def test_what_every_row_has_is_not_said_again():
    plan = plan_sentence("beasts (title, id, created_at)")

    assert fields(plan) == {"title": "str(200)"}
    assert "beasts have id already" in plan.assumed
    assert "beasts have created_at already" in plan.assumed
