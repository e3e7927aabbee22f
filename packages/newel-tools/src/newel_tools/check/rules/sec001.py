"""SEC001: a secret stands in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.doors import doors
from newel_tools.check.empty_keys import empty_keys
from newel_tools.check.finding import Finding, Severity
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.secret import (
    address_secret,
    is_given_key,
    is_random,
    literal,
    secret_kind,
)
from newel_tools.check.tokens import is_decode, is_encode, own_calls
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Class, Module

__all__ = ["RULE"]

_DOCUMENTING: Final = re.compile(
    r"^(description|examples?|help|title|summary|doc|json_schema_extra)$"
)
_SETTINGS: Final = re.compile(r"(^|\.)(BaseSettings|Settings|Config|AppConfig)$")
_LOCAL: Final = re.compile(r"(dev|test|local|mock|fake|example|demo)", re.IGNORECASE)
_LOCAL_NAME: Final = re.compile(r"(^|_)(dev|test|tests|local|mock|fake|dummy)(_|$)", re.IGNORECASE)
_ASIDE: Final = re.compile(
    r"(^|/)(examples?|demos?|benchmarks?|stress|load_?tests?|docs?|docs_src|scripts?|seeds?|fixtures?|migrations|alembic|mocks?|dev)/"
)
_SIGNERS: Final = {
    "itsdangerous.URLSafeTimedSerializer": "secret_key",
    "itsdangerous.URLSafeSerializer": "secret_key",
    "itsdangerous.TimestampSigner": "secret_key",
    "cryptography.fernet.Fernet": "key",
}
_READS: Final = re.compile(r"(^|\.)(getenv|environ\.get|config|env|env\.str)$")
_CONSTANT_CHARACTERS: Final = 8  # shorter constants are names of things


def find(review: Review) -> Iterator[Finding]:
    """Find literal secrets: settings' defaults, constants, addresses, keys, tokens that let in."""
    refused = _compared_texts(review)
    for module in review.source.own_modules():
        if _ASIDE.search(f"/{module.file}"):
            continue
        for line, what, severity in [*_given_keys(module), *_addresses(module)]:
            yield RULE.found(what, file=module.file, line=line, severity=severity)
        for line, what, severity in _in_module(review, module, refused):
            yield _found(review, what, file=module.file, line=line, severity=severity)
    for call in own_calls(review):
        if not _ASIDE.search(f"/{call.caller.file}") and _signs_with_literal(call):
            what = f"`{call.target}` is given a key that stands in the code"
            yield _found(review, what, file=call.caller.file, line=call.line, severity="block")
    for module, line, name in empty_keys(review):
        if not _ASIDE.search(f"/{module.file}"):
            what = f"where nobody sets `{name}`, everything is signed with an empty key"
            yield _found(review, what, file=module.file, line=line, severity="block")
    for function, line, name, severity in doors(review):
        what = f"whoever sends the `{name}` that stands in the code is let in"
        yield RULE.found(what, file=function.file, line=line, severity=severity)


def _found(review: Review, what: str, *, file: str, line: int, severity: Severity) -> Finding:
    """Return a finding; what no application here leads to signs nothing, and is told as a note.

    A given key or an address is no such matter: whoever reads the repository can use it.
    """
    if file not in review.parts:
        what, severity = f"{what}, in a file that no application here imports", "note"
    return RULE.found(what, file=file, line=line, severity=severity)


def _given_keys(module: Module) -> Iterator[tuple[int, str, Severity]]:
    for node in module.nodes:
        match node:
            case ast.Constant(value=str(text)) if is_given_key(text):
                yield node.lineno, "a provider's key stands in the code", "block"
            case _:
                pass


def _in_module(
    review: Review, module: Module, refused: frozenset[str]
) -> Iterator[tuple[int, str, Severity]]:
    for node in module.nodes:
        if isinstance(node, ast.Call):
            yield from _fallback(node, refused)
    yield from _assigned(module.tree.body, refused, is_settings=False)
    for cls in review.source.classes.values():
        if cls.module is module and not _LOCAL.search(cls.name) and not _is_choice(review, cls):
            kept = refused | _validated_names(cls)
            yield from _assigned(cls.node.body, kept, is_settings=_is_settings(review, cls))


