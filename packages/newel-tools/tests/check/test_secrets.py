"""Secrets: which names hold one, which texts are one, where they end up."""

import pytest

from newel_tools.check.rule import load_rules
from newel_tools.check.secret import (
    address_secret,
    is_given_key,
    is_placeholder,
    is_random,
    secret_kind,
)

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


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("postgresql://shop:Zk3-plum@db.shop.internal/shop", "block"),
        ("postgresql+asyncpg://shop:Zk3-plum@10.0.0.4:5432/shop?ssl=1", "block"),
        ("mysql+pymysql://root:Zk3@plum@db.shop.io:3306/shop", "block"),
        ("mongodb+srv://shop:Zk3-plum@c0.abcde.mongodb.net", "block"),
        ("redis://:Zk3-plum@cache.shop.io:6379/0", "block"),
        ("postgresql://shop:Zk3%40plum@db.shop.io/shop", "block"),
        ("postgresql://shop:Zk3-plum@todos.shop.io/shop", "block"),
        ("postgresql://shop:Zk3-plum@TODO/shop", None),
        ("postgresql://shop:%(password)s@db.shop.io/shop", None),
        ("postgresql://shop:%s@db.shop.io/shop", None),
        ("postgresql://shop:Zk3-plum@db/shop", "note"),
        ("postgresql://shop:Zk3-plum@localhost/shop", None),
        ("postgresql://shop:Zk3-plum@127.0.0.1:5432/shop", None),
        ("postgresql://postgres:postgres@db.shop.io/shop", None),
        ("postgresql://user:password@db.shop.io/shop", None),
        ("postgresql://user:mypassword123@db.shop.io/shop", None),
        ("postgresql://user:<password>@db.shop.io/shop", None),
        ("postgresql://shop:{password}@db.shop.io/shop", None),
        ("postgresql://shop:Zk3-plum@db.example.com/shop", None),
        ("postgresql://shop@db.shop.io/shop", None),
        ("https://shop:Zk3-plum@shop.io/feed", None),
        ("write it as postgresql://shop:Zk3-plum@db.shop.io/shop", None),
    ],
)
def test_addresses_of_servers_may_hold_a_password(text: str, severity: str | None):
    assert address_secret(text) == severity


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


ADDRESS = "postgresql://shop:Zk3-plum@db.shop.io/shop"


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        (f"engine = create_engine('{ADDRESS}')", "block"),
        (f"engine = create_engine(f'{ADDRESS}_{{APP}}')", "block"),
        (f"URL = os.getenv('DATABASE_URL', '{ADDRESS}')", "block"),
        (f"PLAN = {{'connections': {{'default': '{ADDRESS}'}}}}", "block"),
        (f"TEST_DATABASE_URL = '{ADDRESS}'", None),
        (f"class TestSettings:\n    url = '{ADDRESS}'", None),
        (f"URL = Field(description='{ADDRESS}')", None),
        (f"URL = Field(examples=['{ADDRESS}'])", None),
        (f"if URL == '{ADDRESS}':\n    raise SystemExit", None),
        (f"def f():\n    '{ADDRESS}'", None),
    ],
)
def test_an_address_with_a_password_is_found_where_it_is_used(
    reviewed, line: str, severity: str | None
):
    head = "import os\nfrom pydantic import Field\nAPP = URL = ''\ncreate_engine = str\n"
    report = reviewed(f"{APP}{head}{line}\n", rules=[RULES["SEC001"]])

    assert report.facts.is_imported, report.notes
    assert [item.severity for item in report.findings] == [severity] * (severity is not None)


