"""A plan that exists is consistent."""

import json

import pytest
from pydantic import ValidationError

from newel_tools.errors import PlanError
from newel_tools.plan.fields import read_line, refusal
from newel_tools.plan.plan import (
    Action,
    Field,
    Plan,
    Relation,
    Resource,
    Role,
    States,
    Transition,
    Users,
    usual_events,
    usual_roles,
)

TITLE = Field(name="title", type="str")
MODERATED = States(
    values=("pending", "approved"),
    transitions=(Transition(before="pending", after="approved", by="comments:moderate"),),
)


def resource(name: str, **values: object) -> Resource:
    given = {"name": name, "singular": name.removesuffix("s"), "fields": [TITLE], **values}
    return Resource.model_validate(given)


def plan(*resources: Resource, **values: object) -> Plan:
    given = {"service": "blog", "title": "Blog", "roles": usual_roles(resources), **values}
    return Plan.model_validate({"resources": resources, **given})


def link(target: str, **values: object) -> Relation:
    return Relation.model_validate({"name": target.removesuffix("s"), "target": target, **values})


def refused(caught: pytest.ExceptionInfo[ValidationError]) -> PlanError:
    return refusal(caught.value)


def test_a_plan_comes_back_from_json():
    posts = resource("posts", owner="users", relations=[link("tags")], actions=[Action(name="pin")])
    made = plan(posts, resource("tags"), provenance={"posts": "posts", "posts.read": ""})

    assert Plan.model_validate_json(made.model_dump_json()) == made


def test_a_plan_cannot_be_changed():
    made = plan(resource("posts"))

    with pytest.raises(ValidationError, match="frozen"):
        made.service = "x"
    with pytest.raises(ValidationError, match="frozen"):
        made.resources[0].fields[0].name = "x"


def test_a_plan_knows_no_other_words():
    with pytest.raises(ValidationError, match="Extra inputs"):
        plan(resource("posts"), condition="if x > 3")
    with pytest.raises(ValidationError, match="Extra inputs"):
        resource("posts", check="x > 3")


def test_the_schema_says_what_each_part_is():
    schema = Plan.model_json_schema()

    assert set(schema["required"]) == {"service", "title", "roles"}
    assert "additionalProperties" in json.dumps(schema)
    for part in (
        "Field",
        "Relation",
        "Resource",
        "States",
        "Transition",
        "Role",
        "Action",
        "Users",
    ):
        assert schema["$defs"][part]["description"]
    kinds = schema["$defs"]["Field"]["properties"]["type"]["enum"]
    assert {"str", "decimal", "enum"} <= set(kinds)


def test_a_resource_is_found_by_its_name():
    made = plan(resource("posts"), resource("tags"))

    assert made.resource("tags").singular == "tag"
    with pytest.raises(KeyError):
        made.resource("users")


def test_parents_come_first():
    made = plan(
        resource("comments", relations=[link("posts"), link("users")]),
        resource("posts", relations=[link("blogs")]),
        resource("blogs", relations=[link("comments", name="best", optional=True)]),
        resource("tags", relations=[link("comments", name="comments", kind="many_to_many")]),
    )

    assert [r.name for r in made.parents_first()] == ["blogs", "tags", "posts", "comments"]


def test_rows_that_could_never_be_the_first_are_refused():
    with pytest.raises(ValidationError) as caught:
        plan(
            resource("cats", relations=[link("dogs")]),
            resource("dogs", relations=[link("cats")]),
        )
    assert "needs another one to exist first" in refused(caught).message
    assert "optional" in refused(caught).fix

    with pytest.raises(ValidationError) as caught:
        plan(resource("posts", relations=[link("posts", name="parent")]))
    assert refused(caught).word == "posts"
    assert plan(resource("posts", relations=[link("posts", name="parent", optional=True)]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fields": [TITLE, TITLE]}, "the field 'title' twice"),
        ({"fields": [TITLE], "relations": [link("tags", name="title")]}, "'title' twice"),
        (
            {"fields": [Field(name="tag_id", type="uuid")], "relations": [link("tags")]},
            "'tag_id' twice",
        ),
        ({"fields": [Field(name="status", type="str")], "states": MODERATED}, "'status' twice"),
        ({"fields": [Field(name="class", type="str")]}, "a word of Python"),
        ({"relations": [link("tags", name="import")]}, "a word of Python"),
        ({"states": MODERATED.model_copy(update={"field": "version"})}, "the kernel keeps"),
        ({"actions": [Action(name="pin"), Action(name="pin")]}, "the action 'pin' twice"),
        ({"read": "owner"}, "read by their owner, and have none"),
    ],
)
def test_a_resource_that_contradicts_itself_is_refused(values, message):
    with pytest.raises(ValidationError) as caught:
        resource("posts", **values)
    assert message in refused(caught).message
    assert refused(caught).fix


