"""How a sentence begins: what is to be built, and what it is called."""

import pytest

from newel_tools.planner.planner import plan_sentence


def built(sentence: str) -> tuple[str, list[str]]:
    plan = plan_sentence(sentence)
    assert plan.coverage == 1, plan.not_understood
    return plan.service, [resource.name for resource in plan.resources]


@pytest.mark.parametrize(
    ("sentence", "service", "resources"),
    [
        ("todo API", "todo_service", ["todos"]),
        ("Create a todo list app", "todo_list", ["todos"]),
        ("Build payment processing microservice", "payment_processing", ["payments"]),
        ("agent management API", "agent_management", ["agents"]),
        ("zork management system", "zork_management", ["zorks"]),
        ("zork tracker", "zork_tracker", ["zorks"]),
        ("project management", "project_management", ["projects", "tasks"]),
        ("projects API", "projects_service", ["projects"]),
        ("book API", "book_service", ["books"]),
        ("Please make me a simple, secure blog", "blog", ["posts"]),
        ("I want a modern FastAPI service for notes", "notes_service", ["notes"]),
        ("we need a backend for our bakery with cakes", "bakery", ["cakes"]),
        ("REST API for a pet clinic", "pet_clinic", ["owners", "pets", "visits"]),
        ("CRM", "crm", ["companies", "contacts", "deals"]),
        ("booking API for a hotel", "booking_service", ["bookings"]),
        (
            "inventory management",
            "inventory_management",
            ["products", "warehouses", "stock_levels"],
        ),
        ("service to track expenses", "expenses_service", ["expenses"]),
        ("an app which stores recipes", "recipes_service", ["recipes"]),
        ("microservice handling refunds", "refunds_service", ["refunds"]),
        ("list of movies", "list_of_movies", ["movies"]),
        ("restaurants API", "restaurants_service", ["restaurants"]),
        ("blog with comments", "blog", ["comments", "posts"]),
        ("blog with authors", "blog", ["authors"]),
        ("services API: services (name)", "services_service", ["services_entries"]),
    ],
)
def test_the_package_and_what_it_keeps(sentence, service, resources):
    assert built(sentence) == (service, resources)


@pytest.mark.parametrize(
    ("sentence", "service"),
    [
        ("user management API", "user_management"),
        ("users API", "users_service"),
        ("API with auth", "users_service"),
        ("authentication service", "users_service"),
        ("login and registration API", "login"),
        ("account management with roles and permissions", "account_management"),
        ("identity service", "identity"),
        ("API with login, JWT and RBAC", "users_service"),
        ("user API with name and phone", "user_service"),
    ],
)
def test_a_service_for_users_keeps_users_only(sentence, service):
    assert built(sentence) == (service, [])


@pytest.mark.parametrize(
    ("sentence", "title"),
    [
        ("todo API", "Todo API"),
        ("CRM", "CRM API"),
        ("Create a Blog Platform with posts", "Blog API"),
        ("API for managing books and authors", "Books and authors API"),
        ("API with auth", "Users API"),
        ("e-commerce shop with products", "E-commerce shop API"),
    ],
)
def test_the_title(sentence, title):
    assert plan_sentence(sentence).title == title


def test_what_the_topic_stands_for_is_said():
    plan = plan_sentence("help desk")

    assert "help desk: taken to be about tickets, comments" in plan.assumed
    assert plan.provenance["tickets"] == ""
    assert plan.provenance["service"] == "help desk"


def test_fields_may_follow_the_topic():
    plan = plan_sentence("book API with title, author str(80) and pages")

    assert [field.name for field in plan.resource("books").fields] == ["title", "author", "pages"]


@pytest.mark.parametrize(
    "sentence", ["book API with authors (name)", "inventory API with product", "book API with auth"]
)
def test_things_and_features_behind_the_topic_are_no_fields(sentence):
    plan = plan_sentence(sentence)

    assert "auth" not in str(plan.resources[0].fields)
    assert plan.coverage == 1


def test_a_thing_in_the_singular_with_fields_is_a_thing():
    plan = plan_sentence("bakery API with cake (name, price) and customer")

    assert [resource.name for resource in plan.resources] == ["cakes", "customers"]


def test_a_first_noun_with_fields_is_no_topic():
    assert built("zork (name)") == ("zorks_service", ["zorks"])
    assert built("users (phone)") == ("users_service", [])


def test_a_long_beginning_is_no_topic():
    plan = plan_sentence("posts, comments, tags, notes, todos; one two three four five six words")

    assert plan.service == "posts_service"
