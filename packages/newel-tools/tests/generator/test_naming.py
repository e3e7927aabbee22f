"""Names in generated code: none hides what the code around it needs."""

from __future__ import annotations

import pytest

from newel_tools.generator.naming import (
    actor,
    camel,
    class_name,
    dependency,
    variable,
    with_article,
    words,
)


def test_classes_and_words() -> None:
    assert camel("order_item") == "OrderItem"
    assert words("order_item") == "order item"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("agent", "an agent"),
        ("order_item", "an order item"),
        ("user", "a user"),
        ("unit", "a unit"),
        ("umbrella", "an umbrella"),
        ("post", "a post"),
    ],
)
def test_articles(name: str, expected: str) -> None:
    assert with_article(name) == expected


def test_an_entity_does_not_hide_what_its_files_import() -> None:
    assert class_name("query") == "QueryItem"
    assert class_name("user") == "UserItem"
    assert class_name("event") == "Event"  # the files of a resource import no other
    assert class_name("post") == "Post"


def test_a_dependency_is_not_called_like_the_entity() -> None:
    assert dependency("posts", "post") == "Posts"
    assert dependency("series", "series") == "SeriesDep"
    assert dependency("versions", "version") == "VersionsDep"


@pytest.mark.parametrize("singular", ["class", "query", "data", "select", "request"])
def test_a_variable_is_neither_a_keyword_nor_another_local(singular: str) -> None:
    assert variable(f"{singular}s", singular) == f"{singular}_row"


def test_a_variable_is_not_called_like_the_service() -> None:
    assert variable("series", "series") == "series_row"
    assert variable("posts", "post") == "post"


def test_who_holds_a_permission_has_a_name() -> None:
    assert actor("comments:moderate", "comments") == "Moderator"
    assert actor("orders:process", "orders") == "ProcessCaller"
    assert actor("posts:moderate", "comments") == "PostsModerator"
    assert actor("orders:*", "orders") == "AllCaller"
