"""How resources hang together."""

import pytest

from newel_tools.plan.fields import write_line
from newel_tools.plan.plan import Plan
from newel_tools.planner.planner import plan_sentence


def links(plan: Plan, name: str) -> list[str]:
    return [f"{link.name}: {write_line(link)}" for link in plan.resource(name).relations]


@pytest.mark.parametrize(
    "sentence",
    [
        "cages and beasts; beasts belong to cages",
        "cages and beasts; each beast belongs to a cage",
        "cages, beasts; cages have many beasts",
        "cages, beasts; each cage has many beasts",
        "cages and beasts (cage -> cages)",
        "cages and beasts (cage)",
        "cages and beasts (cage_id)",
        "cages; beasts in cages",
        "cages; beasts -> cages",
        "cages and beasts belonging to cages",
        "a beast belongs to a cage",
        "cages have beasts",
        "each cage contains one or more beasts",
        "beasts have exactly one cage",
        "cages with beasts",
        "cages with name, beasts, size and colour",
    ],
)
def test_many_to_one_is_heard_in_many_ways(sentence):
    plan = plan_sentence(sentence)

    assert links(plan, "beasts") == ["cage: -> cages"]
    assert links(plan, "cages") == []
    assert plan.coverage == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "keepers belong to many beasts",
        "a keeper has many beasts and a beast can be in many keepers",
        "keepers, beasts; keepers can be members of many beasts",
        "keepers and beasts; keepers have many beasts and beasts have many keepers",
        "keepers <-> beasts",
        "keepers (name, beasts), beasts",
        "keepers (name), beasts (keepers <-> keepers)",
    ],
)
def test_many_to_many_is_heard_in_many_ways(sentence):
    plan = plan_sentence(sentence)
    both = links(plan, "keepers") + links(plan, "beasts")

    assert [line for line in both if "<->" in line]
    assert len([line for line in both if "<->" in line]) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "wishes; wishes belong to users",
        "wishes owned by users",
        "wishes (name), owned by users",
        "wishes (name). Owned by users",
        "wishes; each wish is owned by a user",
        "wishes; wishes are owned by their author",
        "wishes; wishes are created by users",
        "wishes written by authors",
        "wishes; users have many wishes",
        "wishes; users can create wishes",
        "a service that lets users create wishes",
        "wishes (name, user)",
        "wishes (name, owner)",
        "wishes (name, user_id)",
        "wishes (name, owner -> users)",
        "wishes -> users",
        "wishes of users",
        "private wishes",
        "wishes; wishes are private",
        "wishes; wishes are private to their owner",
    ],
)
def test_owning_is_heard_in_many_ways(sentence):
    plan = plan_sentence(sentence)

    assert plan.resource("wishes").owner == "users"
    assert plan.resource("wishes").read == "owner"
    assert links(plan, "wishes") == []
    assert plan.coverage == 1


def test_an_author_owns_what_is_written():
    assert plan_sentence("posts (title, author)").resource("posts").owner == "users"
    assert plan_sentence("books (title, author)").resource("books").owner is None


def test_owners_and_authors_that_are_kept_are_no_users():
    plan = plan_sentence("pet clinic with owners, pets and visits; pets belong to owners")

    assert plan.resource("pets").owner is None
    assert links(plan, "pets") == ["pet_owner: -> owners"]


def owned(sentence: str) -> list[str]:
    return [resource.name for resource in plan_sentence(sentence).resources if resource.owner]


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("cages and beasts owned by users", ["cages", "beasts"]),
        ("cages, keepers and beasts owned by users", ["beasts"]),
        ("cages, keepers and beasts, owned by users", ["cages", "keepers", "beasts"]),
        ("cages (name), beasts (name) owned by users", ["beasts"]),
        ("cages and beasts; beasts are owned by users", ["beasts"]),
        ("cages and beasts; cages and beasts belong to users", ["cages", "beasts"]),
        ("cages and beasts that belong to users", ["beasts"]),
        ("cages; beasts (name); owned by users", ["beasts"]),
    ],
)
def test_what_is_owned_by_users(sentence, names):
    assert owned(sentence) == names


def test_two_owners_and_the_next_sentence():
    plan = plan_sentence("visits belong to a pet and a vet and pets belong to users")

    assert links(plan, "visits") == ["pet: -> pets", "vet: -> vets"]
    assert plan.resource("pets").owner == "users"
    assert plan.coverage == 1


def test_a_comment_of_a_user_on_a_post():
    plan = plan_sentence("posts, comments; comments belong to a post and a user")

    assert links(plan, "comments") == ["post: -> posts"]
    assert plan.resource("comments").owner == "users"


def test_whoever_owns_may_be_named_first_here():
    plan = plan_sentence("orders belong to customers")

    assert [resource.name for resource in plan.resources] == ["orders", "customers"]
    assert links(plan, "orders") == ["customer: -> customers"]


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("tasks assigned to users", "assignee: -> users optional"),
        ("tasks; tasks are assigned to users", "assignee: -> users optional"),
        ("tasks and robots; tasks are assigned to robots", "robot: -> robots optional"),
    ],
)
def test_what_is_assigned_may_be_nobodys(sentence, line):
    assert line in links(plan_sentence(sentence), "tasks")


def test_assigned_to_nothing_is_not_understood():
    plan = plan_sentence("tasks, tags, posts, comments are assigned to über, notes")

    assert "assignee" not in str(plan.resources)


