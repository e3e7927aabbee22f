"""How things go from state to state."""

import pytest

from newel_tools.plan.plan import States
from newel_tools.planner.flows import moderated, usual_flow


def moves(states: States) -> list[str]:
    return [f"{step.before} -> {step.after}" for step in states.transitions]


def test_each_leads_to_the_next():
    flow = usual_flow("status", ["draft", "published", "archived"])

    assert flow.initial == "draft"
    assert moves(flow) == ["draft -> published", "published -> archived"]
    assert flow.visible == ()


def test_early_ends_are_reached_from_all_but_the_last():
    flow = usual_flow("status", ["pending", "paid", "shipped", "cancelled"])

    assert moves(flow) == [
        "pending -> paid",
        "pending -> cancelled",
        "paid -> shipped",
        "paid -> cancelled",
    ]


@pytest.mark.parametrize("pair", [("active", "inactive"), ("open", "closed")])
def test_a_pair_goes_both_ways(pair):
    assert moves(usual_flow("status", pair)) == [
        f"{pair[0]} -> {pair[1]}",
        f"{pair[1]} -> {pair[0]}",
    ]


def test_one_step_and_its_end():
    assert moves(usual_flow("status", ["open", "cancelled"])) == ["open -> cancelled"]


def test_only_ends_have_no_moves():
    assert moves(usual_flow("status", ["failed", "rejected"])) == []


def test_a_state_named_twice_counts_once():
    assert usual_flow("status", ["a", "b", "a"]).values == ("a", "b")


def test_what_is_moderated_is_seen_when_it_is_approved():
    states = moderated("comments")

    assert states.values == ("pending", "approved", "rejected")
    assert {step.by for step in states.transitions} == {"comments:moderate"}
    assert states.visible == ("approved",)
    assert moderated("comments", field="moderation").field == "moderation"
