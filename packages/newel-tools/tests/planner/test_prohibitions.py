"""What is forbidden, or for some alone, is never granted and makes no tables."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.planner.planner import plan_sentence

SHOP = "shop with orders (total decimal), notes (text str) and topics (title str); "


@pytest.mark.parametrize(
    "words",
    [
        "nobody can read notes",
        "no one may see notes",
        "users cannot delete notes",
        "guests can not write notes",
        "moderators can't delete topics",
        "users may not change orders",
        "moderators are not allowed to delete topics",
        "users can read but cannot delete notes",
    ],
)
def test_a_prohibition_is_not_understood_and_makes_nothing(words: str) -> None:
    plan, without = plan_sentence(SHOP + words), plan_sentence(SHOP)

    assert "".join(plan.not_understood).split()[-1] == words.rsplit(maxsplit=1)[-1]
    assert plan.resources == without.resources
    assert plan.roles == without.roles


def test_what_stands_before_it_is_read() -> None:
    plan = plan_sentence(
        "blog with posts, tags and comments (text str) and users cannot delete tags"
    )

    assert {resource.name for resource in plan.resources} == {"posts", "tags", "comments"}


def test_a_sentence_of_prohibitions_is_refused() -> None:
    with pytest.raises(PlanError, match="nobody can read salaries"):
        plan_sentence("payroll with salaries; nobody can read salaries")


@pytest.mark.parametrize("who", ["admins", "managers", "the owner"])
def test_what_some_alone_may_read_is_private(who: str) -> None:
    plan = plan_sentence(f"{SHOP}only {who} can see notes")

    assert plan.resource("notes").read == "owner"
    assert plan.resource("topics").read == "signed_in"
    assert (plan.not_understood == ()) is (who == "the owner")