@pytest.mark.parametrize("tie", ["belong to", "have many", "<->", "assigned to", "on"])
def test_a_tie_to_nothing_is_left_alone(tie):
    plan = plan_sentence(f"cages, beasts, keepers {tie}")

    assert links(plan, "beasts") == []


def test_a_tie_of_nothing_is_left_alone():
    plan = plan_sentence("belong to users; have many; <-> ; cages and beasts, keepers")

    assert not any(resource.owner for resource in plan.resources)


def test_usual_ties_are_assumed_where_both_are_there():
    plan = plan_sentence("shop with products, categories, orders and order items")

    assert links(plan, "products") == ["category: -> categories optional"]
    assert links(plan, "order_items") == ["order: -> orders", "product: -> products"]
    assert plan.provenance["order_items.fields.order"] == ""
    assert "order_items link to orders" in plan.assumed


def test_a_tie_that_was_said_is_not_assumed_again():
    plan = plan_sentence("books (title, author -> authors), authors")

    assert links(plan, "books") == ["author: -> authors"]


def test_tags_said_on_the_other_side_are_not_assumed_again():
    plan = plan_sentence("tags (name, posts <-> posts), posts")

    assert links(plan, "tags") == ["posts: <-> posts"]
    assert links(plan, "posts") == []


def test_both_sides_of_many_to_many_are_one_table():
    plan = plan_sentence("students (name, courses), courses (title, students)")

    assert links(plan, "students") + links(plan, "courses") == ["courses: <-> courses"]


def test_what_hangs_on_one_thing_hangs_on_the_thing_there_is():
    assert links(plan_sentence("zorks and comments"), "comments") == ["zork: -> zorks"]
    assert links(plan_sentence("zorks and tags"), "zorks") == ["tags: <-> tags"]
    assert links(plan_sentence("zorks and categories"), "zorks") == ["category: -> categories"]


def test_what_hangs_on_several_things_hangs_on_one_of_them():
    plan = plan_sentence("posts, photos, comments")

    assert links(plan, "comments") == ["post: -> posts optional", "photo: -> photos optional"]


def test_what_was_hung_up_stays_there():
    plan = plan_sentence("posts, comments on posts; likes on comments")

    assert links(plan, "likes") == ["comment: -> comments"]
    assert links(plan, "comments") == ["post: -> posts"]


def test_a_ring_of_links_has_a_beginning():
    plan = plan_sentence("teams (name, leader -> players), players (name, team -> teams)")

    assert links(plan, "teams") == ["leader: -> players"]
    assert links(plan, "players") == ["team: -> teams optional"]
    assert "players may exist without teams: one has to come first" in plan.assumed


def test_a_link_to_itself_may_be_missing():
    assert links(plan_sentence("categories (name, parent -> categories)"), "categories") == [
        "parent: -> categories optional"
    ]


@pytest.mark.parametrize("parent", ["parent", "parent category", "parent_id"])
def test_a_parent_is_one_of_the_same_kind(parent: str):
    plan = plan_sentence(f"categories (name, {parent})")

    assert len(links(plan, "categories")) == 1
    assert links(plan, "categories")[0].endswith(": -> categories optional")
    assert not [note for note in plan.assumed if "come first" in note]


def test_who_does_it_is_a_user():
    assert links(plan_sentence("tasks (title, assignee)"), "tasks") == [
        "assignee: -> users optional"
    ]


def test_one_thing_of_a_user_is_kept_with_the_user():
    plan = plan_sentence("each user has one profile with bio and avatar; users have many notes")

    assert [field.name for field in plan.users.fields] == ["bio", "avatar"]
    assert plan.resource("notes").owner == "users"
    assert "profile: kept in fields of users" in "".join(plan.assumed).replace("one ", "")


def test_a_link_to_what_was_not_named_brings_it_along():
    plan = plan_sentence("books (title, author -> authors)")

    assert [resource.name for resource in plan.resources] == ["books", "authors"]
    assert plan.provenance["authors"] == "author -> authors"


def test_links_keep_their_words():
    plan = plan_sentence("books (title, author -> authors optional unique)")
    relation = plan.resource("books").relations[0]

    assert (relation.optional, relation.unique) == (True, True)


def test_a_singular_that_python_keeps_gets_another_name():
    plan = plan_sentence("classes and visits; visits belong to classes")

    assert links(plan, "visits") == ["visit_class: -> classes"]


def test_private_and_moderated_behind_the_owner():
    plan = plan_sentence("playlists are owned by users and private; songs")

    assert plan.resource("playlists").read == "owner"
    assert plan.coverage == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "users have many cages, beasts and zoos",
        "users have many cages and beasts, zoos",
    ],
)
def test_users_can_have_several(sentence):
    plan = plan_sentence(sentence)

    assert {each.name: each.owner for each in plan.resources} == {
        "cages": "users",
        "beasts": "users",
        "zoos": "users",
    }


def test_what_is_said_twice_is_one_link():
    plan = plan_sentence("beasts belong to cages; beasts belong to cages; cages have many beasts")

    assert links(plan, "beasts") == ["cage: -> cages"]


def test_a_preposition_before_users_makes_an_owner():
    plan = plan_sentence("reviews on users")

    assert plan.resource("reviews").owner == "users"
    assert links(plan, "reviews") == []
