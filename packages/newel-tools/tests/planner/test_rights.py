"""Who may do what."""

import pytest

from newel_tools.plan.fields import write_line
from newel_tools.plan.plan import Plan
from newel_tools.planner.planner import plan_sentence


def roles(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {role.name: role.permissions for role in plan.roles}


@pytest.mark.parametrize(
    "sentence",
    [
        "zorks and cats; zorks are public",
        "cats and public zorks",
        "zorks, cats; everyone can read zorks",
        "zorks, cats; anybody may see zorks",
        "zorks, cats; the public can read zorks",
        "zorks, cats; visitors can browse zorks",
        "cats; zorks are visible to everyone",
        "cats; zorks are readable by anyone",
        "cats; zorks are open to all",
        "cats; zorks are visible to the public",
        "cats; zorks are publicly readable",
        "cats; zorks; everyone can read them",
    ],
)
def test_public_is_heard_in_many_ways(sentence):
    plan = plan_sentence(sentence)

    assert plan.resource("zorks").read == "public"
    assert plan.resource("cats").read == "signed_in"
    assert plan.coverage == 1


@pytest.mark.parametrize(
    ("sentence", "kept", "permissions"),
    [
        ("gallery; users upload zorks", ["zorks"], {}),
        (
            "gallery; users write zorks and editors review zorks",
            ["zorks"],
            {"editor": "zorks:moderate"},
        ),
        ("gallery; customers book zorks", ["zorks", "bookings"], {"user": "bookings:write"}),
        (
            "gallery with zorks; admins manage users; viewers only read zorks",
            ["zorks"],
            {"viewer": "zorks:read"},
        ),
        ("gallery with number readings and zorks", ["number_readings", "zorks"], {}),
    ],
)
def test_what_somebody_does_is_no_thing_to_keep(
    sentence: str, kept: list[str], permissions: dict[str, str]
):
    plan = plan_sentence(sentence)

    assert [resource.name for resource in plan.resources] == kept
    assert [role for role, right in permissions.items() if right not in roles(plan)[role]] == []
    assert plan.not_understood == ()


def test_users_own_what_they_upload_without_a_can():
    assert plan_sentence("gallery; users upload zorks").resource("zorks").owner == "users"


@pytest.mark.parametrize(
    ("sentence", "missed"),
    [
        ("gallery with zorks; users frob zorks", "users frob"),
        ("gallery with zorks, cats and dogs; viewers only read", "viewers only read"),
    ],
)
def test_what_a_verb_means_that_is_not_known_is_not_guessed(sentence: str, missed: str):
    plan = plan_sentence(sentence)

    assert "zorks" in [resource.name for resource in plan.resources]
    assert not [
        resource.name
        for resource in plan.resources
        if "users" in resource.name or "viewers" in resource.name
    ]
    assert plan.not_understood == (missed,)


@pytest.mark.parametrize(
    "sentence", ["public API with zorks and cats", "zorks and cats. Everyone can read everything"]
)
def test_all_is_public_when_the_service_is(sentence):
    plan = plan_sentence(sentence)

    assert {resource.read for resource in plan.resources} == {"public"}


def test_nothing_is_public_unless_it_was_said():
    plan = plan_sentence("blog with posts, comments, tags, notes and zorks")

    assert "public" not in {resource.read for resource in plan.resources}


def test_public_rows_still_have_their_owner():
    posts = plan_sentence("posts belong to users; posts are public").resource("posts")

    assert (posts.owner, posts.read) == ("users", "public")


def test_shared_rows_have_none():
    plan = plan_sentence("shared notes and todos; todos are shared by all users")

    assert [resource.owner for resource in plan.resources] == [None, None]
    assert plan.coverage == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "zorks; zorks are moderated",
        "moderated zorks",
        "zorks; zorks can be moderated",
        "zorks; moderators can approve zorks",
        "zorks owned by users and moderated",
    ],
)
def test_moderated_is_heard_in_many_ways(sentence):
    plan = plan_sentence(sentence)
    states = plan.resource("zorks").states

    assert states is not None
    assert write_line(states).endswith("by zorks:moderate; visible approved]")
    assert "zorks:moderate" in roles(plan)["moderator"]
    assert "zorks:moderate" not in roles(plan)["user"]
    assert plan.coverage == 1


