"""AUTH011: an administrator whose password everybody can look up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.secret import literal, secret_kind
from newel_tools.facts.source import Module

__all__ = ["RULE"]

_PASSWORDS: Final = re.compile(
    r"^(hashed_?|plain_?)?(password|passwd|pwd)(_?hash)?$", re.IGNORECASE
)
_FLAGS: Final = frozenset({"is_superuser", "is_admin", "is_staff", "superuser", "admin"})
_ROLES: Final = re.compile(r"(^|\.|_)(super_?)?(admin|superuser|root|owner)$", re.IGNORECASE)
_ASIDE: Final = re.compile(
    r"(^|/)(scripts?|seeds?|seeders?|fixtures?|examples?|demo|dev|migrations|alembic)(/|_|\.)"
)


def find(review: Review) -> Iterator[Finding]:
    """Find administrators with a literal password, and default passwords of the first one."""
    for module in review.source.own_modules():
        if _ASIDE.search(module.file) or "password" not in module.text.lower():
            continue
        for node in ast.walk(module.tree):
            what = _said(node, module)
            if what is not None:
                yield RULE.found(what, file=module.file, line=getattr(node, "lineno", 0))


def _said(node: ast.AST, module: Module) -> str | None:
    match node:
        case ast.Call(keywords=keywords) if _is_made(keywords):
            return "an administrator is created with a password that stands in the code"
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.Assign(targets=[ast.Name(id=name)], value=value)
        ) if secret_kind(name) == "admin":
            text = _default(value, name)
            if (
                text is not None
                and module.text.count(f'"{text}"') + module.text.count(f"'{text}'") == 1
            ):
                return f"`{name}` has a default: where nobody sets it, everybody knows it"
            return None
        case _:
            return None


def _is_made(keywords: list[ast.keyword]) -> bool:
    given = {keyword.arg: keyword.value for keyword in keywords if keyword.arg}
    raised = any(_is_true(given.get(flag)) for flag in _FLAGS)
    role = given.get("role")
    named = isinstance(role, ast.Constant | ast.Attribute) and bool(
        _ROLES.search(ast.unparse(role).strip("'\""))
    )
    return (raised or named) and any(
        _PASSWORDS.match(name) and _holds_literal(value) for name, value in given.items()
    )


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _holds_literal(value: ast.expr) -> bool:
    """Tell whether a password is a text, or the hash of one."""
    inner = value.args[0] if isinstance(value, ast.Call) and len(value.args) == 1 else value
    if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
        inner = inner.func.value  # "admin".encode()
    return isinstance(inner, ast.Constant) and isinstance(inner.value, str) and bool(inner.value)


def _default(value: ast.expr, name: str) -> str | None:
    """Return the text that a setting falls back to: also in `Field("x")` and `getenv(..., "x")`."""
    if isinstance(value, ast.Call):
        named = next((k.value for k in value.keywords if k.arg == "default"), None)
        reads = ast.unparse(value.func).endswith(("getenv", "environ.get", "config", "env"))
        position = 1 if reads else 0
        given = value.args[position] if len(value.args) > position else None
        return literal(named or given, name="")
    return literal(value, name="") if name.isupper() or name.islower() else None


RULE = Rule(
    id="AUTH011",
    title="Everybody knows the first administrator's password",
    severity="change",
    how="source",
    why="Whoever reads the code, or guesses, owns every deployment where the password was never "
    "changed.",
    fix="ask for it: a setting without a default, or a command that creates the administrator and "
    "reads "
    "the password from its input",
    seed='003 "Security first"',
    expected="tests, seeds, fixtures and scripts; defaults that the code compares with and "
    "refuses.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel
from pydantic_settings import BaseSettings

app = FastAPI()


class Settings(BaseSettings):
    FIRST_SUPERUSER: str = "admin@example.com"
    FIRST_SUPERUSER_PASSWORD: str = "letmein"  # finding


class User(BaseModel):
    name: str
    hashed_password: str
    is_superuser: bool = False


def hashed(password: str) -> str:
    return password[::-1]


@app.post("/setup")
def create_first() -> User:
    return User(name="root", hashed_password=hashed("admin123"), is_superuser=True)  # finding
""",
    good="""
from fastapi import FastAPI
from pydantic import BaseModel, field_validator
from pydantic_settings import BaseSettings

app = FastAPI()


class Settings(BaseSettings):
    FIRST_SUPERUSER: str = "admin@example.com"
    FIRST_SUPERUSER_PASSWORD: str | None = None


class Refusing(BaseSettings):
    admin_password: str = "changethis"

    @field_validator("admin_password")
    @classmethod
    def is_changed(cls, value: str) -> str:
        if value == "changethis":
            raise ValueError("set a password")
        return value


class User(BaseModel):
    name: str
    password: str
    is_superuser: bool = False


@app.post("/setup")
def create_first(password: str) -> User:
    return User(name="root", password=password, is_superuser=True)


@app.post("/users")
def create() -> User:
    return User(name="guest", password="none", is_superuser=False)
""",
    find=find,
)
