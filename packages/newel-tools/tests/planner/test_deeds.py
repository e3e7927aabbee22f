"""What somebody does to something: rights, links, and what is left behind."""

import pytest

from newel_tools.plan.fields import write_line
from newel_tools.plan.plan import Plan
from newel_tools.planner.planner import plan_sentence


def links(plan: Plan, name: str) -> list[str]:
    return [f"{link.name}: {write_line(link)}" for link in plan.resource(name).relations]


def kept(plan: Plan) -> set[str]:
    return {resource.name for resource in plan.resources}


@pytest.mark.parametrize(
    "sentence",
    [
        "keepers enrol in beasts",
        "keepers can visit many beasts",
        "zoo: cages, keepers feed beasts",
        "zoo with cages; keepers feed the beasts",
        "each keeper works with many beasts",
        "a keeper visits many beasts",
        "zoo API; keepers apply to beasts",
    ],
)
def test_what_is_done_to_many_is_many_to_many_and_said_so(sentence: str):
    plan = plan_sentence(sentence)

    assert links(plan, "keepers") == ["beasts: <-> beasts"]
    assert plan.not_understood == ()
    assert [note for note in plan.assumed if note.endswith("taken as many to many")]


@pytest.mark.parametrize(
    ("sentence", "name", "link"),
    [
        ("keepers report to a chief", "keepers", "chief: -> chiefs"),
        ("each keeper works in a cage; cages", "keepers", "cage: -> cages"),
        ("zoos and cages; zoos publish cages", "cages", "zoo: -> zoos"),
        ("a beast belongs to a cage", "beasts", "cage: -> cages"),
        ("teachers teach courses", "courses", "teacher: -> teachers"),
    ],
)
def test_one_is_a_link_to_one(sentence: str, name: str, link: str):
    plan = plan_sentence(sentence)

    assert link in links(plan, name)
    assert plan.not_understood == ()


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        ("gallery; users like zorks", "likes"),
        ("gallery with zorks; users can comment on zorks", "comments"),
        ("gallery with zorks; users upvote them", "votes"),
        ("gallery; customers review zorks", "reviews"),
        ("gallery; users rent zorks", "rentals"),
        ("gallery; users upload zorks, rate zorks", "ratings"),
    ],
)
def test_what_a_verb_leaves_behind_hangs_on_its_object(sentence: str, left: str):
    plan = plan_sentence(sentence)

    assert kept(plan) == {"zorks", left}
    assert links(plan, left) == ["zork: -> zorks"]
    assert plan.not_understood == ()


def test_one_thing_after_another_is_done_by_the_same_people():
    plan = plan_sentence("forum: users create topics, reply to topics, like replies")

    assert kept(plan) == {"topics", "replies", "likes"}
    assert links(plan, "likes") == ["reply: -> replies"]
    assert plan.resource("topics").owner == "users"


def test_a_compound_behind_a_verb_is_no_second_verb():
    plan = plan_sentence("shop; customers create orders, order items and payments")

    assert {"orders", "order_items", "payments"} <= kept(plan)


@pytest.mark.parametrize(
    "sentence",
    [
        "sales orders, sports clubs",
        "API for media library items and goods receipts",
        "company news articles and order items",
    ],
)
def test_a_compound_is_one_name(sentence: str):
    assert all("_" in name for name in kept(plan_sentence(sentence)))


@pytest.mark.parametrize(
    ("sentence", "missed"),
    [
        ("gallery with zorks and cats; users frob zorks", "users frob"),
        (
            "gallery with zorks, cats and dogs; anonymous visitors can write zorks",
            "anonymous visitors",
        ),
        ("gallery with zorks, cats and dogs; admins can frob zorks", "admins can frob"),
        ("clubs; cats, dogs, birds, zorks; each club sees only its own beasts", "club sees"),
        ("clubs and cats; zorks; activate users", "activate users"),
        ("notes; users can log in; only admins can delete notes", "admins can delete notes"),
        ("the service stores notes and users share notes with other users", "users share"),
    ],
)
def test_what_cannot_be_held_is_not_understood(sentence: str, missed: str):
    plan = plan_sentence(sentence)

    assert plan.not_understood[0].startswith(missed)
    assert {role.name for role in plan.roles} == {"user", "reader", "admin"}
    assert not kept(plan) & {"visitors", "anonymous_visitors", "admins", "users"}


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("hotel; we want guests to book rooms", {"bookings", "rooms"}),
        ("one user can own several shops, a shop sells zorks", {"shops", "zorks"}),
        ("volunteers sign up for shifts", {"volunteers", "shifts"}),
        ("the service stores zorks", {"zorks"}),
        ("band with songs; setlists contain songs in order", {"songs", "setlists"}),
    ],
)
def test_who_and_what_is_kept(sentence: str, names: set[str]):
    plan = plan_sentence(sentence)

    assert kept(plan) == names
    assert not [missed for missed in plan.not_understood if missed != "order"]


