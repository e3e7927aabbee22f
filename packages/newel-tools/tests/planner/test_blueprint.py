"""A plan of a draft: owners, readers, roles, and the account of every line."""

import pytest

from newel_tools.plan.plan import ASSUMED
from newel_tools.planner.planner import plan_sentence


@pytest.mark.parametrize(
    ("name", "owner", "read"),
    [
        ("zorks", None, "signed_in"),
        ("products", None, "signed_in"),
        ("notes", "users", "owner"),
        ("posts", "users", "signed_in"),
        ("comments", "users", "signed_in"),
    ],
)
def test_who_owns_and_reads_what_nothing_was_said_of(name, owner, read):
    plan = plan_sentence(f"API with {name}")
    made = plan.resource(name)

    assert (made.owner, made.read) == (owner, read)
    assert plan.provenance[f"{name}.read"] == ASSUMED
    assert (f"{name}.owner" in plan.provenance) == (owner is not None)
    assert any(note.startswith(f"{name} ") for note in plan.assumed)


def test_assumptions_of_owning_are_said_in_words():
    notes = plan_sentence("notes, posts and products").assumed

    assert "notes belong to the user who makes them" in notes
    assert "notes are read by their owner only" in notes
    assert "posts are read by every signed-in user, and changed by their owner only" in notes
    assert (
        "products are shared: every signed-in user reads them, writing needs products:write"
        in notes
    )


def test_what_was_said_is_not_assumed():
    plan = plan_sentence("notes owned by users; notes are public")

    assert not any(note.startswith("notes belong") for note in plan.assumed)
    assert plan.provenance["notes.owner"] == "owned by users"
    assert plan.provenance["notes.read"] == "notes are public"


def test_all_that_is_public_or_soft_deleted_says_where_it_was_said():
    plan = plan_sentence("public API with zorks and cats, soft delete")

    assert plan.provenance["cats.read"] == "public"
    assert plan.provenance["zorks.soft_delete"] == "soft delete"


def test_admin_comes_last_and_may_do_everything():
    plan = plan_sentence("posts; editors can write posts; comments are moderated")

    assert plan.roles[-1].name == "admin"
    assert plan.roles[-1].permissions == ("*",)
    assert plan.provenance["roles.editor"] == "editors can write posts"
    assert plan.provenance["roles.user"] == ASSUMED


def test_moderators_that_are_named_stay():
    plan = plan_sentence("posts; moderators can approve posts")

    assert "moderator" in [role.name for role in plan.roles]


def test_actions_are_listed_once():
    plan = plan_sentence("zorks; zorks can be activated; zorks can be activated and paid")

    assert [action.name for action in plan.resource("zorks").actions] == ["activate", "pay"]


def test_a_package_without_a_topic_is_called_after_its_first_resource():
    plan = plan_sentence("REST API with zorks and cats")

    assert plan.service == "zorks_service"
    assert plan.title == "Zorks and cats API"
    assert plan.provenance["service"] == ASSUMED


def test_a_topic_too_long_for_a_package_is_cut():
    plan = plan_sentence(f"{'zork' * 20} API with cats and dogs and birds")

    assert len(plan.service) <= 60
