"""AUTH011: an administrator whom nobody chose: a known password, or whoever came first."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final, TypeGuard

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.secret import is_filled_in, literal, secret_kind
from newel_tools.facts.source import Function, Module

__all__ = ["RULE"]

_PASSWORDS: Final = re.compile(
    r"^(hashed_?|plain_?)?(password|passwd|pwd)(_?hash)?$", re.IGNORECASE
)
_FLAGS: Final = frozenset({"is_superuser", "is_admin", "is_staff", "superuser", "admin"})
_ROLES: Final = re.compile(r"(^|\.|_)(super_?)?(admin|superuser|root|owner)$", re.IGNORECASE)
_FIRST: Final = re.compile(
    r"^(is_|was_)?(the_)?first(_user|_account|_member|_run|_time)?$", re.IGNORECASE
)
_COUNTS: Final = re.compile(r"count|\blen\(|total", re.IGNORECASE)
_ASKED: Final = re.compile(
    r"\b(select|query|exists|find_one|objects)\b|\.(all|filter|first|exists)\("
)
_CHOSEN: Final = re.compile(
    r"where|filter|get\(|find_one\(\{.|email|username|\bid\b", re.IGNORECASE
)
_ASIDE: Final = re.compile(
    r"(^|[/_])(scripts?|seeds?|seeders?|fixtures?|examples?|demo|dev|migrations|alembic)(/|_|\.)"
    r"|(^|/)tools?/"
)


def find(review: Review) -> Iterator[Finding]:
    """Find administrators with a literal password, default passwords, and the first to register."""
    yield from _crowned(review)
    for module in review.source.own_modules():
        if _ASIDE.search(module.file) or "password" not in module.text.lower():
            continue
        for node in module.nodes:
            what = _said(node, module)
            if what is not None:
                yield RULE.found(what, file=module.file, line=getattr(node, "lineno", 0))


def _crowned(review: Review) -> Iterator[Finding]:
    """Find rights that a request gives to whoever comes while there is nobody yet."""
    for function, reach in review.reached.items():
        for node in function.nodes:
            given = _given_to_the_first(node, function)
            if given is not None:
                yield RULE.found(
                    "whoever registers first becomes an administrator",
                    file=function.file,
                    line=given,
                    route=reach.route,
                    fix="make the first administrator with a command, or with a token that the "
                    "start writes to the log",
                )


def _given_to_the_first(node: ast.AST, function: Function) -> int | None:
    """Return the line at which a right depends on there being nobody yet."""
    match node:
        case ast.Call(keywords=keywords):
            pairs = [(item.arg or "", item.value) for item in keywords]
        case ast.Assign(targets=[ast.Attribute(attr=name)], value=value):
            pairs = [(name, value)]
        case ast.If(test=test) if _is_nobody(test, function):
            given = (inner for part in node.body for inner in ast.walk(part))
            return next((item.lineno for item in given if _raises(item)), None)
        case _:
            return None
    for name, value in pairs:
        decided = value.test if isinstance(value, ast.IfExp) else value
        if _is_power(name) and _is_nobody(decided, function):
            return value.lineno
    return None


def _is_power(name: str) -> bool:
    return name in _FLAGS or name in ("role", "roles", "role_id")


def _raises(node: ast.AST) -> TypeGuard[ast.Assign | ast.keyword]:
    """Tell whether a statement gives somebody the rights of an administrator."""
    match node:
        case (
            ast.Assign(targets=[ast.Attribute(attr=name) | ast.Name(id=name)], value=value)
            | ast.keyword(arg=str(name), value=value)
        ) if _is_power(name):
            text = ast.unparse(value).strip("'\"")
            return _is_true(value) or _ROLES.search(text) is not None
        case _:
            return False


def _is_nobody(test: ast.expr, function: Function, *, depth: int = 2) -> bool:
    """Tell whether a condition holds while a table is empty: a count of 0, no first row."""
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Lt() | ast.LtE()], comparators=[number]):
            zero = isinstance(number, ast.Constant) and number.value in (0, 1)
            return zero and _is_of_all(left, function, _COUNTS)
        case ast.Compare(left=left, ops=[ast.Is()], comparators=[ast.Constant(value=None)]):
            return _is_of_all(left, function, _ASKED)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return _is_of_all(inner, function, _COUNTS) or _is_of_all(inner, function, _ASKED)
        case ast.Name(id=name) if depth:
            values = _values(name, function)
            known = any(_is_nobody(value, function, depth=depth - 1) for value in values)
            return known or (_FIRST.match(name) is not None and bool(values))
        case _:
            return False


def _is_of_all(value: ast.expr, function: Function, words: re.Pattern[str]) -> bool:
    """Tell whether an expression asks for all rows of a table, rather than for certain ones."""
    name = value.id if isinstance(value, ast.Name) else None
    values = _values(name, function) if name is not None else [value]
    texts = [ast.unparse(item) for item in values]
    return bool(texts) and all(
        (words.search(text) or words.search(name or "")) and not _CHOSEN.search(text)
        for text in texts
    )


def _values(name: str, function: Function) -> list[ast.expr]:
    """Return what is assigned to a local name."""
    return [
        node.value
        for node in function.nodes
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
    ]


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
                and not _is_compared(name, module)
            ):
                return f"`{name}` has a default: where nobody sets it, everybody knows it"
            return None
        case _:
            return None


def _is_compared(name: str, module: Module) -> bool:
    """Tell whether something is compared with a default, as by a start that refuses it."""
    return any(
        isinstance(part, ast.Name) and part.id == name
        for node in module.nodes
        if isinstance(node, ast.Compare)
        for part in ast.walk(node)
    )


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
    text = inner.value if isinstance(inner, ast.Constant) else None
    return isinstance(text, str) and bool(text) and not is_filled_in(text)


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
    title="An administrator is nobody's choice",
    severity="change",
    how="source",
    why="Whoever reads the code and guesses the password, or registers before its owner does, owns "
    "the deployment.",
    fix="ask for it: a setting without a default, or a command that creates the administrator and "
    "reads "
    "the password from its input",
    seed='003 "Security first"',
    expected="tests, seeds, fixtures and scripts; defaults that the code compares with and "
    "refuses; look-ups of certain rows, and what is decided at the start or by a command; "
    "gaps of a template.",
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


users: list[User] = []


@app.post("/register")
def register(name: str, password: str) -> User:
    first = len(users) == 0
    return User(name=name, hashed_password=hashed(password), is_superuser=first)  # finding


@app.post("/signup")
def sign_up(name: str, password: str) -> User:
    user = User(name=name, hashed_password=hashed(password))
    count = len(users)
    if not count:
        user.is_superuser = True  # finding
    return user
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


DEV_ADMIN_PASSWORD = "only on this machine"


class RefusingByName(BaseSettings):
    environment: str = "development"
    admin_password: str = DEV_ADMIN_PASSWORD

    def check(self) -> None:
        if self.environment == "production" and self.admin_password == DEV_ADMIN_PASSWORD:
            raise ValueError("set a password")


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


@app.post("/templates")
def create_from_template() -> User:
    return User(name="root", password="{{cookiecutter.password}}", is_superuser=True)


users: list[User] = []


@app.post("/promote")
def promote(name: str) -> User | None:
    user = next((user for user in users if user.name == name), None)
    if user is None:
        return None
    pages = len(users)
    if pages == 0:
        name = "nobody"
    user.is_superuser = name == "ann"
    return user
""",
    find=find,
)