def _addresses(module: Module) -> Iterator[tuple[int, str, Severity]]:
    """Find addresses of servers with a password in them, but for what documents or is compared."""
    aside = {id(inner) for node in module.nodes for inner in _said_only(node)}
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in aside:
            severity = address_secret(node.value)
            if severity is not None:
                yield node.lineno, "the address of a server holds its password", severity


def _said_only(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what lies in texts for readers, comparisons, and what is for tests by its name."""
    match node:
        case ast.Compare() | ast.Expr(value=ast.Constant()):
            yield from ast.walk(node)
        case ast.keyword(arg=str(name)) if _DOCUMENTING.search(name):
            yield from ast.walk(node)
        case ast.ClassDef(name=name) if _LOCAL.search(name):
            yield from ast.walk(node)
        case (
            ast.Assign(targets=[ast.Name(id=name), *_]) | ast.AnnAssign(target=ast.Name(id=name))
        ) if _LOCAL_NAME.search(name):
            yield from ast.walk(node)
        case _:
            pass


def _is_settings(review: Review, cls: Class) -> bool:
    return any(_SETTINGS.search(name) for name in {cls.name, *review.source.base_names(cls)})


def _is_choice(review: Review, cls: Class) -> bool:
    return any("Enum" in name for name in review.source.base_names(cls))


def _assigned(
    body: list[ast.stmt], refused: frozenset[str], *, is_settings: bool
) -> Iterator[tuple[int, str, Severity]]:
    for node in body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                kind = secret_kind(name)
                text = literal(_given(value), name=name)
                if text is None or kind is None or kind == "admin" or {text, name} & refused:
                    continue
                if _LOCAL_NAME.search(name):
                    continue
                if not is_settings and (len(text) < _CONSTANT_CHARACTERS or not name.isupper()):
                    continue
                what = f"`{name}` has a default that stands in the code"
                yield (
                    node.lineno,
                    what if is_settings else f"`{name}` stands in the code",
                    ("block" if kind == "signing" or is_random(text) else "note"),
                )
            case _:
                pass


def _given(value: ast.expr) -> ast.expr:
    """Return the default in `Field("x")` and `Field(default="x")`, or the value itself."""
    match value:
        case ast.Call(func=ast.Name(id="Field"), args=args, keywords=keywords):
            named = next((k.value for k in keywords if k.arg == "default"), None)
            return named or (args[0] if args else value)
        case _:
            return value


def _fallback(call: ast.Call, refused: frozenset[str]) -> Iterator[tuple[int, str, Severity]]:
    """Find `os.getenv("SECRET_KEY", "a secret")`."""
    if not _READS.search(ast.unparse(call.func)) or not call.args:
        return
    default = next((k.value for k in call.keywords if k.arg == "default"), None)
    default = default or (call.args[1] if len(call.args) > 1 else None)
    match call.args[0]:
        case ast.Constant(value=str(name)) if secret_kind(name) == "signing":
            text = literal(default, name=name)
            if text is not None and text not in refused:
                yield call.lineno, f"where `{name}` is not set, a text in the code is used", "block"
        case _:
            pass


def _signs_with_literal(call: Call) -> bool:
    name = _SIGNERS.get(call.target or "")
    if is_encode(call) or is_decode(call):
        key = call.argument(1, "key")
    elif name is not None:
        key = call.argument(0, name)
    else:
        return False
    return literal(key, name="") is not None


def _compared_texts(review: Review) -> frozenset[str]:
    """Return the texts that code compares with: a default that is refused is no secret."""
    found: set[str] = set()
    for module in review.source.own_modules():
        for node in module.nodes:
            if isinstance(node, ast.Compare):
                found |= {
                    inner.value
                    for side in (node.left, *node.comparators)
                    for inner in ast.walk(side)
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                }
    return frozenset(found)


def _validated_names(cls: Class) -> frozenset[str]:
    """Return the fields that validators of a settings class name."""
    found: set[str] = set()
    for method in cls.methods.values():
        for node in method.node.decorator_list:
            if isinstance(node, ast.Call) and "validator" in ast.unparse(node.func):
                found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
                if "model" in ast.unparse(node.func) or "root" in ast.unparse(node.func):
                    found |= {n.attr for n in method.nodes if isinstance(n, ast.Attribute)}
    return frozenset(found)


RULE = Rule(
    id="SEC001",
    title="A secret stands in the code",
    severity="block",
    how="source",
    why="Everybody who can read the repository, an image or a backup can sign tokens as anybody; "
    "where the "
    "variable is forgotten, the default signs in production.",
    fix="a setting without a default, `secret_key: SecretStr`, so that the service does not start "
    "without it",
    seed='003 "No secrets in code", "Never hardcode secrets"',
    expected="names of things (`TOKEN_TYPE`), paths, enums, tests, classes for development, gaps "
    "of a template (`{{ name }}`), asterisks, defaults that the code compares with or validates, "
    "empty ones that sign nothing, "
    "addresses of this machine or with a placeholder. Notes: passwords of other services, tokens "
    "below a switch of the settings, keys to sign with that no application imports.",
    bad="""
import os

import jwt
from fastapi import FastAPI
from pydantic_settings import BaseSettings

app = FastAPI()
SECRET_KEY = "09d25e094faa6ca2556c818166b7a956"  # finding
JWT_SECRET = os.getenv("JWT_SECRET", "dev-secret-key")  # finding
INVITATION_KEY = os.getenv("INVITATION_KEY", default="")  # finding


class Settings(BaseSettings):
    session_secret: str = "keyboard cat".replace(" ", "-")
    encryption_key: str = "changeme"  # finding
    database_url: str = "postgresql://shop:Zk3-plum@db.shop.internal/shop"  # finding


@app.get("/orders")
def orders(token: str) -> list[str]:
    if token == "admin-token-2024":  # finding
        return ["all"]
    return []


@app.get("/token")
def token() -> str:
    return jwt.encode({"sub": "a", "exp": 1}, "s3cr3t-k3y", algorithm="HS256")  # finding


@app.get("/invitation")
def invitation() -> str:
    return jwt.encode({"sub": "a", "exp": 1}, INVITATION_KEY, algorithm="HS256")
""",
    good="""
import os
import secrets
from enum import Enum

import jwt
from fastapi import FastAPI
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

app = FastAPI()
SECRET_KEY = os.environ.get("SECRET_KEY", "")
INVITATION_KEY = os.environ.get("INVITATION_KEY", "")
if not INVITATION_KEY:
    INVITATION_KEY = secrets.token_urlsafe(32)
TOKEN_TYPE = "bearer"
PRIVATE_KEY = "/run/secrets/key.pem"
API_KEY = "API_KEY"
REDACTED_SECRET = "********"
SESSION_SECRET = "{{cookiecutter.session_secret}}"
LOCAL_FERNET_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Grant(Enum):
    PASSWORD = "password"
    CLIENT_SECRET = "client-credentials"


class Settings(BaseSettings):
    secret_key: str = Field(default_factory=lambda: secrets.token_urlsafe(32))
    jwt_secret: SecretStr = SecretStr("")
    signing_key: str = "changethis"
    database_url: str = "postgresql://postgres:Zk3-plum@localhost/shop"
    master_key: str = "please-set-one"

    @field_validator("master_key")
    @classmethod
    def is_set(cls, value: str) -> str:
        return value

    def check(self) -> None:
        if self.signing_key == "changethis":
            raise ValueError("set a key")


@app.get("/invitation")
def invitation() -> str:
    return jwt.encode({"sub": "a", "exp": 1}, INVITATION_KEY, algorithm="HS256")
""",
    find=find,
)