DOORS = {
    "a token": ("if token == 'mock-admin-token':\n        return 1", "block"),
    "a token with digits": (
        "if token != 'f81d4fae7dec':\n        raise HTTPException(401)",
        "block",
    ),
    "a header": (
        "if request.headers.get('X-Token') == 'f81d4fae7dec':\n        return 1",
        "block",
    ),
    "digests": (
        "if not compare_digest(token, 'f81d4fae7dec'):\n        raise HTTPException(401)",
        "block",
    ),
    "a body": ("if body.name == 'a' and body.password == 'admin123':\n        return 1", "block"),
    "an answer": ("return token == 'Bearer f81d4fae7dec'", "block"),
    "in two steps": (
        "if body:\n        if token == 'f81d4fae7dec':\n            return 1",
        "block",
    ),
    "a switch": ("if debug and token == 'f81d4fae7dec':\n        return 1", "note"),
    "below a switch": (
        "if debug:\n        if token == 'f81d4fae7dec':\n            return 1",
        "note",
    ),
    "refused": ("if token == 'f81d4fae7dec':\n        raise HTTPException(401)", None),
    "a weak one": ("if body.password == 'password123':\n        errors = ['weak']", None),
    "a kind": ("if token == 'refresh-token':\n        return 1", None),
    "a word": ("if token == 'undefined':\n        return 1", None),
    "a mark": ("if token == '<|end-of-text|>':\n        return 1", None),
    "a row's": ("if user.password == 'oauth-google-1':\n        return 1", None),
    "a setting": ("if settings.secret_key == 'changeme-123':\n        return 1", None),
    "a False beside": ("if token == 'f81d4fae7dec':\n        return {'disabled': False}", "block"),
    "beside a setting": (
        "if token == settings.token or token == 'f81d4fae7dec':\n        return 1",
        "block",
    ),
    "and a switch": ("if settings.debug and token == 'f81d4fae7dec':\n        return 1", "note"),
    "a False": ("if token == 'f81d4fae7dec':\n        return False", None),
    "a nothing": ("if token == 'f81d4fae7dec':\n        return", None),
    "a redirect": ("if body.password == 'changeit-2024':\n        return Redirect('/new')", None),
    "a strength": (
        "if body.password == 'password123':\n        return {'strength': 'low'}",
        None,
    ),
    "a text's": (
        "for token in name.split():\n        if token == 'iso-8859-1':\n            return 1",
        None,
    ),
    "a page's": ("if page_token == 'first-page-1':\n        return 1", None),
    "one of a tuple": ("if token in ('f81d4fae7dec', 'other'):\n        return 1", "block"),
    "none of a list": (
        "if token not in ['f81d4fae7dec']:\n        raise HTTPException(401)",
        "block",
    ),
    "one of a constant": ("if token in KEYS:\n        return 1", "block"),
    "one of the accounts": ("return body.password in ACCOUNTS", "block"),
    "one of what is refused": ("if token in KEYS:\n        raise HTTPException(401)", None),
    "one of the common": ("return body.password in COMMON", None),
    "one of the words": ("if token in ('access', 'refresh'):\n        return 1", None),
    "one of the settings": ("if token in settings.keys:\n        return 1", None),
    "a case": (
        "match token:\n        case 'guest' | 'f81d4fae7dec':\n            return 1",
        "block",
    ),
    "a case that is refused": (
        "match token:\n        case 'f81d4fae7dec':\n            raise HTTPException(401)",
        None,
    ),
    "digests that are kept": (
        "same = compare_digest(token, 'f81d4fae7dec')\n    if not same:\n        raise Refused",
        "block",
    ),
    "digests that are kept and refused": (
        "same = compare_digest(token, 'f81d4fae7dec')\n    if same:\n        raise Refused",
        None,
    ),
    "digests that are told": (
        "same = compare_digest(body.password, 'changeit-2024')\n    print(same)",
        None,
    ),
    "bytes": ("return compare_digest(token.encode(), b'f81d4fae7dec')", "block"),
    "bytes by name": (
        "sent = token.encode('utf8')\n    kept = b'f81d4fae7dec'\n    return kept == sent",
        "block",
    ),
    "a text that is encoded": (
        "return compare_digest(token.encode(), 'f81d4fae7dec'.encode())",
        "block",
    ),
    "another name": ("if name == 'f81d4fae7dec':\n        return 1", None),
}


@pytest.mark.parametrize(("code", "severity"), DOORS.values(), ids=DOORS)
def test_tokens_in_the_code_let_anybody_in(reviewed, code: str, severity: str | None):
    text = f"""
from secrets import compare_digest
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

app = FastAPI()
debug = False
user: Any = None
settings: Any = None
Redirect: Any = None
page_token: Any = None
KEYS = frozenset({{"f81d4fae7dec"}})
COMMON = ["f81d4fae7dec"]
Refused: Any = None
ACCOUNTS = {{"f81d4fae7dec": "ann"}}


class Body(BaseModel):
    name: str
    password: str


@app.post("/")
def enter(request: Request, body: Body, token: str = "", name: str = "") -> Any:
    {code}
    return 0
"""
    report = reviewed(text.lstrip(), rules=[RULES["SEC001"]])

    assert report.facts.is_imported, report.notes
    assert [item.severity for item in report.findings] == [severity] * (severity is not None)


