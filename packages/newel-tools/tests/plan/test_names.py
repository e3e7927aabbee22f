"""Which names a service can use."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.plan.names import (
    check_field,
    check_resource,
    check_service,
    check_user_field,
    field_conflict,
    resource_conflict,
    service_conflict,
    snake,
)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Unit price", "unit_price"),
        ("isActive", "is_active"),
        ("license-plate", "license_plate"),
        ("  a  b ", "a_b"),
        ("HTTPServer", "httpserver"),
        ("naïve", "naive"),
        ("_x_", "x"),
        ("", ""),
        ("éé", "ee"),
        ("日本", ""),
    ],
)
def test_words_become_snake_case(words, name):
    assert snake(words) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("class", "a word of Python"),
        ("import", "a word of Python"),
        ("id", "the kernel keeps"),
        ("created_at", "the kernel keeps"),
        ("updated_at", "the kernel keeps"),
        ("version", "the kernel keeps"),
        ("owner_id", "the kernel keeps"),
        ("deleted_at", "the kernel keeps"),
        ("tenant_id", "the kernel keeps"),
        ("metadata", "the classes a field lives in"),
        ("registry", "the classes a field lives in"),
        ("copy", "the classes a field lives in"),
        ("json", "the classes a field lives in"),
        ("model_dump_json", "the classes a field lives in"),
        ("model_validate_x", "the classes a field lives in"),
        ("str", "the name of a type"),
        ("list", "the name of a type"),
        ("Name", "snake_case"),
        ("a__b", "snake_case"),
        ("a_", "snake_case"),
        ("1a", "snake_case"),
        ("", "snake_case"),
        ("x" * 31, "longer than 30"),
    ],
)
def test_a_field_cannot_have_these_names(name, reason):
    assert reason in (field_conflict(name) or "")
    with pytest.raises(PlanError) as caught:
        check_field(name, singular="post")
    assert caught.value.word == name
    assert caught.value.fix


@pytest.mark.parametrize(
    "name", ["name", "model_name", "type", "date", "status", "order", "group", "user", "x" * 30]
)
def test_a_field_can_have_these_names(name):
    assert field_conflict(name) is None
    assert check_field(name, singular="post") == name


def test_the_fix_of_a_field_can_be_used():
    with pytest.raises(PlanError, match="a word of Python") as caught:
        check_field("class", singular="post")
    assert "'post_class'" in caught.value.fix
    assert field_conflict("post_class") is None


def test_a_column_that_is_there_anyway_is_to_be_removed():
    with pytest.raises(PlanError) as caught:
        check_field("id", singular="post")
    assert caught.value.fix.startswith("remove the line")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("order", "a reserved word in SQL"),
        ("group", "a reserved word in SQL"),
        ("user", "a reserved word in SQL"),
        ("references", "a reserved word in SQL"),
        ("users", "taken by the kernel"),
        ("sessions", "taken by the kernel"),
        ("accounts", "taken by the kernel"),
        ("settings", "taken by the kernel"),
        ("pages", "taken by the kernel"),
        ("Posts", "snake_case"),
        ("x" * 31, "longer"),
    ],
)
def test_a_resource_cannot_have_these_names(name, reason):
    assert reason in (resource_conflict(name) or "")
    with pytest.raises(PlanError, match="so no resource can have it"):
        check_resource(name)


@pytest.mark.parametrize("name", ["posts", "orders", "groups", "classes", "events", "staff"])
def test_a_resource_can_have_these_names(name):
    assert check_resource(name) == name


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("order", "orders"),
        ("Post", "posts"),
        ("references", "references_entries"),
        ("é", "es"),
        ("日", "things"),
    ],
)
def test_the_fix_of_a_resource_can_be_used(name, other):
    with pytest.raises(PlanError) as caught:
        check_resource(name)
    assert f"'{other}'" in caught.value.fix
    assert resource_conflict(other) is None


def test_users_are_not_a_resource():
    with pytest.raises(PlanError) as caught:
        check_resource("users")
    assert "under 'users:'" in caught.value.fix


@pytest.mark.parametrize("name", ["json", "calendar", "newel", "fastapi", "yaml", "5x", "", "Blog"])
def test_a_package_would_hide_another(name):
    assert service_conflict(name)
    with pytest.raises(PlanError) as caught:
        check_service(name)
    suggested = caught.value.fix.split("'")[1]
    assert service_conflict(suggested) is None


def test_a_package_of_its_own_name():
    assert check_service("agents_service") == "agents_service"
    assert service_conflict("x" * 60) is None
    assert service_conflict("x" * 61)


@pytest.mark.parametrize("name", ["email", "password", "roles", "is_active"])
def test_accounts_bring_these(name):
    with pytest.raises(PlanError, match="comes with accounts"):
        check_user_field(name)


def test_users_have_other_fields():
    assert check_user_field("full_name") == "full_name"
    with pytest.raises(PlanError, match="Python"):
        check_user_field("class")
