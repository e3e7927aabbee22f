"""Who sees a row: a table of who owns it, who may read, and which states are shown."""

from __future__ import annotations

from typing import Any

import pytest

from newel_tools.generator.view import view_resource
from newel_tools.generator.visibility import Visible, visibility
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import Plan, Resource, States, usual_roles

STATES = "state[draft -> published by posts:publish, published -> archived; visible published]"
PLAIN = "state[draft -> published, published -> archived]"
SHOWN = 'cls.status == "published"'
MAY = 'caller.can("posts:publish")'


def visible(states: str | None = None, **how: Any) -> Visible | None:
    found = read_line("status", states) if states else None
    assert found is None or isinstance(found, States)
    posts = Resource(name="posts", singular="post", states=found, **how)
    roles = usual_roles([posts])
    plan = Plan(service="sample", title="A sample", resources=(posts,), roles=roles)
    return visibility(view_resource(plan, posts))


@pytest.mark.parametrize("states", [None, PLAIN])
def test_what_is_private_or_shared_needs_no_words(states: str | None) -> None:
    assert visible(states, owner="users", read="owner") is None
    assert visible(states, read="signed_in") is None


@pytest.mark.parametrize(
    ("states", "how", "lines"),
    [
        (None, {"owner": "users"}, ("return None",)),
        (None, {"owner": "users", "read": "public"}, ("return None",)),
        (PLAIN, {"owner": "users"}, ("return None",)),
        (
            STATES,
            {"owner": "users"},
            (
                "own = super().visible_to(caller)",
                f"if own is None or {MAY}:",
                "    return None",
                f"return or_(own, {SHOWN})",
            ),
        ),
        (
            STATES.replace(" by posts:publish", ""),
            {"owner": "users"},
            (
                "own = super().visible_to(caller)",
                "if own is None:",
                "    return None",
                f"return or_(own, {SHOWN})",
            ),
        ),
        (
            STATES,
            {"owner": "users", "read": "owner"},
            (f"return None if {MAY} else super().visible_to(caller)",),
        ),
        (STATES, {}, (f'return None if {MAY} or caller.can("posts:write") else {SHOWN}',)),
        (
            STATES.replace(" by posts:publish", ""),
            {"read": "public"},
            (f'return None if caller.can("posts:write") else {SHOWN}',),
        ),
    ],
)
def test_who_sees_a_row(states: str | None, how: dict[str, Any], lines: tuple[str, ...]) -> None:
    found = visible(states, **how)
    assert found is not None
    assert found.lines == lines


def test_several_states_can_be_shown() -> None:
    found = visible(STATES.replace("visible published", "visible published, archived"))
    assert found is not None
    assert found.lines[0].endswith('cls.status.in_(["published", "archived"])')
    assert (
        found.says
        == "Everybody sees what is published or archived; the rest is for who changes it."
    )


def test_the_sentence_says_who_sees_the_rest() -> None:
    owned, shared = visible(STATES, owner="users"), visible(STATES)
    assert owned is not None
    assert shared is not None
    assert owned.says.endswith("the rest is for its owner and who moves it on.")
    assert shared.says.endswith("the rest is for who changes it.")