def test_a_door_that_no_request_leads_to_is_none(reviewed):
    text = f"{APP}\n\ndef run(token: str) -> bool:\n    return token == 'f81d4fae7dec'\n"

    assert reviewed(text, rules=[RULES["SEC001"]]).findings == ()


LED = {
    "by an import": ("import left", "left.py", "block"),
    "by a package": ("from shop.left import SECRET_KEY", "shop/left.py", "block"),
    "later": ("def later():\n    import left", "left.py", "block"),
    "by a text": ("PLACES = ['shop.left']", "shop/left.py", "block"),
    "by computing": ("import importlib\nimportlib.import_module('le' + 'ft')", "left.py", "block"),
    "by a name below a package": (
        "import importlib\ndef load(x):\n    importlib.import_module(f'shop.plugins.{x}')",
        "shop/plugins/left.py",
        "block",
    ),
    "by a name below another package": (
        "import importlib\ndef load(x):\n    importlib.import_module('shop.other.' + x)",
        "shop/plugins/left.py",
        "note",
    ),
    "by a name below a package's name": (
        "import importlib, shop\nload = lambda x: __import__(f'{shop.__name__}.plugins.{x}')",
        "shop/plugins/left.py",
        "block",
    ),
    "by a name of the settings": (
        "import importlib\ndef load(x):\n    importlib.import_module(x)",
        "shop/plugins/left.py",
        "block",
    ),
    "by a name beside it": (
        "import importlib\nload = lambda x: importlib.import_module(f'.{x}', __package__)",
        "left.py",
        "block",
    ),
    "by one name": ("import importlib\nimportlib.import_module('left')", "left.py", "block"),
    "by another name": ("import importlib\nimportlib.import_module('json')", "left.py", "note"),
    "by nothing": ("", "left.py", "note"),
    "by a script": ("", "manage.py", "note"),
}


@pytest.mark.parametrize(("line", "file", "severity"), LED.values(), ids=LED)
def test_what_no_application_imports_is_a_note(reviewed, line: str, file: str, severity: str):
    files = {"main.py": f"{APP}{line}\n", file: "SECRET_KEY = 'a-literal-key'\n"}
    if "/" in file:
        files["shop/__init__.py"] = files["shop/plugins/__init__.py"] = ""
    report = reviewed(files, rules=[RULES["SEC001"]])

    assert report.facts.is_imported, report.notes
    (item,) = report.findings
    assert (item.file, item.severity) == (file, severity)
    assert item.what.endswith("imports") is (severity == "note")


def test_a_worker_is_an_application_too(reviewed):
    files = {
        "main.py": APP,
        "services/mail/keys.py": "SECRET_KEY = 'a-literal-key'\n",
        "services/mail/worker.py": "import keys\nfrom celery import Celery\nworker = Celery()\n",
    }

    assert [item.severity for item in reviewed(files, rules=[RULES["SEC001"]]).findings] == [
        "block"
    ]


@pytest.mark.parametrize(
    ("head", "severity"),
    [
        ("class WorkerSettings:\n    functions = []", "block"),
        ("if __name__ == '__main__':\n    print(1)", "block"),
        ("class Settings:\n    functions = []", "note"),
    ],
)
def test_a_program_is_started_without_an_import(reviewed, head: str, severity: str):
    files = {"main.py": APP, "nightly.py": f"{head}\nSECRET_KEY = 'a-literal-key'\n"}

    (item,) = reviewed(files, rules=[RULES["SEC001"]]).findings
    assert item.severity == severity


@pytest.mark.parametrize("text", ["AKIA" + "Q7" * 8, ADDRESS])
def test_whoever_reads_the_repository_can_use_a_given_key_or_an_address(reviewed, text: str):
    files = {"main.py": APP, "left.py": f"VALUE = '{text}'\n"}

    (item,) = reviewed(files, rules=[RULES["SEC001"]]).findings
    assert (item.severity, item.what.endswith("imports")) == ("block", False)


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
