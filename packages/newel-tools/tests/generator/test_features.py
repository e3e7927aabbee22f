"""The features of a service: valid Python, nothing unused, and a test for every promise."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from newel_tools.errors import PlanError
from newel_tools.generator.features import render_features
from newel_tools.generator.files import File
from newel_tools.generator.layout import LAYOUTS, Layout
from newel_tools.plan.bounds import FIELD_TYPES
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import (
    Action,
    Argument,
    Field,
    Job,
    Plan,
    Relation,
    Resource,
    States,
    Users,
    usual_events,
    usual_roles,
)
from newel_tools.planner.planner import plan_sentence

# as in the pyproject.toml of a generated service
RULES = (
    "A", "ANN", "ASYNC", "B", "C4", "DTZ", "E", "F", "FURB", "I", "N", "PERF", "PIE", "PT", "RET",
    "RUF", "S", "SIM", "T20", "UP", "W",
)  # fmt: skip
CONFIG = (
    "--isolated",
    *(
        "--line-length",
        "100",
        "--select",
        ",".join(RULES),
        "--ignore",
        "A002,ANN401,S101,S105,S106",
    ),
    *("--target-version", "py311"),
)

SENTENCES = [
    "Create user management API with auth",
    (
        "agent management API: agents (name str(3..64), description text optional, "
        "model_name str(128), system_prompt text(10..), config json, is_active bool = true), "
        "owned by users"
    ),
    "blog with posts, comments and tags; posts belong to users; comments are moderated",
    (
        "inventory API: products (name, sku unique, price decimal, stock int) and warehouses, "
        "stock movements event to kafka, nightly report job"
    ),
    "team chat with file uploads",
]


def resource(name: str, singular: str, *lines: str, **options: object) -> Resource:
    pairs = (line.split(":", 1) for line in lines)
    parts = [read_line(left.strip(), right.strip()) for left, right in pairs]
    states = next((part for part in parts if isinstance(part, States)), None)
    fields = {
        "name": name,
        "singular": singular,
        "fields": tuple(part for part in parts if isinstance(part, Field)),
        "relations": tuple(part for part in parts if isinstance(part, Relation)),
        "states": states,
        "events": usual_events(states),
    }
    return Resource.model_validate({**fields, **options})


def plan_of(*resources: Resource, users: Users | None = None, full: bool = False) -> Plan:
    return Plan(
        service="sample_service",
        title="A sample",
        users=users or Users(),
        resources=resources,
        webhooks=full,
        chat="live" if full else None,
        files=full,
        roles=usual_roles(resources, webhooks=full, files=full),
    )


JOBS = (
    *(
        Job(name=f"on_{event}", event=event)
        for event in ("created", "status_changed", "e_dec_changed")
    ),
    Job(
        name="told",
        arguments=tuple(
            Argument(name=f"a_{kind}", type=kind, optional=kind == "date")
            for kind in FIELD_TYPES
            if kind != "enum"
        ),
    ),
)


def everything() -> Plan:
    """A plan with each type, relation, visibility and option at least once."""
    field = read_line("username", "str(3..20) unique")
    assert isinstance(field, Field)
    private = {"owner": "users", "read": "owner"}
    return plan_of(
        resource(
            "things", "thing",
            "a_str: str(2..3)", "b_text: text(500..)", "c_int: int indexed", "c_big: bigint unique",
            "d_float: float(0..1)", "e_dec: decimal(12,2, 0..) = 1", "f_bool: bool = false",
            "date: date = today", "due_on: date", "datetime: datetime = now", "starts_at: datetime",
            "h_uuid: uuid unique", "i_json: json = {}", "i_list: json = []", "i_opt: json optional",
            "email: email unique", "url: url", "k_enum: enum[low, high] = low",
            'text: str(5) = "abc"',
            "category: -> categories", "parent: -> things optional", "assignee: -> users",
            "labels: <-> labels", "friends: <-> things",
            "status: state[todo -> done|in_progress, in_progress -> done, "
            "done -> todo by things:reopen]",
            **private, soft_delete=True, actions=(Action(name="warm_up"), Action(name="archive")),
            events=(
                "created", "updated", "deleted", "status_changed", "done", "archived", "imported",
                *(f"{name}_changed" for name in ("c_int", "e_dec", "due_on", "datetime", "i_list")),
                *(f"{name}_set" for name in ("i_opt", "k_enum", "url", "h_uuid", "f_bool")),
            ),
            jobs=(*JOBS, Job(name="list_things"), Job(name="select", cron="0 3 * * *")),
        ),
        resource("categories", "category", "name: str(100) unique"),
        resource("labels", "label", "name: str(64) unique", **private),
        resource(
            "profiles", "profile", "bio: text optional", "thing: -> things unique", owner="users",
        ),
        resource(
            "events", "event", "title: str(20)",
            "status: state[draft -> published, published -> closed; visible published]",
            soft_delete=True,
        ),
        resource("tickets", "ticket", "event: -> events", "code: str(10) unique", **private),
        resource("series", "series", "name: str(9)", read="public"),
        resource("requests", "request", "text: text", owner="users", soft_delete=True),
        resource(
            "classes", "class", "room: str(10)",
            "status: state[open -> closed by classes:judge; visible closed]",
            owner="users", read="public",
        ),
        users=Users(
            fields=(field,), jobs=(Job(name="greet", event="registered"), Job(name="purge"))
        ),
        full=True,
    )  # fmt: skip


def plans() -> Iterator[Plan]:
    yield everything()
    yield from (plan_sentence(sentence) for sentence in SENTENCES)


PLANS = {plan.service: plan for plan in plans()}
every_plan = pytest.mark.parametrize("service", PLANS)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@cache
def rendered(service: str, layout: Layout) -> tuple[File, ...]:
    return tuple(render_features(PLANS[service], layout))


def ruff(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def written(files: Iterable[File], root: Path) -> Path:
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    return root


@dataclass
class Code:
    """The rendered files of one service, to be asked by path."""

    files: dict[str, str]

    def of(self, path: str) -> ast.Module:
        return ast.parse(self.files[path])

    def functions(self, path: str) -> set[str]:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {node.name for node in ast.walk(self.of(path)) if isinstance(node, kinds)}


def code(service: str, layout: Layout = "features") -> Code:
    return Code({file.path: file.text for file in rendered(service, layout)})


# ---------------------------------------------------------------- the text


@every_plan
@every_layout
def test_it_is_python(service: str, layout: Layout) -> None:
    for file in rendered(service, layout):
        compile(file.text, file.path, "exec")


@every_plan
@every_layout
def test_ruff_finds_nothing_after_it_has_formatted(
    service: str, layout: Layout, tmp_path: Path
) -> None:
    written(rendered(service, layout), tmp_path)
    first_party = f"lint.isort.known-first-party=['{PLANS[service].service}']"
    ruff(tmp_path, "format", "--isolated", "--line-length", "100")
    found = ruff(tmp_path, "check", *CONFIG, "--config", first_party, "--output-format", "concise")
    assert "All checks passed" in found, found


def test_ruff_would_find_an_unused_import(tmp_path: Path) -> None:
    """The negative control of the test above."""
    file = rendered("user_management", "features")[0]
    written([File(file.path, f"import os\n{file.text}")], tmp_path)
    assert "F401" in ruff(tmp_path, "check", *CONFIG, "--output-format", "concise")


@every_plan
@every_layout
def test_no_path_is_written_twice(service: str, layout: Layout) -> None:
    paths = [file.path for file in rendered(service, layout)]
    assert len(paths) == len(set(paths))


@every_plan
@every_layout
def test_every_folder_below_the_service_is_a_package(service: str, layout: Layout) -> None:
    paths = {file.path for file in rendered(service, layout)}
    root = f"src/{PLANS[service].service}"
    folders = {path.rpartition("/")[0] for path in paths if path.startswith(root)}
    assert {f"{folder}/__init__.py" for folder in folders} - paths <= {f"{root}/__init__.py"}
    assert f"{root}/__init__.py" not in paths  # the shell writes it


@every_plan
def test_both_layouts_hold_the_same_definitions(service: str) -> None:
    def definitions(layout: Layout) -> list[str]:
        nodes = [node for file in rendered(service, layout) for node in ast.parse(file.text).body]
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign, ast.AnnAssign)
        texts = [ast.unparse(node) for node in nodes if isinstance(node, kinds)]
        return sorted(text for text in texts if not text.startswith("__all__"))

    assert definitions("features") == definitions("layered")


def test_rendering_twice_gives_the_same() -> None:
    plan = PLANS["sample_service"]
    assert render_features(plan, "features") == render_features(plan, "features")


def test_a_service_with_one_resource_is_small(tmp_path: Path) -> None:
    """All of a service may have 40,000 characters; shell and first migration take 7,000 of them."""
    root = written(rendered("agent_management", "features"), tmp_path)
    ruff(root, "format", "--isolated", "--line-length", "100")
    sizes = [len(path.read_text(encoding="utf-8")) for path in root.rglob("*.py")]
    assert sum(sizes) <= 33_000


@every_plan
def test_functions_are_short(service: str) -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for path, text in code(service).files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.AsyncFunctionDef) and node.end_lineno and "/tests/" not in path
    ]
    assert sorted(lengths)[len(lengths) // 2] <= 10
    assert max(lengths) <= 40


# ---------------------------------------------------------------- what it promises


@every_plan
def test_every_resource_has_every_verb(service: str) -> None:
    for kept in PLANS[service].resources:
        names = code(service).functions(f"src/{service}/{kept.name}/router.py")
        verbs = ("create", "get", "replace", "update", "delete")
        assert {f"list_{kept.name}", *(f"{verb}_{kept.singular}" for verb in verbs)} <= names


@every_plan
def test_every_endpoint_says_who_may_call_it(service: str) -> None:
    for path, text in code(service).files.items():
        if path.endswith("router.py"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.AsyncFunctionDef):
                    assert "caller" in {argument.arg for argument in node.args.args}


@every_plan
def test_routers_know_no_sql_and_no_http_exception(service: str) -> None:
    for path, text in code(service).files.items():
        if path.endswith("router.py"):
            assert "HTTPException" not in text
            assert "sqlalchemy" not in text
        if path.endswith("service.py"):
            assert "select(" not in text


@every_plan
def test_every_service_method_takes_the_caller_first(service: str) -> None:
    for path, text in code(service).files.items():
        if not path.endswith("service.py"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                assert [argument.arg for argument in node.args.args[:2]] == ["self", "caller"]


EVERYWHERE = {
    "test_create_answers_with_the_row_and_its_address",
    "test_create_needs_what_has_no_default",
    "test_replace_sets_every_field",
    "test_update_changes_what_is_sent",
    "test_every_change_is_recorded_as_an_event",
    "test_who_may_only_read_changes_nothing",
    "test_a_wrong_field_is_refused",
    "test_a_stale_version_is_not_changed",
}


@every_plan
def test_every_resource_has_tests_of_every_kind(service: str) -> None:
    for kept in PLANS[service].resources:
        names = code(service).functions(f"tests/{kept.name}/test_{kept.name}.py")
        assert names >= EVERYWHERE
        assert names & {"test_delete_removes_the_row", "test_delete_hides_the_row"}
        unique = [field.name for field in kept.fields if field.unique]
        alone = not any(relation.unique for relation in kept.relations)
        if alone:
            assert "test_list_is_paged_and_newest_first" in names
            assert {f"test_{name}_is_taken_once" for name in unique} <= names
        if kept.owner and kept.read == "owner":
            assert "test_a_row_of_somebody_else_is_not_there" in names


@every_plan
def test_every_operation_is_tried_without_a_log_in_and_without_permission(service: str) -> None:
    names = code(service).functions("tests/test_guards.py")
    assert {
        "test_who_is_not_logged_in_is_refused",
        "test_who_has_no_permission_is_refused",
        "test_a_malformed_id_is_refused",
        "test_a_wrong_query_is_refused",
    } <= names


def test_every_server_owned_field_is_sent_by_a_test() -> None:
    text = code("sample_service").files["tests/things/test_things.py"]
    owned = '["id", "owner_id", "created_at", "updated_at", "version", "deleted_at", "status"]'
    assert owned in text


def test_states_have_tests_of_moves_and_of_jumps() -> None:
    names = code("sample_service").functions("tests/events/test_events.py")
    assert {
        "test_status_moves_on",
        "test_status_does_not_skip",
        "test_who_may_only_read_does_not_move_it",
        "test_others_see_it_when_it_is_published",
    } <= names


def test_what_is_judged_is_judged_again_after_a_change() -> None:
    found = code("sample_service")
    service = found.files["src/sample_service/classes/service.py"]
    assert 'if not (caller.can("classes:judge")):' in service
    assert "test_a_change_is_judged_again" in found.functions("tests/classes/test_classes.py")


def test_links_have_tests_of_rows_that_are_not_there() -> None:
    text = code("sample_service").files["tests/things/test_things.py"]
    for name in ("category_id", "parent_id", "assignee_id", "label_ids", "friend_ids"):
        assert f'"{name} of nobody"' in text


def test_an_action_is_an_expected_failure_until_it_is_written() -> None:
    found = code("sample_service")
    assert "raise NotImplementedError" in found.files["src/sample_service/things/service.py"]
    assert "include_in_schema=False" in found.files["src/sample_service/things/router.py"]
    tests = found.files["tests/things/test_things.py"]
    assert "@pytest.mark.xfail(strict=True" in tests
    assert "test_warm_up_answers_with_the_row" in tests
    assert "test_what_others_own_is_not_acted_on" in tests


@pytest.mark.parametrize("password", ["password", "hashed_password", "epoch"])
def test_no_answer_shows_a_secret(password: str) -> None:
    tree = code("user_management").of("src/user_management/users/schemas.py")
    reads = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "UserRead"]
    assert reads
    assert password not in ast.dump(reads[0])


# ---------------------------------------------------------------- what it decides


def models(*lines: str, **options: object) -> str:
    others = [resource("tags", "tag", "name: str(9)"), resource("folders", "folder", owner="users")]
    plan = plan_of(resource("posts", "post", *lines, **options), *others)
    files = {file.path: file.text for file in render_features(plan, "features")}
    return files["src/sample_service/posts/models.py"]


def test_what_only_its_owner_sees_is_unique_for_the_owner() -> None:
    text = models("slug: str unique", owner="users", read="owner")
    assert 'unique("posts", "owner_id", "slug")' in text


def test_what_others_see_is_unique_for_all() -> None:
    assert "String(255), unique=True" in models("slug: str unique", owner="users")


def test_deleted_rows_take_no_value() -> None:
    assert 'unique("posts", "slug", live=True)' in models("slug: str unique", soft_delete=True)


@pytest.mark.parametrize(
    ("line", "options", "expected"),
    [
        ("folder: -> folders", {"owner": "users"}, 'ForeignKey("folders.id", ondelete="CASCADE")'),
        ("folder: -> folders", {}, 'ForeignKey("folders.id")'),
        ("tag: -> tags", {"owner": "users"}, 'ForeignKey("tags.id")'),
        ("tag: -> tags optional", {}, 'ForeignKey("tags.id", ondelete="SET NULL")'),
        ("reviewer: -> users", {"owner": "users"}, 'ForeignKey("users.id")'),
    ],
)
def test_what_happens_below_a_row_that_is_deleted(
    line: str, options: dict[str, object], expected: str
) -> None:
    assert expected in models("title: str", line, **options)


def test_links_to_many_are_loaded_with_their_row() -> None:
    text = models("tags: <-> tags")
    assert 'lazy="selectin"' in text
    assert "def tag_ids(self) -> list[UUID]" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"owner": "users", "read": "owner"}, None),
        ({}, None),
        ({"owner": "users"}, "return None"),
    ],
)
def test_who_sees_a_row_without_states(options: dict[str, object], expected: str | None) -> None:
    text = models("title: str", **options)
    assert ("def visible_to" in text) == (expected is not None)
    assert expected is None or expected in text


@pytest.mark.parametrize(
    ("line", "options", "expected"),
    [
        ("state[a -> b; visible b]", {"owner": "users"}, 'or_(own, cls.status == "b")'),
        ("state[a -> b|c; visible b, c]", {"owner": "users"}, 'cls.status.in_(["b", "c"])'),
        (
            "state[a -> b by posts:judge; visible b]",
            {"owner": "users"},
            'caller.can("posts:judge")',
        ),
        ("state[a -> b; visible b]", {}, 'None if caller.can("posts:write") else'),
        (
            "state[a -> b by posts:judge]",
            {"owner": "users", "read": "owner"},
            'return None if caller.can("posts:judge") else super().visible_to(caller)',
        ),
    ],
)
def test_who_sees_a_row_with_states(line: str, options: dict[str, object], expected: str) -> None:
    assert expected in models("title: str", f"status: {line}", **options)


def test_an_event_of_the_teams_own_is_theirs_to_publish() -> None:
    plan = plan_of(resource("posts", "post", "title: str", events=("created", "shared")))
    files = {file.path: file.text for file in render_features(plan, "features")}
    text = files["src/sample_service/posts/events.py"]
    assert "class PostShared(Event):" in text
    assert "Publish it in the service" in text
    assert "PostUpdated" not in files["src/sample_service/posts/service.py"]


def test_a_resource_without_events_has_no_file_for_them() -> None:
    plan = plan_of(resource("posts", "post", "title: str", events=()))
    paths = {file.path for file in render_features(plan, "features")}
    assert "src/sample_service/posts/events.py" not in paths


def test_a_resource_without_fields_is_written_too() -> None:
    plan = plan_of(resource("ticks", "tick"), resource("tocks", "tock", owner="users"))
    for file in render_features(plan, "features"):
        compile(file.text, file.path, "exec")


def test_many_users_at_the_end_of_a_link_are_refused_with_the_way_out() -> None:
    plan = plan_of(resource("teams", "team", "name: str", "members: <-> users"))
    with pytest.raises(PlanError, match="team_members with user: -> users"):
        render_features(plan, "features")


def test_a_link_from_both_sides_is_refused() -> None:
    plan = plan_of(
        resource("posts", "post", "title: str", "tags: <-> tags"),
        resource("tags", "tag", "name: str", "posts: <-> posts"),
    )
    with pytest.raises(PlanError, match="from both sides"):
        render_features(plan, "features")


def test_a_user_may_lack_what_only_registering_asks_for() -> None:
    found = code("sample_service").files
    assert "username: Mapped[str | None]" in found["src/sample_service/users/models.py"]
    assert "    username: Username\n" in found["src/sample_service/users/schemas.py"]
