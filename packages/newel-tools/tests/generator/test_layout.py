"""Where files lie: both layouts hold the same files, and modules follow from paths."""

from __future__ import annotations

import typing

import pytest

from newel_tools.generator.layout import LAYOUTS, Feature, Layout, Places, Role

ROLES: tuple[Role, ...] = typing.get_args(Role)
AGENTS = Feature("agents", "agent")


def test_a_feature_keeps_its_files_together() -> None:
    places = Places("shop", "features")
    folders = {str(places.path(role, AGENTS)).rpartition("/")[0] for role in ROLES}
    assert folders == {"src/shop/agents", "tests/agents"}


def test_layers_are_folders() -> None:
    places = Places("shop", "layered")
    assert places.path("models", AGENTS) == "src/shop/models/agent.py"
    assert places.path("router", AGENTS) == "src/shop/api/v1/endpoints/agents.py"
    assert places.path("repository", AGENTS) == "src/shop/repositories/agent.py"


def test_layers_need_no_package_of_a_feature() -> None:
    places = Places("shop", "layered")
    assert places.path("package", AGENTS) is None
    with pytest.raises(KeyError):
        places.module("package", AGENTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_path_of_a_service_is_different(layout: Layout) -> None:
    places = Places("shop", layout)
    features = (AGENTS, Feature("posts", "post"))
    paths = [places.path(role, feature) for feature in features for role in ROLES]
    # one file of roles a service
    kept = [path for path in paths if path is not None and not path.endswith("core/roles.py")]
    assert len(kept) == len(set(kept))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_module_is_what_python_calls_the_path(layout: Layout) -> None:
    places = Places("shop", layout)
    for role in ROLES:
        path = places.path(role, AGENTS)
        if path is not None and role != "tests":
            inside = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
            assert places.module(role, AGENTS).split(".") == inside.split("/")


def test_a_module_is_never_called_like_a_keyword() -> None:
    places = Places("school", "layered")
    assert places.module("models", Feature("classes", "class")) == "school.models.classes"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_shell_finds_the_settings_and_the_composition_root(layout: Layout) -> None:
    places = Places("shop", layout)
    assert places.settings in {"shop.settings", "shop.core.config"}
    assert places.application == "shop.application"
