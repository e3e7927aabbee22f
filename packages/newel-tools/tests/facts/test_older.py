"""Applications on pydantic 1: what the probe says of them is said as of those on pydantic 2."""

import importlib.util
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import v1

from newel_tools.facts import probe


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch):
    """Return what describes models, imported as the probe's own interpreter does."""
    folder = Path(probe.__file__).parent
    spec = importlib.util.spec_from_file_location(
        "older_probe", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    monkeypatch.setitem(sys.modules, "older_probe", importlib.util.module_from_spec(spec))
    places = importlib.import_module("older_probe.places").Places(copy="/", root="/")
    return importlib.import_module("older_probe.shapes").Shapes(places)


class Owner(v1.BaseModel):
    name: str


class Note(v1.BaseModel):
    title: str = v1.Field(max_length=20, alias="Title")
    kind: Literal["a", "b"] = "a"
    text: str = v1.Field(None, regex="^x")
    stars: v1.conint(ge=1, le=5)
    owners: list[Owner] = []
    code: str | None

    @v1.validator("text")
    def check(cls, value):  # noqa: N805 - pydantic makes it a class method
        return value


class Whole(v1.BaseModel):
    @v1.root_validator
    def check(cls, values):  # noqa: N805 - as above
        return values


def test_fields_have_their_types_and_limits(shapes):
    described = shapes.models[shapes.model(Note)]
    fields = {field["name"]: field for field in described["fields"]}

    assert (fields["title"]["alias"], fields["title"]["required"]) == ("Title", True)
    assert fields["title"]["shape"]["limits"]["max_length"] == 20
    assert fields["kind"]["shape"]["values"] == ["a", "b"]
    assert (fields["text"]["shape"]["nullable"], fields["text"]["required"]) == (True, False)
    assert fields["text"]["shape"]["limits"]["pattern"] == "^x"
    assert fields["text"]["shape"]["validated"]
    assert fields["stars"]["shape"]["types"] == ["int"]
    assert {"ge": 1, "le": 5}.items() <= fields["stars"]["shape"]["limits"].items()
    assert fields["owners"]["shape"]["item"]["models"] == [f"{Owner.__module__}.Owner"]
    assert fields["code"]["shape"]["nullable"]
    assert not described["checked_whole"]


def test_fields_of_pydantic_1_8_are_read(shapes):
    class Early(v1.BaseModel):
        name: str

    del Early.__fields__["name"].field_info.exclude  # which came with 1.9

    assert [field["name"] for field in shapes.models[shapes.model(Early)]["fields"]] == ["name"]


def test_a_validator_of_all_fields_is_seen(shapes):
    assert shapes.models[shapes.model(Whole)]["checked_whole"]
