"""The sample service's fixtures, as a user writes them."""

import secrets
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sample_service.application import build

from newel.settings import Settings
from newel.testing import MakeApp

pytest_plugins = ["newel.testing"]


@pytest.fixture(scope="session")
def make_app() -> MakeApp:
    secret = secrets.token_urlsafe(32)

    def make(**settings: Any) -> FastAPI:
        known = {"environment": "test", "secret_key": secret, "migrations": Path("migrations")}
        return build(Settings(_env_file=None, **(known | settings)))

    return make
