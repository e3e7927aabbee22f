"""Links: what they are called, what a deletion does to them, and those that have no answer."""

from __future__ import annotations

import pytest

from newel_tools.errors import PlanError
from newel_tools.generator.links import LinkView, SetView, view_links, view_sets
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import Plan, Relation, Resource, usual_roles


def resource(name: str, singular: str, *relations: str, owner: str | None = None) -> Resource:
    lines = [read_line(*line.split(": ", 1)) for line in relations]
    found = tuple(line for line in lines if isinstance(line, Relation))
    assert len(found) == len(relations)
    return Resource(name=name, singular=singular, relations=found, owner=owner)


def plan_of(*resources: Resource) -> Plan:
    roles = usual_roles(resources)
    return Plan(service="sample", title="A sample", resources=resources, roles=roles)


def link(line: str, *, owner: str | None = None, above: str | None = None) -> LinkView:
    """Return the link of comments that ``line`` says; ``above`` owns the posts."""
    comments = resource("comments", "comment", line, owner=owner)
    [found] = view_links(plan_of(resource("posts", "post", owner=above), comments), comments)
    return found


def sets(*resources: Resource) -> list[SetView]:
    return list(view_sets(plan_of(*resources), resources[0]))


def test_a_link_is_a_column_with_an_index() -> None:
    assert link("post: -> posts").line(unique=False) == (
        'post_id: Mapped[UUID] = mapped_column(ForeignKey("posts.id"), index=True)'
    )


def test_a_link_that_may_be_missing_is_emptied_by_a_deletion() -> None:
    assert link("post: -> posts optional").line(unique=True) == (
        "post_id: Mapped[UUID | None] = mapped_column("
        'ForeignKey("posts.id", ondelete="SET NULL"), unique=True, default=None)'
    )


@pytest.mark.parametrize(
    ("owner", "above", "on_delete"),
    [
        ("users", "users", "CASCADE"),  # a post's comments go with it
        ("users", None, None),  # a category is kept while somebody's product refers to it
        (None, "users", None),  # nobody's private deletion takes what all share
        (None, None, None),
    ],
)
def test_a_deletion_takes_only_what_users_keep_below_what_users_keep(
    owner: str | None, above: str | None, on_delete: str | None
) -> None:
    assert link("post: -> posts", owner=owner, above=above).on_delete == on_delete


def test_a_link_to_a_user_is_not_deleted_with_them() -> None:
    found = link("assignee: -> users", owner="users")
    assert (found.to_users, found.target_class, found.on_delete) == (True, "User", None)
    assert not link("post: -> posts").to_users


def test_a_link_to_many_is_a_table_of_pairs() -> None:
    [found] = sets(resource("posts", "post", "tags: <-> tags"), resource("tags", "tag"))
    assert (found.table, found.near, found.far, found.ids) == (
        *("post_tags", "post_id", "tag_id", "tag_ids"),
    )
    assert (found.target_class, found.word, found.to_itself) == ("Tag", "tag", False)


def test_a_link_to_others_of_its_kind_tells_the_two_apart() -> None:
    [found] = sets(resource("posts", "post", "relatives: <-> posts"))
    assert (found.near, found.far, found.to_itself) == ("post_id", "related_relative_id", True)


def test_only_links_of_their_kind_are_viewed() -> None:
    posts = resource("posts", "post", "tags: <-> tags", "parent: -> posts optional")
    plan = plan_of(posts, resource("tags", "tag"))
    assert [found.name for found in view_links(plan, posts)] == ["parent"]
    assert [found.name for found in view_sets(plan, posts)] == ["tags"]


def test_a_link_to_many_users_is_refused() -> None:
    with pytest.raises(PlanError, match="whom not everybody sees") as caught:
        sets(resource("teams", "team", "members: <-> users"))
    assert "team_members with user: -> users" in caught.value.fix


def test_a_link_said_from_both_sides_is_refused() -> None:
    with pytest.raises(PlanError, match=r"posts\.tags is linked from both sides") as caught:
        sets(
            resource("posts", "post", "tags: <-> tags"), resource("tags", "tag", "posts: <-> posts")
        )
    assert caught.value.fix == "keep it in posts and remove it from tags"
