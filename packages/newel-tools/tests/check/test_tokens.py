"""Tokens and passwords: the ordinary ways to write them, and the ones that are faults."""

import pytest

from newel_tools.check.check import Report
from newel_tools.check.review import Review
from newel_tools.check.rule import load_rules

RULES = load_rules()
HEAD = """
import hashlib
import os
from datetime import timedelta
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings

app = FastAPI()
bearer = HTTPBearer()
KEY = os.urandom(8).hex()


"""


def named(report) -> list[str]:
    """Return the function, class field or constant that each finding stands in."""
    assert report.facts.is_imported, report.notes
    return sorted(
        _name(report.source.files["main.py"].lines[: item.line]) for item in report.findings
    )


def _name(lines: list[str]) -> str:
    """Return what the last line assigns, or the `def` that it stands in."""
    line = lines[-1].strip()
    if " = " in line and not line.startswith(("claims", "first", "issuer", "request")):
        return line.partition(" = ")[0].partition(":")[0]
    line = next(line for line in reversed(lines) if line.startswith(("def ", "async def ")))
    return line.partition("def ")[2].partition("(")[0]


def test_a_token_is_read(reviewed):
    text = f"""{HEAD}
def get_unverified(token: Annotated[Any, Depends(bearer)]) -> Any:
    return jwt.decode(token, KEY, algorithms=["HS256"], verify=False)


def get_peeked(token: Annotated[Any, Depends(bearer)]) -> Any:
    issuer = jwt.decode(token, options={{"verify_signature": False}})
    return issuer, jwt.decode(token, KEY, ["HS256"])


def get_spread(token: Annotated[Any, Depends(bearer)]) -> Any:
    return jwt.decode(token, *[KEY, ["HS256"]])


def get_lenient(token: Annotated[Any, Depends(bearer)]) -> Any:
    return jwt.decode(token, KEY, algorithms=("HS256",), options={{"verify_aud": False}})


def get_constant(token: Annotated[Any, Depends(bearer)], names: Any = ["HS256"]) -> Any:
    return jwt.decode(token, KEY, algorithms=names)


@app.get("/", dependencies=[Depends(get_unverified), Depends(get_peeked), Depends(get_spread)])
@app.get("/more", dependencies=[Depends(get_lenient), Depends(get_constant)])
def read() -> None:
    return None


@app.get("/expired")
def peek_late(token: str) -> Any:
    return jwt.decode(token, KEY, algorithms=["HS256"], options={{"verify_exp": False}})
"""
    assert named(reviewed(text, rules=[RULES["AUTH006"]])) == ["get_unverified"]


def test_middleware_guards_too(reviewed):
    text = f"""{HEAD}
@app.middleware("http")
async def authenticate(request: Request, call_next: Any) -> Any:
    request.state.user = jwt.decode(request.url.path, options={{"verify_signature": False}})
    return await call_next(request)
"""
    (found,) = reviewed(text, rules=[RULES["AUTH006"]]).findings

    assert "signature" in found.what


def test_a_token_is_made(reviewed):
    text = f"""{HEAD}
def directly(name: str) -> str:
    return jwt.encode({{"sub": name}}, KEY)


def annotated(name: str) -> str:
    claims: dict[str, Any] = {{"sub": name}}
    return jwt.encode(claims, KEY)


def changed(name: str) -> str:
    claims = {{"sub": name}}
    claims.update(exp=1)
    return jwt.encode(claims, KEY)


def spread(name: str, more: Any) -> str:
    return jwt.encode({{"sub": name, **more}}, KEY)


def given(claims: Any) -> str:
    return jwt.encode(claims, KEY)


def of_nobody(name: str) -> str:
    return jwt.encode({{"room": name}}, KEY)


def twice(name: str) -> str:
    claims = {{"sub": name}}
    claims = {{"sub": name, "exp": "1"}}
    return jwt.encode(claims, KEY)
"""
    assert named(reviewed(text, rules=[RULES["AUTH006"]])) == ["annotated", "directly"]


def test_lifetimes_are_read_where_they_are_written(reviewed):
    text = f"""{HEAD}
JWT_EXPIRE_HOURS = 24
JWT_EXPIRATION_SECONDS = 60 * 60 * 2
ACCESS_TOKEN_EXPIRE_MINUTES = int(os.getenv("MINUTES", "600"))
ACCESS_TOKEN_TTL_MINUTES = int(os.environ["PATH"] and 30)
REFRESH_TOKEN_LIFETIME_DAYS = 30
ACCESS_TOKEN_LIFETIME_MINUTES = unknown = 3
CACHE_TTL_DAYS = 300


class Settings(BaseSettings):
    access_token_expire_minutes: int = Field(default=6000, gt=0)
    refresh_token_ttl_days: int = Field(90)
    token_expire_minutes: int = Field(15)


def create_refresh_token(days: int) -> Any:
    return timedelta(days=400), timedelta(days=days), timedelta(3)


def make_access_token() -> Any:
    return timedelta(hours=1), timedelta(weeks=1)
"""
    assert named(reviewed(text, rules=[RULES["AUTH008"]])) == [
        "ACCESS_TOKEN_EXPIRE_MINUTES",
        "JWT_EXPIRATION_SECONDS",
        "JWT_EXPIRE_HOURS",
        "access_token_expire_minutes",
        "create_refresh_token",
        "refresh_token_ttl_days",
    ]


