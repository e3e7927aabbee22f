"""A sentence becomes a plan, and the plan says what it took from where."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newel_tools.errors import PlanError
from newel_tools.plan.fields import write_line
from newel_tools.plan.plan import ASSUMED, Plan
from newel_tools.plan.text import read_plan, write_plan
from newel_tools.planner.planner import LEAST_COVERAGE, SKELETON, plan_sentence

USERS = "Create user management API with auth"
AGENTS = (
    "agent management API: agents (name str(3..64), description text optional, "
    "model_name str(128), system_prompt text(10..), config json, is_active bool = true), "
    "owned by users"
)
BLOG = "blog with posts, comments and tags; posts belong to users; comments are moderated"
SHOP = "inventory API: products (name, sku unique, price decimal, stock int) and warehouses"


def lines(plan: Plan, resource: str) -> dict[str, str]:
    """Return the fields of a resource as the plan's text has them."""
    found = plan.resource(resource)
    named = {part.name: write_line(part) for part in (*found.fields, *found.relations)}
    if found.states is not None:
        named[found.states.field] = write_line(found.states)
    return named


def roles(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {role.name: role.permissions for role in plan.roles}


def refusal(sentence: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        plan_sentence(sentence)
    return caught.value


# -- the four sentences everything has to plan ---------------------------------------------------


def test_user_management_keeps_users_and_nothing_else():
    plan = plan_sentence(USERS)

    assert plan.service == "user_management"
    assert plan.title == "User management API"
    assert plan.resources == ()
    assert [field.name for field in plan.users.fields] == ["full_name"]
    assert roles(plan) == {"user": (), "reader": (), "admin": ("*",)}
    assert plan.coverage == 1
    assert plan.not_understood == ()
    assert "users have the usual fields full_name" in plan.assumed


def test_agents_have_the_fields_that_were_typed_and_are_their_owners():
    plan = plan_sentence(AGENTS)
    agents = plan.resource("agents")

    assert plan.service == "agent_management"
    assert lines(plan, "agents") == {
        "name": "str(3..64)",
        "description": "text optional",
        "model_name": "str(128)",
        "system_prompt": "text(10..)",
        "config": "json",
        "is_active": "bool = true",
    }
    assert (agents.owner, agents.read) == ("users", "owner")
    assert roles(plan)["user"] == ("agents:read", "agents:write")
    assert plan.provenance["agents.owner"] == "owned by users"
    assert plan.provenance["agents.fields.name"] == "name str(3..64)"


def test_a_blog_has_posts_of_users_moderated_comments_and_shared_tags():
    plan = plan_sentence(BLOG)
    posts, comments, tags = plan.resources

    assert plan.service == "blog"
    assert lines(plan, "posts") == {
        "title": "str(200)",
        "slug": "str(200) unique",
        "body": "text",
        "tags": "<-> tags",
    }
    assert lines(plan, "comments") == {
        "body": "text(..5000)",
        "post": "-> posts",
        "status": "state[pending -> approved|rejected by comments:moderate; visible approved]",
    }
    assert lines(plan, "tags") == {"name": "str(64) unique"}
    assert (posts.owner, comments.owner, tags.owner) == ("users", "users", None)
    assert posts.read == comments.read == tags.read == "signed_in"
    assert "comments:moderate" in roles(plan)["moderator"]
    assert "comments:moderate" not in roles(plan)["user"]
    assert comments.events == ("created", "updated", "deleted", "status_changed")


def test_a_blog_lists_what_it_assumed():
    plan = plan_sentence(BLOG)

    assert plan.provenance["posts.owner"] == "posts belong to users"
    assert plan.provenance["comments.owner"] == ASSUMED
    assert plan.provenance["comments.fields.status"] == "comments are moderated"
    assert plan.provenance["posts.fields.title"] == ASSUMED
    assumed = "\n".join(plan.assumed)
    for note in (
        "posts have the usual fields title, slug, body",
        "posts have many tags",
        "comments link to posts",
        "comments belong to the user who makes them",
        "comments start pending",
        "tags are shared",
        "the role user reads what is shared",
    ):
        assert note in assumed


def test_an_inventory_has_the_products_as_said_and_the_usual_warehouses():
    plan = plan_sentence(SHOP)
    products, warehouses = plan.resources

    assert lines(plan, "products") == {
        "name": "str(200)",
        "sku": "str(64) unique",
        "price": "decimal(12,2, 0..)",
        "stock": "int(0..)",
    }
    assert [field.name for field in warehouses.fields] == ["name", "address", "capacity"]
    assert products.owner is warehouses.owner is None
    assert roles(plan)["user"] == ("products:read", "warehouses:read")
    assert plan.provenance["products.fields.sku"] == "sku unique"
    assert plan.provenance["warehouses.fields.name"] == ASSUMED
    assert "types of products by their names, name str(200), sku str(64) unique" in plan.assumed


@pytest.mark.parametrize("sentence", [USERS, AGENTS, BLOG, SHOP])
def test_every_line_says_where_it_came_from(sentence):
    plan = plan_sentence(sentence)

    wanted = {"service"}
    for resource in plan.resources:
        wanted |= {resource.name, f"{resource.name}.read"}
        wanted |= {f"{resource.name}.fields.{name}" for name in lines(plan, resource.name)}
    wanted |= {f"users.fields.{field.name}" for field in plan.users.fields}
    wanted |= {f"roles.{role.name}" for role in plan.roles}
    assert wanted <= plan.provenance.keys()
    for words in plan.provenance.values():
        assert words == ASSUMED or words in sentence


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentence", ["", "   ", "\n\t", "123 !!! ()", "\0", "😀", "--- ;;;"])
def test_nothing_is_refused_with_an_example(sentence):
    error = refusal(sentence)

    assert error.message == "there is no sentence to plan"
    assert "blog with posts" in error.fix
    assert error.skeleton == SKELETON


@pytest.mark.parametrize(
    "sentence",
    [
        "Erstelle eine API für Benutzerverwaltung mit Anmeldung",
        "Ein Blog mit Beiträgen, Kommentaren und Schlagwörtern",
        "Blog mit Kommentaren und Tags",
        "créer une API pour gérer les livres et les auteurs",
        "una API para gestionar los libros y los autores",
    ],
)
def test_other_languages_are_refused_politely(sentence):
    error = refusal(sentence)

    assert "does not look English" in error.message
    assert "in English" in error.fix
    assert error.skeleton == SKELETON


@pytest.mark.parametrize(
    "sentence",
    [
        "colorless green ideas sleep furiously",
        "asdf qwer yxcv",
        "hello",
        "make me a sandwich",
        "the quick brown fox jumps over the lazy dog",
        "what is the weather like today",
        "online store with Stripe integration and Kafka events",
        "a",
    ],
)
def test_what_is_mostly_not_understood_is_refused_with_a_skeleton(sentence):
    error = refusal(sentence)

    assert "understood" in error.message or "names nothing" in error.message
    assert error.skeleton == SKELETON
    assert len(str(error).splitlines()) == 2


def test_a_refusal_names_the_words_that_were_not_understood():
    error = refusal("online store with Stripe integration and push via Telegram")

    assert "'Stripe integration and push via Telegram'" in error.message
    assert "33%" in error.message


def test_a_topic_without_things_is_refused():
    error = refusal("bakery API")

    assert error.message == "the sentence names nothing that the service would keep"
    assert "in the plural" in error.fix


def test_the_bound_of_what_has_to_be_understood():
    assert plan_sentence("posts API, quux zork and tags").coverage == LEAST_COVERAGE
    assert "50%" in refusal("posts API, quux zork").message


def test_what_was_not_understood_is_listed():
    plan = plan_sentence("blog API with posts, comments and tags using GraphQL")

    assert plan.not_understood == ("GraphQL",)
    assert plan.coverage == pytest.approx(5 / 6, abs=0.01)


def test_a_sentence_has_an_end():
    assert "10000 characters" in refusal("posts " * 2_000).message


@pytest.mark.parametrize(
    ("sentence", "message", "fix"),
    [
        ("agents (name str(9..3))", "the wrong way round (9..3)", "low..high"),
        ("agents (name str(64)", "'(name str(64)' is never closed", "add the ')'"),
        ("agents (name strng(64))", "the type 'strng'", "types are str, text"),
        ("agents (price decimal(4,9))", "4 digits, 9 behind the point", "decimal(p,s)"),
        ("agents (n int = x)", "the default 'x'", "a whole number"),
        ("agents (n int(0..5) = 7)", "the default 7", "within its bounds"),
        ("agents (name: foo)", "'name: foo' has no type", "write 'name: str(64)'"),
        ("agents (name str(5000))", "the lengths 1..5000", "or text for more"),
        ("agents (done bool unique)", "cannot be unique", "remove 'unique'"),
        ("agents (level enum[])", "no choices", "enum[a,b,c]"),
        ("agents (s state[a -> b by x])", "'x' cannot be the by", "resource:verb"),
        ("agents (s state[a -> b; hidden b])", "'hidden b'", "visible published"),
    ],
)
def test_a_contradiction_is_refused_with_its_fix(sentence, message, fix):
    error = refusal(sentence)

    assert message in error.message
    assert fix in error.fix


def test_too_many_things_are_refused():
    nouns = ", ".join(f"{a}{b}ings" for a in "abcdefg" for b in "klmnopq")

    assert "resources" in refusal(f"API with {nouns}").message


# -- names ---------------------------------------------------------------------------------------


def test_names_that_are_taken_are_changed_and_the_change_is_said():
    plan = plan_sentence(
        "classes (class, import, id, created_at, version int, metadata json, type)"
    )

    assert list(lines(plan, "classes")) == [
        "class_class",
        "class_import",
        "class_version",
        "class_metadata",
        "type",
    ]
    assert "classes: class is called class_class, since 'class' is a word of Python" in plan.assumed
    assert "classes have id already" in plan.assumed


@pytest.mark.parametrize(
    ("sentence", "service", "resource"),
    [
        ("bank API with accounts and transactions", "bank", "bank_accounts"),
        (
            "settings API with settings (key unique, value json)",
            "settings_service",
            "settings_entries",
        ),
        ("SQL dialect API with tables (name)", "sql_dialect", "sql_dialect_tables"),
        ("sessions (starts_at)", "sessions_entries_service", "sessions_entries"),
        ("json API with documents", "json_service", "documents"),
        ("notes API", "notes_service", "notes"),
        ("order microservice with orders (total)", "order_service", "orders"),
        ("IoT API with devices", "iot", "devices"),
    ],
)
def test_packages_and_tables_get_safe_names(sentence, service, resource):
    plan = plan_sentence(sentence)

    assert (plan.service, plan.resources[0].name) == (service, resource)


# -- any text ------------------------------------------------------------------------------------

WORDS = (
    "a an the API with and or of for posts comments tags users user belong to belongs owned by are "
    "is moderated public private has have many can be read write everyone editors only title "
    "str(3..64) text unique optional = 5 default true ( ) [ ] , ; : . -> <-> | / enum[a,b] "
    "state[a->b] status statuses draft published class import id version metadata order group soft "
    "delete that which lets allows assigned their author on 1 - 1.5 >= \" ' é _ x_ a1 decimal(4,9) "
    "date url email management blog inventory settings accounts staff news * to-do now"
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200))
def test_any_text_is_planned_or_refused(text):
    check_planned_or_refused(text)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(WORDS.split()), max_size=40).map(" ".join))
def test_any_words_are_planned_or_refused(text):
    check_planned_or_refused(text)


def check_planned_or_refused(text: str) -> None:
    refused: PlanError | None = None
    try:
        plan = plan_sentence(text)
    except PlanError as error:
        refused = error
    if refused is not None:
        assert len(str(refused).splitlines()) == 2
        return
    assert plan.coverage >= LEAST_COVERAGE
    assert read_plan(write_plan(plan)) == plan


def test_the_skeleton_is_a_plan():
    plan = read_plan(SKELETON)

    assert plan.service == "my_service"
    assert lines(plan, "things") == {"name": "str(3..64)", "description": "text optional"}
