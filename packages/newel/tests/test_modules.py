"""A module is a value; test_app.py shows what the application makes of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from fastapi import APIRouter

from newel.modules import Module


def test_a_module_is_a_value_that_can_be_varied_but_not_changed() -> None:
    router = APIRouter()
    module = Module("things", routers=[router])
    assert module == Module("things", routers=[router])
    assert replace(module, description="All things").description == "All things"
    with pytest.raises(FrozenInstanceError):
        module.name = "other"  # type: ignore[misc] # the mistake


def test_a_module_brings_nothing_unless_it_says_so() -> None:
    module = Module("empty")
    assert not (*module.routers, *module.root_routers, *module.dependencies)
    assert module.authenticator is None
