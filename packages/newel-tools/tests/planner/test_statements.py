"""What a sentence says about its nouns: lists, fields, states, actions."""

import pytest

from newel_tools.plan.fields import write_line
from newel_tools.plan.plan import Plan
from newel_tools.planner.planner import plan_sentence


def fields(plan: Plan, name: str) -> list[str]:
    found = plan.resource(name)
    return [f"{part.name}: {write_line(part)}" for part in (*found.fields, *found.relations)]


def states(sentence: str, name: str) -> str:
    found = plan_sentence(sentence).resource(name).states
    assert found is not None
    return f"{found.field}: {write_line(found)}"


@pytest.mark.parametrize(
    "sentence",
    [
        "zoo API with animals and cages",
        "zoo API with animals, cages",
        "zoo: animals, cages",
        "A zoo with animals & cages.",
        "zoo API: animals (name), cages (name)",
        "Zoo API for animals and cages",
        "API to manage animals and cages",
        "build a service that tracks animals and cages",
        "an app for managing animals and cages",
        "zoo API with:\n- animals\n- cages",
        "zoo - animals, cages",
        "zoo API with the following resources: animals, cages",
        "CRUD for animals and cages",
        "animals; cages",
        "REST API including animals plus cages",
        "zoo API. It has animals. It has cages.",
    ],
)
def test_a_list_of_nouns_is_heard_in_many_ways(sentence):
    plan = plan_sentence(sentence)

    assert [resource.name for resource in plan.resources] == ["animals", "cages"]
    assert plan.coverage == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "posts (title, body text)",
        "posts with title and body text",
        "API with posts; posts have a title and a body text",
        "posts with a title, body text",
        "posts that have title and body text",
        "posts containing title and body text",
        "post API with title and body text",
        "API: posts (title; body: text)",
        "API - posts: title, body text",
        "posts: title, body: text",
        "blog about post: title, body",
    ],
)
def test_fields_are_heard_in_many_ways(sentence):
    assert fields(plan_sentence(sentence), "posts") == ["title: str(200)", "body: text"]


@pytest.mark.parametrize(
    "sentence",
    [
        "tasks with statuses open, doing and shipped",
        "tasks with status open, doing, shipped",
        "tasks (title, status (open, doing, shipped))",
        "tasks with status: open, doing or shipped",
        "API with tasks; tasks can be open, doing or shipped",
        "tasks with states open / doing / shipped",
        "tasks with status open -> doing -> shipped",
        "tasks with status (open|doing|shipped)",
        "tasks in states open, doing and shipped",
        "tasks whose status is open, doing or shipped",
        "tasks with title and status open, doing or shipped",
        "tasks go from open to doing to shipped",
    ],
)
def test_states_are_heard_in_many_ways(sentence):
    assert states(sentence, "tasks") == "status: state[open -> doing, doing -> shipped]"


def test_a_list_of_states_ends_where_another_noun_begins():
    plan = plan_sentence("shop API with carts with statuses open, sold, and gifts with name")

    assert states("carts with statuses open, sold, and gifts with name", "carts")
    assert fields(plan, "gifts") == ["name: str(255)"]
    assert plan.coverage == 1


def test_states_of_more_than_one_word():
    assert states("tasks with statuses on hold, in progress, done", "tasks").startswith(
        "status: state[on_hold -> in_progress"
    )


def test_a_status_that_is_a_field_stays_one():
    assert "status: enum[a, b]" in fields(plan_sentence("zorks (status enum[a, b])"), "zorks")
    assert "status: str(255)" in fields(plan_sentence("zorks with name, status and size"), "zorks")


def test_known_states_have_their_known_transitions():
    text = states("tasks with statuses todo, in progress and done", "tasks")

    assert text == "status: state[todo -> in_progress|done, in_progress -> todo|done, done -> todo]"


def test_a_second_column_of_states_is_an_enum():
    plan = plan_sentence("tasks (status (open, shut), phase state[one -> two])")

    assert states("tasks (status (open, shut), phase state[one -> two])", "tasks").startswith(
        "status"
    )
    assert "phase: enum[one, two] = one" in fields(plan, "tasks")


def test_what_can_be_done_is_an_action():
    plan = plan_sentence("invoices with number; invoices can be approved, sent and paid")

    assert [action.name for action in plan.resource("invoices").actions] == [
        "approve",
        "send",
        "pay",
    ]
    assert plan.provenance["invoices.actions.pay"] == "invoices can be approved, sent and paid"


def test_one_adjective_is_neither_state_nor_action():
    plan = plan_sentence("animals, cages, keepers; cages can be green")

    assert plan.resource("cages").states is None
    assert plan.not_understood == ("green",)


@pytest.mark.parametrize(
    "sentence",
    [
        "posts and tags with soft delete",
        "posts and tags, soft delete",
        "soft deleted tags and posts",
        "posts and tags; posts are soft deleted; tags are soft deleted",
    ],
)
def test_soft_delete(sentence):
    plan = plan_sentence(sentence)

    assert plan.resource("tags").soft_delete
    assert plan.not_understood == ()


def test_soft_delete_of_one():
    plan = plan_sentence("posts and tags; tags are soft deleted")

    assert not plan.resource("posts").soft_delete
    assert plan.provenance["tags.soft_delete"] == "tags are soft deleted"


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("products where sku is unique", "sku: str(64) unique"),
        ("products; product sku must be unique", "sku: str(64) unique"),
        ("zorks (name, code int = 5); code is unique", "code: int unique"),
        ("zorks (name, code); name is optional", "name: str(255) optional"),
    ],
)
def test_a_word_about_a_field(sentence, line):
    plan = plan_sentence(sentence)

    assert line in fields(plan, plan.resources[0].name)
    assert plan.coverage == 1