@pytest.mark.parametrize("name", ["order", "users", "Posts", "settings"])
def test_a_resource_that_cannot_be_called_so_is_refused(name):
    with pytest.raises(ValidationError):
        resource(name, singular="x")


def test_a_link_that_leads_nowhere_is_refused():
    with pytest.raises(ValidationError) as caught:
        plan(resource("posts", relations=[link("tags")]))
    assert "posts.tag links to 'tags'" in refused(caught).message


def test_a_many_to_many_link_is_plain():
    with pytest.raises(ValidationError) as caught:
        link("tags", kind="many_to_many", unique=True)
    assert "neither optional nor unique" in refused(caught).message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resources": [resource("posts"), resource("posts")]}, "the resource 'posts' twice"),
        (
            {"resources": [resource("posts"), resource("entries", singular="post")]},
            "the singular 'post' twice",
        ),
        ({"roles": [Role(name="a", permissions=()), Role(name="a", permissions=())]}, "'a' twice"),
        ({"roles": [Role(name="a", permissions=("zorks:read",))]}, "'zorks:read' of an unknown"),
        ({"service": "json"}, "would hide a package"),
        (
            {"resources": [resource("posts", states=MODERATED)]},
            "'comments:moderate' of an unknown",
        ),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(values, message):
    with pytest.raises(ValidationError) as caught:
        Plan.model_validate({"service": "blog", "title": "Blog", "roles": [], **values})
    assert message in refused(caught).message


def test_permissions_of_all_and_of_users_are_known():
    roles = [Role(name="boss", permissions=("*", "users:write", "posts:*"))]

    assert plan(resource("posts"), roles=roles).roles[0].permissions[0] == "*"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"values": ("a", "a")}, "the state 'a' twice"),
        ({"values": ("a", "b"), "visible": ("c",)}, "'c' is none of the states"),
        (
            {"values": ("a", "b"), "transitions": [{"before": "a", "after": "c"}]},
            "'c' is none of the states",
        ),
        ({"values": ("a",)}, "at least 2"),
        ({"values": ("a", "not ok")}, "'not ok' cannot be the values"),
    ],
)
def test_states_that_contradict_themselves_are_refused(values, message):
    with pytest.raises(ValidationError) as caught:
        States.model_validate(values)
    assert message in refused(caught).message


def test_transitions_are_in_the_order_of_their_states():
    one = read_line("x", "state[a, b, c, b -> c, a -> c, a -> b]")
    other = read_line("x", "state[a, b, c, a -> b|c, b -> c]")

    assert one == other


def test_users_have_no_fields_that_accounts_bring():
    with pytest.raises(ValidationError) as caught:
        Users(fields=(Field(name="email", type="email"),))
    assert "comes with accounts" in refused(caught).message

    with pytest.raises(ValidationError) as caught:
        Users(fields=(TITLE, TITLE))
    assert "users has the field 'title' twice" in refused(caught).message


def test_usual_events_are_in_the_past_tense():
    assert usual_events(None) == ("created", "updated", "deleted")
    assert usual_events(MODERATED)[-1] == "status_changed"


def test_usual_roles_read_all_and_write_their_own():
    roles = {
        role.name: role.permissions
        for role in usual_roles([resource("posts", owner="users"), resource("tags")])
    }

    assert roles == {
        "user": ("posts:read", "tags:read", "posts:write"),
        "reader": ("posts:read", "tags:read"),
        "admin": ("*",),
    }


def test_moderators_and_operators_come_with_their_transitions():
    orders = resource("orders", states=read_line("status", "state[a -> b by orders:ship, b -> c]"))
    comments = resource("comments", states=MODERATED)
    roles = {role.name: role.permissions for role in usual_roles([orders, comments])}

    assert "orders:ship" in roles["operator"]
    assert "orders:ship" not in roles["moderator"]
    assert "comments:moderate" in roles["moderator"]
    assert list(roles)[-1] == "admin"


def test_a_field_that_is_no_mapping_is_refused():
    with pytest.raises(ValidationError):
        Field.model_validate("title: str")
