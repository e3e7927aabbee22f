"""The environment that an application is imported in: examples, dummies, what a failure says."""

from pathlib import Path

from newel_tools.facts.facts import Facts, load_facts
from newel_tools.facts.project import find_project

APP = "from fastapi import FastAPI\napp = FastAPI()\n"


def facts_of(root: Path) -> Facts:
    return load_facts(find_project(root), timeout_seconds=20)


def test_a_prefix_of_routes_starts_with_a_slash(write):
    code = """
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    NOTES_URL_API_VERSION: str

app.include_router(APIRouter(), prefix=Settings().NOTES_URL_API_VERSION)
"""
    facts = facts_of(write({"main.py": "from fastapi import APIRouter\n" + APP + code}))

    assert facts.failures == ()


def test_a_setting_that_takes_few_values_gets_one_of_them(write):
    settings = """
from enum import Enum
from pydantic_settings import BaseSettings

class Kind(str, Enum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"

class Settings(BaseSettings):
    app_env: Kind
    allowed_hosts: list[str] = ["*"]
    verified: bool = True

settings = Settings()
"""
    example = {".env.example": "ALLOWED_HOSTS=one.example, two.example\nVERIFIED=\n"}
    facts = facts_of(write({"main.py": settings + APP, **example}))

    assert facts.failures == ()


def test_what_an_example_leaves_empty_keeps_the_default_of_its_setting(write):
    settings = """
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    issuer: str = "https://login.example.com"
    secret: str

settings = Settings()
"""
    code = "app.title = settings.issuer + ' ' + settings.secret\n"
    facts = facts_of(
        write({"main.py": settings + APP + code, ".env.example": "ISSUER=\nSECRET=\n"})
    )

    assert facts.application is not None
    issuer, secret = facts.application["title"].split(" ")
    assert issuer == "https://login.example.com"
    assert len(secret) > 8


def test_a_list_in_an_example_is_a_value_and_a_description_is_none(write):
    code = "import os\napp.title = os.environ['HOSTS'] + os.environ['A_KEY']\n"
    example = {".env.example": 'HOSTS=["*"]\nA_KEY=[a key of yours]\n'}
    facts = facts_of(write({"main.py": APP + code, **example}))

    assert facts.application is not None
    assert facts.application["title"].startswith('["*"]')
    assert "of yours" not in facts.application["title"]


def test_what_only_a_few_values_fit_stays_unset_where_it_may(write):
    code = """
import os

kind = os.getenv("SHOP_DB_TYPE")
assert kind in (None, "sqlite"), kind
file = os.getenv("SHOP_DB_PASSWORD_FILE")
assert file is None or open(file).read(), file
app.title = os.getenv("SHOP_DB_PASSWORD") + os.environ["SHOP_TOKEN_TYPE"]
"""
    facts = facts_of(write({"main.py": APP + code, "env.template": "SHOP_TOKEN_TYPE=jwt\n"}))

    assert facts.failures == ()
    assert facts.application is not None
    assert facts.application["title"].endswith("jwt")
    assert len(facts.application["title"]) > 8
