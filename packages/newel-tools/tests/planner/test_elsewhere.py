"""Wishes that no line of a plan fulfils are listed, with the page that does."""

import pytest

from newel_tools.planner.planner import plan_sentence


@pytest.mark.parametrize(
    ("wish", "page"),
    [
        ("multi-tenant zoo with cages", "scope"),
        ("zoo with cages; each club sees only its own data", "scope"),
        ("zoo with cages; file uploads", "file_routes"),
        ("zoo; cages with name and picture upload", "file_routes"),
        ("zoo with cages, real-time notifications", "rooms"),
        ("zoo with cages, chat rooms", "chat"),
        ("zoo with cages and caching", "cache"),
        ("zoo with cages; API versioning", "versions"),
        ("zoo with cages and background tasks", "jobs"),
        ("zoo with cages; audit log", "events"),
    ],
)
def test_a_wish_that_stands_elsewhere_is_named_with_its_page(wish: str, page: str):
    plan = plan_sentence(wish)

    assert [resource.name for resource in plan.resources] == ["cages"]
    assert [line for line in plan.not_understood if f"docs/{page}.md" in line]
    assert "tenant" not in plan.service
    assert plan.coverage == 1


def test_people_who_rent_are_kept():
    assert "tenants" in [each.name for each in plan_sentence("flats and tenants").resources]