def test_a_word_about_no_field_is_not_understood():
    plan = plan_sentence("products, warehouses and suppliers where mood is unique")

    assert plan.not_understood == ("mood is unique",)


def test_what_every_service_has_is_understood_and_plans_nothing():
    plan = plan_sentence(
        "Simple REST API with JWT authentication, role based access control, pagination, "
        "rate limiting, OpenAPI docs, tests and PostgreSQL for widgets"
    )

    assert [resource.name for resource in plan.resources] == ["widgets"]
    assert plan.not_understood == ()


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("tests API with tests (name) and questions", ["tests_entries", "questions"]),
        ("bank API with accounts and transactions", ["bank_accounts", "transactions"]),
    ],
)
def test_what_may_be_a_feature_is_a_thing_where_it_is_described(sentence, names):
    assert [resource.name for resource in plan_sentence(sentence).resources] == names


def test_technology_is_no_thing_to_keep():
    plan = plan_sentence(
        "shop API with products, carts, orders, gifts, coupons and Stripe webhooks"
    )

    assert "webhooks" not in "".join(resource.name for resource in plan.resources)
    assert plan.not_understood == ("Stripe webhooks",)


def test_plurals_that_are_fields_stay_fields():
    plan = plan_sentence("recipes with title, servings and notes")

    assert [resource.name for resource in plan.resources] == ["recipes"]
    assert fields(plan, "recipes") == [
        "title: str(200)",
        "servings: int(1..100) = 2",
        "notes: text(..5000)",
    ]


def test_plurals_among_fields_are_things_of_their_own():
    plan = plan_sentence("recipes with title, steps text and ingredients")

    assert [resource.name for resource in plan.resources] == ["recipes", "ingredients"]
    assert "ingredients: <-> ingredients" in fields(plan, "recipes")


def test_users_have_fields():
    plan = plan_sentence("users (phone str(20) optional, email, password, birthday, id); posts")

    assert [field.name for field in plan.users.fields] == ["phone", "birthday"]
    assert plan.provenance["users.fields.phone"] == "phone str(20) optional"
    assert "users have id already" in plan.assumed


def test_users_with_choices_have_an_enum():
    plan = plan_sentence("users (status (active, banned)); posts")

    assert write_line(plan.users.fields[0]) == "enum[active, banned]"


@pytest.mark.parametrize("field", ["company -> companies", "level state[a -> b]", "company"])
def test_what_users_cannot_have_is_not_understood(field):
    plan = plan_sentence(f"users (name, {field}); companies; contacts; deals; notes; tasks; tags")

    assert [found.name for found in plan.users.fields] == ["name"]
    assert plan.not_understood[0].startswith(field.split(" ->")[0].split("[")[0])


def test_prose_in_a_bracket_is_not_understood():
    plan = plan_sentence(
        "animals (name, with a lot of very long hair), cages, keepers, visits, shops"
    )

    assert fields(plan, "animals") == ["name: str(255)"]
    assert plan.not_understood == ("lot of very long hair",)


def test_a_long_name_is_cut_to_its_last_words():
    plan = plan_sentence("API with very big old rusty garden tools and sheds")

    assert [resource.name for resource in plan.resources] == ["rusty_garden_tools", "sheds"]


def test_items_are_those_that_were_spoken_of():
    plan = plan_sentence("order items (name); orders; items belong to orders")

    assert [resource.name for resource in plan.resources] == ["order_items", "orders"]
    assert "order: -> orders" in fields(plan, "order_items")


def test_soft_delete_said_before_anything_is_for_everything():
    plan = plan_sentence("API with soft delete for posts; tasks")

    assert [resource.soft_delete for resource in plan.resources] == [True, True]


def test_states_may_be_of_something():
    assert states("orders with total, payment status open, paid", "orders") == (
        "payment_status: state[open -> paid]"
    )


def test_what_a_preposition_adds_to_a_field_is_not_understood():
    plan = plan_sentence("expenses with amount in EUR, spent on date, published at, sorted by date")

    assert [line.split(":")[0] for line in fields(plan, "expenses")] == [
        "amount",
        "spent_on",
        "published_at",
    ]
    assert plan.not_understood == ("EUR", "sorted by date")


def test_a_modifier_behind_a_comma_belongs_to_the_field_before():
    plan = plan_sentence("zorks (sku: string, unique, max 9, code, optional)")

    assert fields(plan, "zorks") == ["sku: str(9) unique", "code: str(64) optional"]


def test_users_have_the_roles_that_were_named():
    plan = plan_sentence("zorks; users have a role: admin, editor or viewer")

    assert [role.name for role in plan.roles] == ["user", "reader", "editor", "viewer", "admin"]


def test_what_is_not_wanted_is_no_feature():
    assert "login" in plan_sentence("todos and notes without login").not_understood


def test_a_condition_names_nothing():
    plan = plan_sentence("zorks, cats, dogs, birds and alerts when temperature exceeds 80")

    assert [each.name for each in plan.resources] == ["zorks", "cats", "dogs", "birds", "alerts"]


def test_plurals_of_fields_are_fields_of_each():
    plan = plan_sentence("cards with due dates, captions and emails")

    assert fields(plan, "cards") == ["due_date: date", "caption: str(200)", "email: email"]


def test_names_lose_their_accents():
    assert [each.name for each in plan_sentence("caf\u00e9 API with caf\u00e9s").resources] == [
        "cafes"
    ]


def test_one_word_is_no_list_of_states():
    plan = plan_sentence("orders with status open; items")

    assert plan.resource("orders").states is None
    assert fields(plan, "orders") == ["status_open: str(255)"]


def test_what_can_be_nothing_is_not_changed():
    assert plan_sentence("blog with posts; can be").resource("posts").states is None
