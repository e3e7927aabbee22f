"""Views: what templates find decided, for the parts that no rendered file shows by itself."""

from __future__ import annotations

from collections.abc import Mapping

from newel_tools.generator.cases import Cases, cases_of
from newel_tools.generator.view import ResourceView, view_resource, view_users
from newel_tools.generator.visibility import visibility
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import Field, Plan, Relation, Resource, Role, States, usual_roles


def resource(name: str, *lines: str, **options: object) -> Resource:
    pairs = (line.split(":", 1) for line in lines)
    parts = [read_line(left.strip(), right.strip()) for left, right in pairs]
    return Resource.model_validate(
        {
            "name": name,
            "singular": name.removesuffix("s"),
            "fields": tuple(part for part in parts if isinstance(part, Field)),
            "relations": tuple(part for part in parts if isinstance(part, Relation)),
            "states": next((part for part in parts if isinstance(part, States)), None),
            **options,
        }
    )


def plan_of(*resources: Resource, roles: tuple[Role, ...] | None = None) -> Plan:
    roles = usual_roles(resources) if roles is None else roles
    return Plan(service="sample_service", title="A sample", resources=resources, roles=roles)


def views(*resources: Resource, **how: tuple[Role, ...]) -> Mapping[str, ResourceView]:
    plan = plan_of(*resources, **how)
    return {kept.name: view_resource(plan, kept) for kept in resources}


def view(*lines: str, **options: object) -> ResourceView:
    return views(resource("posts", *lines, **options))["posts"]


def cases(*resources: Resource) -> Cases:
    found = views(*resources)
    return cases_of(found[resources[0].name], found)


def test_lists_are_filtered_by_owner_where_others_see_the_rows() -> None:
    assert ("owner_id", "UUID") in view("title: str", owner="users").filters
    assert ("owner_id", "UUID") not in view("title: str", owner="users", read="owner").filters


def test_a_filter_does_not_hide_a_word_of_paging() -> None:
    assert view("page: bool", "shown: bool").filters == (("shown", "bool"),)


def test_an_optional_field_is_filtered_by_its_values() -> None:
    assert view("kind: enum[a,b] optional").filters == (("kind", "Kind"),)


def test_a_new_row_is_hidden_until_it_is_in_a_state_that_others_see() -> None:
    assert view("status: state[a -> b; visible b]", owner="users").hides
    assert not view("status: state[a -> b; visible a, b]", owner="users").hides
    assert not view("status: state[a -> b]", owner="users").hides
    assert view("title: str", owner="users", read="owner").hides


def test_administrators_write_in_tests_what_users_may_not() -> None:
    assert view("title: str", owner="users").writer == "owner"
    assert view("title: str").writer == "admin"


def test_who_writes_follows_the_roles_of_the_plan() -> None:
    roles = (
        Role(name="user", permissions=("posts:*",)),
        Role(name="admin", permissions=("*",)),
    )
    assert views(resource("posts", "title: str"), roles=roles)["posts"].writer == "owner"


def test_a_question_for_one_link_to_many_is_plain() -> None:
    tags, labels = resource("tags", "name: str"), resource("labels", "name: str")
    one = views(resource("posts", "tags: <-> tags"), tags)["posts"]
    two = views(resource("posts", "tags: <-> tags", "labels: <-> labels"), tags, labels)["posts"]
    assert one.sets_among_values == '"tags" in values'
    assert two.sets_among_values == 'values.keys() & {"tags", "labels"}'


def test_the_docs_say_whose_rows_these_are() -> None:
    assert view(owner="users", read="owner").says == "Posts of the user who made them."
    assert view(owner="users", read="public").says == (
        "Posts of the users who made them; anyone may read them."
    )
    assert view().says == "Posts shared by all; everybody who is logged in may read them."


def test_columns_with_many_visible_states_say_it_shortly() -> None:
    names = [f"state_with_a_long_name_{letter}" for letter in "abc"]
    line = f"status: state[{names[0]} -> {names[1]}|{names[2]}; visible {names[1]}, {names[2]}]"
    found = visibility(view(line, owner="users"))
    assert found is not None
    assert found.says.startswith("Everybody sees some states")


def test_users_keep_what_the_plan_gives_them() -> None:
    plan = plan_of(resource("posts", "title: str", owner="users"))
    assert view_users(plan).role_literal == 'Literal["user", "reader", "admin"]'
    assert view_users(plan).other_role == "reader"


def test_users_of_one_role_only_keep_it() -> None:
    plan = plan_of(resource("posts", "title: str"), roles=(Role(name="user", permissions=()),))
    assert view_users(plan).other_role == "user"


# ---------------------------------------------------------------- cases


def test_rows_that_are_referred_to_are_made_first_and_once() -> None:
    found = cases(
        resource("comments", "post: -> posts", "other: -> posts"),
        resource("posts", "blog: -> blogs", "title: str"),
        resource("blogs", "name: str"),
    )
    made = [line.partition(" = ")[0] for line in found.link_lines]
    assert made == ["blog", "post"]
    assert found.link_values == '"post_id": post["id"], "other_id": post["id"]'


def test_a_row_that_nobody_else_sees_yet_is_moved_on_first() -> None:
    found = cases(
        resource("tickets", "event: -> events", owner="users"),
        resource(
            "events", "status: state[draft -> checked, checked -> published; visible published]"
        ),
    )
    assert found.link_lines[1:] == (
        "await admin.post(f\"/api/v1/events/{event['id']}/mark_checked\")",
        "await admin.post(f\"/api/v1/events/{event['id']}/publish\")",
    )


def test_a_user_is_referred_to_by_who_is_logged_in() -> None:
    found = cases(resource("tasks", "assignee: -> users"))
    assert found.link_lines == ('user = (await owner.get("/api/v1/auth/me")).json()',)


def test_rows_with_unique_values_are_numbered() -> None:
    assert cases(resource("tags", "name: str unique")).many == "numbered(n)"
    assert cases(resource("tags", "name: str")).many == "VALID"


def test_rows_that_cannot_be_told_apart_are_not_made_several_times() -> None:
    assert cases(resource("tags", "level: enum[a,b] unique")).many is None
    one = resource("profiles", "post: -> posts unique")
    assert cases(one, resource("posts", "title: str")).many is None


def test_a_field_without_two_values_is_neither_sorted_nor_changed_by() -> None:
    found = cases(resource("tags", "level: int(5..5)"))
    assert (found.sort, found.changeable) == (None, False)


def test_a_row_of_somebody_else_is_unknown_to_a_link() -> None:
    found = cases(
        resource("notes", "folder: -> folders", "labels: <-> labels", owner="users"),
        resource("folders", "name: str", owner="users", read="owner"),
        resource("labels", "name: str", owner="users", read="owner"),
    )
    assert [link.column for link in found.private_links] == ["folder_id"]
    assert found.unseen == ' | {"label_ids": []}'


def test_what_must_not_be_null_is_listed_once() -> None:
    assert cases(resource("tags", "name: str", "shown: bool = true")).not_null == (
        '[*REQUIRED, "shown"]'
    )
    assert cases(resource("tags", "name: str")).not_null == "REQUIRED"
    assert cases(resource("tags", "shown: bool = true")).not_null == '["shown"]'
    assert cases(resource("tags", "name: str optional")).not_null == ""