def test_who_changes_what_is_there_has_a_role():
    plan = plan_sentence("hospital with records; nurses update records")

    assert kept(plan) == {"records"}
    assert "records:write" in {role.name: role.permissions for role in plan.roles}["nurse"]


def test_signing_in_is_what_every_service_has():
    plan = plan_sentence("Users can register, log in and manage their own zorks")

    assert kept(plan) == {"zorks"}
    assert plan.resource("zorks").owner == "users"
    assert plan.coverage == 1


def test_who_alone_may_move_a_row_has_a_permission_for_it():
    plan = plan_sentence(
        "zorks go from open to ready to closed; only bosses may close zorks; admins approve cats"
    )
    states = plan.resource("zorks").states
    roles = {role.name: role.permissions for role in plan.roles}

    assert states is not None
    assert [step.by for step in states.transitions] == [None, "zorks:close"]
    assert roles["boss"] == ("zorks:read", "cats:read", "zorks:close")
    assert plan.resource("cats").states is not None


def test_steps_are_as_said_and_what_only_admins_do_is_no_operators():
    plan = plan_sentence(
        "issues go from open to in progress to resolved to closed; only admins may close issues"
    )
    states = plan.resource("issues").states

    assert states is not None
    assert [(step.before, step.after) for step in states.transitions] == [
        ("open", "in_progress"),
        ("in_progress", "resolved"),
        ("resolved", "closed"),
    ]
    assert {role.name for role in plan.roles} == {"user", "reader", "admin"}


@pytest.mark.parametrize(
    ("sentence", "by"),
    [
        ("loans with status sent, approved, rejected; bosses approve loans", "loans:moderate"),
        ("loans with status sent, paid; only bosses can pay loans", "loans:pay"),
        ("tickets; only bosses can resolve tickets", "tickets:resolve"),
    ],
)
def test_a_right_to_lead_somewhere_is_asked_for(sentence: str, by: str):
    resource = plan_sentence(sentence).resources[0]

    assert resource.states is not None
    assert by in {step.by for step in resource.states.transitions}


def test_what_users_can_do_with_their_own_is_an_action():
    plan = plan_sentence("notes; users can archive notes")

    assert [action.name for action in plan.resource("notes").actions] == ["archive"]


def test_what_only_admins_write_is_nobodys():
    plan = plan_sentence("articles; only admins can write articles")

    assert plan.resource("articles").owner is None
    assert plan.coverage == 1


def test_what_authors_write_is_theirs():
    plan = plan_sentence("Only the author can edit a post")

    assert plan.resource("posts").owner == "users"
    assert plan.not_understood == ()


def test_approved_zorks_are_zorks():
    plan = plan_sentence("gallery; admins approve zorks; members read approved zorks")

    assert kept(plan) == {"zorks"}
    assert plan.not_understood == ()


def test_only_some_of_them_are_not_understood():
    plan = plan_sentence("gallery with zorks; editors delete overdue zorks")

    assert kept(plan) == {"zorks"}
    assert plan.not_understood == ("overdue",)


def test_things_that_are_registered_are_kept():
    plan = plan_sentence("fleet API with cats and dogs; users register zorks")

    assert kept(plan) == {"cats", "dogs", "zorks"}
    assert plan.not_understood == ("users register",)


def test_who_uploads_is_told_where_the_files_go():
    plan = plan_sentence("gallery; users upload zorks")

    assert (plan.files, plan.provenance["files"]) == (True, "users upload zorks")
    [where] = (said for said in plan.assumed if said.startswith("the files of zorks"))
    assert "uploaded to /files" in where
    assert "the column that names a row's file is yours to add" in where