def test_what_is_moderated_is_read_by_others():
    assert plan_sentence("moderated zorks owned by users").resource("zorks").read == "signed_in"


def test_editors_moderate_where_they_are_named():
    plan = plan_sentence("zorks; zorks are moderated by editors")

    assert roles(plan)["editor"] == ("zorks:read", "zorks:moderate")
    assert "moderator" not in roles(plan)
    assert plan.provenance["roles.editor"] == "zorks are moderated by editors"


def test_moderated_by_nobody_in_particular():
    plan = plan_sentence("zorks, tags, posts, cats are moderated by")

    assert "moderator" in roles(plan)


def test_a_status_of_their_own_leaves_moderation_another_name():
    plan = plan_sentence("zorks (name, status enum[new, old]); zorks are moderated")
    states = plan.resource("zorks").states

    assert states is not None
    assert states.field == "moderation"


@pytest.mark.parametrize(
    ("sentence", "role", "permissions"),
    [
        ("zorks; editors can write zorks", "editor", ("zorks:read", "zorks:write")),
        (
            "zorks; editors may create, edit and delete zorks",
            "editor",
            ("zorks:read", "zorks:write"),
        ),
        ("zorks; auditors can read zorks", "auditor", ("zorks:read",)),
        (
            "zorks; only store managers can edit zorks",
            "store_manager",
            ("zorks:read", "zorks:write"),
        ),
        ("an app that allows editors to manage zorks", "editor", ("zorks:read", "zorks:write")),
        (
            "zorks and cats; editors can write zorks and cats",
            "editor",
            ("zorks:read", "cats:read", "zorks:write", "cats:write"),
        ),
        (
            "zorks; editors can write zorks; editors can approve zorks",
            "editor",
            ("zorks:read", "zorks:write", "zorks:moderate"),
        ),
    ],
)
def test_roles_that_are_named_get_what_was_said(sentence, role, permissions):
    plan = plan_sentence(sentence)

    assert roles(plan)[role] == permissions
    assert plan.coverage == 1


def test_users_keep_what_is_usual_beside_a_role():
    plan = plan_sentence("notes; readers can read notes; users can see notes")

    assert roles(plan)["user"] == ("notes:read", "notes:write")
    assert roles(plan)["reader"] == ("notes:read",)


def test_what_editors_write_users_do_not_own():
    assert plan_sentence("articles; editors can write articles").resource("articles").owner is None
    assert plan_sentence("articles").resource("articles").owner == "users"


def test_admins_may_anyhow():
    plan = plan_sentence("zorks; only admins can delete zorks; admins can manage users")

    assert roles(plan) == {"user": ("zorks:read",), "reader": ("zorks:read",), "admin": ("*",)}
    assert plan.coverage == 1


def test_a_role_that_is_a_thing_is_no_role():
    plan = plan_sentence("teachers, courses, pupils, exams; teachers can write courses")

    assert "teacher" not in roles(plan)
    assert plan.not_understood == ("teachers can write",)


def test_who_may_do_what_to_nothing_is_not_understood():
    plan = plan_sentence(
        "zorks, cats, dogs, birds, dishes, boxes; editors can write; that lets users zork"
    )

    assert "editor" not in roles(plan)


def test_objects_of_a_verb_end_where_a_new_sentence_begins():
    plan = plan_sentence("editors can write zorks and cats are public")

    assert "cats:write" not in roles(plan)["editor"]
    assert plan.resource("cats").read == "public"


def test_users_see_what_they_write_and_go_on_about_it():
    plan = plan_sentence("app where users can save links with title and url")

    assert [field.name for field in plan.resource("links").fields] == ["title", "url"]


def test_staff_work_on_the_same_rows():
    plan = plan_sentence("hotel with rooms, guests and bookings")

    assert plan.resource("bookings").owner is None
    assert plan_sentence("hotel with rooms and bookings").resource("bookings").owner == "users"


def test_operators_move_what_users_may_not():
    plan = plan_sentence("payment service with payments")

    assert "payments:settle" in roles(plan)["operator"]
    assert "payments:settle" not in roles(plan)["user"]


def test_a_compound_name_has_permissions_of_its_own():
    plan = plan_sentence("customer payments owned by users")
    states = plan.resource("customer_payments").states

    assert states is not None
    assert {step.by for step in states.transitions} == {"customer_payments:settle"}
