"""A plan as YAML that people read, change and give back."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from newel_tools.errors import PlanError
from newel_tools.plan.plan import (
    Action,
    Argument,
    Field,
    Job,
    Plan,
    Resource,
    Role,
    Users,
    usual_roles,
)
from newel_tools.plan.text import read_plan, write_plan
from newel_tools.planner.planner import plan_sentence

BLOG = """\
# A plan: nouns only. Change what you like, then: newel new plan.yaml
service: blog  # "blog"
title: Blog API
sentence: blog with posts and comments; posts belong to users; comments are moderated
users:
  fields:
    full_name: str(255) optional  # assumed
resources:
  posts:  # "posts"
    owner: users  # "posts belong to users"
    read: signed_in  # assumed
    fields:
      title: str(200)  # assumed
      slug: str(200) unique  # assumed
      body: text  # assumed
  comments:  # "comments"
    owner: users  # assumed
    read: signed_in  # assumed
    fields:
      body: text(..5000)  # assumed
      post: -> posts  # assumed
"""


def test_a_plan_reads_like_a_list_of_nouns():
    plan = plan_sentence(
        "blog with posts and comments; posts belong to users; comments are moderated"
    )
    text = write_plan(plan)

    assert text.startswith(BLOG)
    assert '\n  admin: ["*"]  # assumed\n' in text
    assert "\nassumed:\n  - users have the usual fields full_name\n" in text
    assert text.endswith("coverage: 1.0\n")


def test_what_is_written_is_yaml_for_everybody():
    text = write_plan(plan_sentence("blog with posts and tags"))
    data = yaml.safe_load(text)

    assert data["resources"]["posts"]["fields"]["tags"] == "<-> tags"
    assert data["roles"]["admin"] == ["*"]
    assert data["coverage"] == 1.0


def test_what_was_not_understood_is_written():
    plan = plan_sentence("blog API with posts, comments and tags using GraphQL")

    assert "\nnot_understood:\n  - GraphQL\n" in write_plan(plan)
    assert read_plan(write_plan(plan)).not_understood == ("GraphQL",)


def test_a_plan_by_hand_needs_two_lines():
    plan = read_plan("service: blog\nresources: {posts: }")

    assert plan.title == "Blog API"
    assert plan.resource("posts").read == "signed_in"
    assert plan.roles == usual_roles(plan.resources)
    assert plan.provenance == {}
    assert plan.coverage == 1


def test_a_plan_by_hand_has_what_it_says():
    plan = read_plan(
        """
        service: rental
        title: Car rental
        users: {fields: {phone: str(32)}}
        resources:
          staff:
            singular: employee
            soft_delete: true
            actions: [promote]   # any words
            events: [hired, fired]
            fields:
              name: "str(64) unique"
              status: state[active -> gone]
          cars:
            owner: users
          notes:
            owner: none
        roles:
          boss: [staff:write, "*"]
          nobody: []
        """
    )
    staff, cars, notes = plan.resources

    assert (staff.singular, staff.soft_delete, staff.events) == (
        "employee",
        True,
        ("hired", "fired"),
    )
    assert staff.actions == (Action(name="promote"),)
    assert staff.states is not None
    assert (cars.owner, cars.read) == ("users", "owner")
    assert (notes.owner, notes.read) == (None, "signed_in")
    assert plan.users.fields[0].name == "phone"
    assert plan.roles[0].permissions == ("staff:write", "*")
    assert plan.roles[1].permissions == ()


def test_words_behind_a_line_are_its_provenance():
    plan = read_plan(
        "service: blog\n"
        "resources:\n"
        '  posts:  # "posts"\n'
        "    read: public  # assumed\n"
        "    fields:\n"
        '      title: str(5)   # "a \\"title\\""\n'
        "      body: text  # my own words\n"
        '      slug: str(5)  # "broken\\x"\n'
    )

    assert plan.provenance == {
        "posts": "posts",
        "posts.read": "",
        "posts.fields.title": 'a "title"',
    }


def test_a_comment_above_is_nobodys_provenance():
    plan = read_plan('service: blog\nresources:\n  posts:\n    # "x"\n    read: public\n')

    assert plan.provenance == {}


def everything() -> Plan:
    things = Resource(
        name="things",
        singular="gizmo",
        fields=(
            Field(name="on", type="bool", default=False),
            Field(name="colour", type="str", default="null: # [x]"),
            Field(name="null", type="json", default="{}"),
        ),
        owner="users",
        read="public",
        soft_delete=True,
        actions=(Action(name="turn"), Action(name="burn")),
        events=("turned",),
        jobs=(
            Job(name="on", cron="*/5 * * * *"),
            Job(name="off", event="turned"),
            Job(name="told", arguments=(Argument(name="no", type="int", optional=True),)),
        ),
    )
    return Plan(
        service="shop",
        title="Shop: the 'best' #1",
        sentence='a\nb\t\u2028 \U0001f600 \x85 \U000e0001 "quoted" \\ # no comment',
        users=Users(
            fields=(Field(name="yes", type="email", unique=True),),
            jobs=(Job(name="greet", event="registered"), Job(name="null")),
        ),
        broker="nats",
        webhooks=True,
        chat="live",
        files=True,
        resources=(things,),
        roles=(Role(name="no", permissions=("things:*",)), Role(name="true", permissions=())),
        assumed=("- x", "a: b", "", " padded ", "~"),
        not_understood=("5", "[", "x # y"),
        coverage=0.61,
        provenance={
            "service": 'say "it" \u2028',
            "things": "",
            "things.owner": "mine",
            "things.read": "everyone",
            "things.soft_delete": "softly",
            "things.fields.on": "on \U0001f600",
            "things.actions.turn": "turned",
            "things.events": "x; y",
            "things.jobs.on": "every 5 minutes",
            "users.jobs.greet": "",
            "broker": "over NATS",
            "webhooks": "",
            "chat": "group chat",
            "files": "uploads",
            "roles.no": "none",
            "users.fields.yes": "yes",
        },
    )


def test_every_part_comes_back():
    plan = everything()
    back = read_plan(write_plan(plan))

    assert back == plan


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_comes_back(sentence, words):
    plan = Plan(
        service="shop",
        title="Shop",
        sentence=sentence,
        roles=(),
        assumed=(words,),
        provenance={"service": words},
    )

    assert read_plan(write_plan(plan)) == plan


REFUSED = [
    ("", 1, "names no service", "service: my_service"),
    ("[]", 1, "a plan has to be a list of 'name: value' lines", "docs/plan.md"),
    ("x", 1, "a plan has to be", "docs/plan.md"),
    ("service: 5x", 1, "'5x' is not a name", "'x_service'"),
    ("title: x\nservice: json", 2, "'json' would hide", "'json_service'"),
    ("service: a\nfoo: 1", 2, "'foo' means nothing here", "service, title"),
    ("service: a\nservice: b", 2, "a plan has 'service' twice", "remove one"),
    ("service: a\ncoverage: 7", 2, "'7' cannot be the coverage", "less than or equal to 1"),
    ("service: a\nassumed: x", 2, "where a list belongs", "[a, b]"),
    ("service: a\ntitle: [x]", 2, "where one value belongs", "in quotes"),
    ("a: [", 1, "this is no YAML", "docs/plan.md"),
    ("a: b: c", 1, "this is no YAML", "docs/plan.md"),
    ("a\x01b", None, "this is no YAML", "docs/plan.md"),
    ("[" * 5_000, None, "nested too deeply", "remove some"),
    ("#" * 1_000_001, None, "longer than 1 MB", "no plan"),
    ("service: a\nresources: [x]", 2, "resources has to be a list", "docs/plan.md"),
    ("service: a\nroles:\n  user: x", 3, "where a list belongs", "[a, b]"),
    ("service: a\nroles:\n  user: [x:y]", 3, "'x:y' of an unknown", "one of users"),
    ("service: a\nroles:\n  user: [x]", 3, "'x' cannot be the permissions", "resource:verb"),
    ("service: a\nusers:\n  foo: 1", 3, "'foo' means nothing here", "fields"),
    ("service: a\nusers:\n  fields:\n    email: str", 4, "'email' comes with", "remove the line"),
    ("service: a\nusers:\n  fields:\n    x: -> users", 4, "users.x is no plain", "user: -> users"),
]
IN_POSTS = [
    ("foo: 1", 4, "'foo' means nothing here", "singular, owner"),
    ("read: nobody", 4, "'nobody' cannot be the read", "'signed_in' or 'public'"),
    ("owner: me", 4, "'me' cannot be the owner", "'users'"),
    ("read: owner", 3, "have none", "owner: users"),
    ("soft_delete: maybe", 4, "'maybe' cannot be the soft_delete", "true or false"),
    ("actions: [a, a]", 4, "the action 'a' twice", "rename"),
    ("actions: [A]", 4, "'A' cannot be the name", "a-z"),
    ("actions: x", 4, "where a list belongs", "[a, b]"),
    ("fields: [a]", 4, "posts.fields has to be a list", "docs/plan.md"),
    ("fields:\n      title: strr(5)", 5, "the type 'strr'", "did you mean 'str'"),
    ("fields:\n      class: str", 5, "'class' is a word of Python", "'post_class'"),
    ("fields:\n      a: str\n      id: uuid", 6, "'id' is a column", "remove the line"),
    ("fields:\n      a: {b: c}", 5, "where one value belongs", "in quotes"),
    ("fields:\n      a: str\n      a: int", 6, "posts.fields has 'a' twice", "remove one"),
    ("fields:\n      a: state[a, b]\n      b: state[a, b]", 6, "two columns", "an enum"),
    ("fields:\n      tag: -> tags", 5, "links to 'tags'", "one of posts, users"),
    ("fields:\n      up: -> posts", 5, "needs another one", "optional"),
]


@pytest.mark.parametrize(("text", "line", "message", "fix"), REFUSED)
def test_what_is_no_plan_is_refused_with_its_line(text, line, message, fix):
    check_refused(text, line, message, fix)


@pytest.mark.parametrize(("text", "line", "message", "fix"), IN_POSTS)
def test_what_is_no_resource_is_refused_with_its_line(text, line, message, fix):
    check_refused(f"service: blog\nresources:\n  posts:\n    {text}\n", line, message, fix)


def check_refused(text: str, line: int | None, message: str, fix: str) -> None:
    with pytest.raises(PlanError) as caught:
        read_plan(text)
    assert message in caught.value.message
    assert fix in caught.value.fix
    assert caught.value.line == line
    assert len(str(caught.value).splitlines()) == 2


def test_a_resource_of_a_taken_name_is_refused_at_its_heading():
    text = "service: blog\nresources:\n  order:\n    fields:\n      title: str\n"

    check_refused(text, 3, "'order' is a reserved word in SQL", "'orders'")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        plan = read_plan(text)
    except PlanError:
        return
    assert isinstance(plan, Plan)


@given(st.integers(min_value=0, max_value=len(BLOG)), st.text(max_size=5))
def test_a_plan_with_a_slip_of_the_pen_is_read_or_refused(place, slip):
    try:
        plan = read_plan(BLOG[:place] + slip + BLOG[place:])
    except PlanError as error:
        refused = error
    else:
        assert read_plan(write_plan(plan)) == plan
        return
    assert len(str(refused).splitlines()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "service: shop\nresources:\n",
        "service: shop\nassumed:\nnot_understood:\n",
        "service: shop\nusers:\n",
    ],
)
def test_a_heading_with_nothing_below_says_nothing(text):
    plan = read_plan(text)

    assert (plan.resources, plan.assumed, plan.not_understood) == ((), (), ())


def test_one_value_is_no_list():
    with pytest.raises(PlanError, match="one value where a list belongs") as caught:
        read_plan("service: shop\nassumed: nothing\n")
    assert (caught.value.line, caught.value.fix) == (2, "write [a, b], or a line '- a' for each")
