"""Secrets: which names hold one, which texts are one, where they end up."""

import pytest

from newel_tools.check.rule import load_rules
from newel_tools.check.secret import is_given_key, is_placeholder, is_random, secret_kind

RULES = load_rules()
APP = "from fastapi import FastAPI\n\napp = FastAPI()\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SECRET_KEY", "signing"),
        ("jwt_secret_key", "signing"),
        ("session_secret", "signing"),
        ("POSTGRES_PASSWORD", "credential"),
        ("stripe_api_key", "credential"),
        ("FIRST_SUPERUSER_PASSWORD", "admin"),
        ("admin_password", "admin"),
        ("TOKEN_TYPE", None),
        ("password_min_length", None),
        ("secret_name", None),
        ("keyboard", None),
    ],
)
def test_names_say_what_a_secret_opens(name: str, kind: str | None):
    assert secret_kind(name) == kind


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("AKIA" + "Q" * 16, True),
        ("gh" + "p_" + "a1B2" * 9, True),
        ("sk_" + "live_" + "a1B2" * 6, True),
        ("AKIA" + "EXAMPLE" * 2 + "QQ", False),
        ("sk-short", False),
        ("a sentence about sk_live keys", False),
    ],
)
def test_given_keys_have_a_form(text: str, given: bool):
    assert is_given_key(text) is given


def test_placeholders_stand_for_a_secret():
    assert all(
        map(is_placeholder, ("changethis", "your-key-here", "<secret>", "${KEY}", "postgres"))
    )
    assert not is_placeholder("9f2c7e51b0aa4e6d8c13")


def test_random_texts_are_long_and_mixed():
    assert is_random("9f2c7e51b0aa4e6d8c13")
    assert not is_random("correct-horse-battery-staple")
    assert not is_random("a1b2")


def found(report) -> list[tuple[int, str]]:
    assert report.facts.is_imported, report.notes
    return sorted((item.line, item.severity) for item in report.findings)


def test_literals_in_the_places_where_they_stand(reviewed):
    text = """
import os

from fastapi import FastAPI
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

app = FastAPI()
key = os.environ.get("SIGNING_KEY", default="a-literal-key")  # block
quiet = os.environ.get("SIGNING_KEY", default="")
other = os.environ.get("REGION", "a-literal-key")
SHORT_SECRET_KEY = "short"
lower_secret_key = "a-literal-key"


class Settings(BaseSettings):
    secret_key: str = Field("a-literal-key")  # block
    session_secret: str = Field(default="a-literal-key")  # block
    jwt_secret: SecretStr = SecretStr("a-literal-key")  # block
    postgres_password: str = "local-one"  # note
    stripe_api_key: str = "9f2c7e51b0aa4e6d8c13"  # block
    signing_key: str = "/run/secrets/key"
    app_secret: str = "app-secret"
    token_secret: str = "a-checked-key"

    @model_validator(mode="after")
    def check(self) -> "Settings":
        return self if self.token_secret else self


class DevSettings(Settings):
    secret_key: str = "a-local-key"


class Plain:
    SECRET_KEY = "a-literal-key"  # block
    SHORT_SECRET_KEY = "short"
""".lstrip()
    wanted = [
        (number, line.rpartition("# ")[2])
        for number, line in enumerate(text.splitlines(), start=1)
        if line.endswith(("# block", "# note"))
    ]

    # A class without settings' name or base holds constants: capitals and eight characters.
    assert found(reviewed(text, rules=[RULES["SEC001"]])) == wanted


def test_a_providers_key_is_found_anywhere(reviewed):
    text = f"{APP}\n\ndef call() -> str:\n    return '{'AKIA' + 'Q7' * 8}'\n"

    (item,) = reviewed(text, rules=[RULES["SEC001"]]).findings
    assert (item.line, item.what) == (7, "a provider's key stands in the code")


@pytest.mark.parametrize("folder", ["tests", "examples", "scripts", "docs"])
def test_examples_and_tests_may_hold_one(reviewed, folder: str):
    files = {"main.py": APP, f"{folder}/first.py": "SECRET_KEY = 'a-literal-key'\n"}

    assert reviewed(files, rules=[RULES["SEC001"]]).findings == ()


def test_only_what_git_tracks_is_read(reviewed, tmp_path):
    files = {
        "main.py": APP,
        ".gitignore": "ignored/\n",
        ".env": "# SECRET_KEY=9f2c7e51b0aa4e6d8c13\nSECRET_KEY=\nLOG=1\n",
        "ignored/.env": "SECRET_KEY=9f2c7e51b0aa4e6d8c13\n",
        "deploy/.env.production": "A=1\nexport JWT_SECRET='9f2c7e51b0aa4e6d8c13'\n",
        "deploy/.env.sample": "SECRET_KEY=9f2c7e51b0aa4e6d8c13\n",
    }
    (item,) = reviewed(files, rules=[RULES["SEC002"]]).findings

    assert (item.file, item.line) == ("deploy/.env.production", 2)


def test_the_environment_is_read_once_a_file(reviewed):
    files = {
        "main.py": "import os\n"
        + APP
        + "\n\n@app.get('/')\ndef f() -> str:\n    os.environ['A'] = 'b'\n"
        "    return os.environ['A'] + os.environ.get('B', '')\n",
        "config.py": "",
    }
    (item,) = reviewed(files, rules=[RULES["SEC003"]]).findings
    assert (item.line, item.route) == (10, "GET /")


def test_what_is_logged(reviewed):
    head = """
import logging
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI()
log = logging.getLogger(__name__)


class Login(BaseModel):
    email: str
    password: str


class Profile(BaseModel):
    email: str


"""
    lines = [
        ("log.info('%s' % access_token)", True),
        ("log.info('{}'.format(access_token))", True),
        ("log.info('a', extra={'t': access_token})", True),
        ("log.info((access_token, 1))", True),
        ("log.info(str(access_token))", True),
        ("log.info(login.model_dump())", True),
        ("print(login)", True),
        ("log.warning('body %s', await request.body())", True),
        ("log.info(request.headers)", True),
        ("log.info(request.headers['accept'])", False),
        ("log.info(login.email)", False),
        ("log.info(profile)", False),
        ("log.info('%s', hash(access_token))", False),
        ("login.model_dump()", False),
        ("call(access_token)", False),
    ]
    signature = (
        "request: Request, login: Login, profile: Profile, access_token: str, call: Any = id"
    )
    routes = [
        f"@app.post('/f{number}')\nasync def f{number}({signature}) -> None:\n    {line}\n\n\n"
        for number, (line, _) in enumerate(lines)
    ]
    report = reviewed(head + "".join(routes), rules=[RULES["SEC004"]])

    assert report.facts.is_imported, report.notes
    routes_found = {item.route for item in report.findings}
    assert [(line, f"POST /f{n}" in routes_found) for n, (line, _) in enumerate(lines)] == lines