@pytest.mark.parametrize(
    ("schemes", "versions", "said"),
    [
        ('["bcrypt"]', {"bcrypt": "5.0.0", "passlib": "1.7.4"}, "cannot hash"),
        ('["bcrypt"]', {"bcrypt": "4.3.0", "passlib": "1.7.4"}, None),
        ('["bcrypt"]', {"bcrypt": "5.0.0", "libpass": "1.9"}, None),
        ('["argon2"]', {"bcrypt": "5.0.0", "passlib": "1.7.4"}, None),
        ('["argon2", "bcrypt"]', {"bcrypt": "5.0.0", "passlib": "1.7.4"}, None),
        ('["plaintext", "bcrypt"]', {}, "scheme `plaintext`"),
        ('["bcrypt", "plaintext"]', {}, None),
    ],
)
def test_contexts_of_schemes(reviewed, schemes, versions, said):
    text = f"{HEAD}class CryptContext(BaseModel):\n    schemes: list[str]\n\n\n"
    text += f"context = CryptContext(schemes={schemes})\n"

    found = list(RULES["AUTH009"].find(with_versions(reviewed(text, rules=[]), versions)))

    assert [said in item.what for item in found] == ([True] if said else [])


def with_versions(report: Report, versions: dict[str, str]) -> Review:
    facts = report.facts.model_copy(update={"versions": versions})
    return Review(report.project, facts, report.source)


POETRY = '[[package]]\nname = "bcrypt"\nversion = "{}"\n'


@pytest.mark.parametrize(
    ("files", "severity"),
    [
        ({}, "block"),
        ({"poetry.lock": POETRY.format("4.3.0")}, None),
        ({"poetry.lock": POETRY.format("5.0.0")}, "block"),
        ({"uv.lock": POETRY.format("4.3.0") + POETRY.format("5.0.0")}, "note"),
        ({"uv.lock": POETRY.format("5.0.0") + POETRY.format("5.1.0")}, "block"),
        ({"requirements.txt": "fastapi\nbcrypt==4.0.1  # passlib\n"}, None),
        ({"requirements.txt": "bcrypt>=5\nbcryptor==4.0.1\n"}, "block"),
        ({"requirements/base.txt": "bcrypt==4.0.1 \\\n    --hash=sha256:0\n"}, None),
        ({"requirements.txt": "bcrypt==4.0.1", "requirements-dev.txt": "bcrypt==5.0.0"}, "note"),
        ({"poetry.lock": POETRY.format("x"), "uv.lock": "["}, None),
    ],
)
def test_what_is_locked_counts_and_not_what_happens_to_be_installed(
    reviewed, files: dict[str, str], severity: str | None
):
    text = f"{HEAD}class CryptContext(BaseModel):\n    schemes: list[str]\n\n\n"
    report = reviewed(text + "context = CryptContext(schemes=['bcrypt'])\n", rules=[])
    for name, written in files.items():
        path = report.project.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(written, encoding="utf-8")

    installed = {"bcrypt": "5.0.0", "passlib": "1.7.4"}
    found = list(RULES["AUTH009"].find(with_versions(report, installed)))

    assert [item.severity for item in found] == [severity] * (severity is not None)


def test_two_contexts_that_fail_as_installed_are_one_finding(reviewed):
    text = f"{HEAD}class CryptContext(BaseModel):\n    schemes: list[str]\n\n\n"
    text += "one = CryptContext(schemes=['bcrypt'])\ntwo = CryptContext(schemes=['bcrypt'])\n"
    installed = {"bcrypt": "5.0.0", "passlib": "1.7.4"}

    (found,) = RULES["AUTH009"].find(with_versions(reviewed(text, rules=[]), installed))

    assert found.also == (f"main.py:{found.line + 1}",)


def test_fast_hashes_of_passwords_only(reviewed):
    text = f"""{HEAD}
def of_attribute(user: Any) -> str:
    return hashlib.md5(user.password.encode()).hexdigest()


def of_new(new_password: str) -> str:
    return hashlib.new("sha256", new_password.encode()).hexdigest()


def of_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def slowly(password: str) -> bytes:
    return hashlib.sha512(b"x" + str(len(KEY)).encode()).digest()
"""
    assert named(reviewed(text, rules=[RULES["AUTH009"]])) == ["of_attribute", "of_new"]


def test_a_fast_hash_before_a_slow_one_is_fine(reviewed):
    text = f"""{HEAD}
def slow(password: str) -> bytes:
    first = hashlib.sha256(password.encode()).digest()
    return hashlib.pbkdf2_hmac("sha256", first, b"salt", 600_000)
"""
    assert named(reviewed(text, rules=[RULES["AUTH009"]])) == []


def test_first_administrators(reviewed):
    text = f"""{HEAD}
class User(BaseModel):
    name: str
    password: str
    role: str = ""
    is_admin: bool = False


class Settings(BaseSettings):
    admin_password: str = os.getenv("ADMIN", "opensesame")
    root_user_password: str = Field(default="open-sesame")
    superuser_password: str = os.getenv("ROOT", "")


def by_role() -> User:
    return User(name="a", password=str("admin".encode()), role="admin")


def by_flag() -> User:
    return User(name="a", password="x" * 3, is_admin=True)


def of_no_rank() -> User:
    return User(name="a", password="guest", role="guest")
"""
    assert named(reviewed(text, rules=[RULES["AUTH011"]])) == [
        "admin_password",
        "by_role",
        "root_user_password",
    ]


def test_seeds_are_no_deployment(reviewed):
    files = {
        "main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n",
        "scripts/first.py": "dict(password='admin', is_superuser=True)\n",
    }
    assert reviewed(files, rules=[RULES["AUTH011"]]).findings == ()
