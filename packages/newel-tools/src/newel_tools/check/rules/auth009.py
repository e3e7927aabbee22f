"""AUTH009: passwords that whoever reads the table can read or guess."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.locked import locked
from newel_tools.check.review import Review
from newel_tools.check.rows import Rows
from newel_tools.check.rule import Rule
from newel_tools.check.tokens import own_calls
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_FAST: Final = re.compile(
    r"hashlib\.(md5|sha1|sha224|sha256|sha384|sha512|sha3_\d+|blake2[bs]|new)"
)
_PASSWORD: Final = re.compile(r"^(\w+_)?(password|passwd|pwd)$", re.IGNORECASE)
_SLOW: Final = re.compile(
    r"bcrypt|argon2|scrypt|pbkdf2|pwdlib|passlib|CryptContext|pwned", re.IGNORECASE
)
_BCRYPT: Final = 5  # from then on it refuses what passlib asks it at the first hash
_WEAK_SCHEMES: Final = frozenset(
    {
        "plaintext",
        "md5_crypt",
        "des_crypt",
        "hex_md5",
        "hex_sha1",
        "hex_sha256",
        "hex_sha512",
        "ldap_md5",
    }
)


def find(review: Review) -> Iterator[Finding]:
    """Find fast hashes, plain comparisons, weak schemes, and one that fails as installed."""
    for call in own_calls(review):
        if _hashes_password(call):
            yield _found(
                call, f"a password is hashed with `{call.target}`, which is made to be fast"
            )
    for function in review.source.functions.values():
        if not function.module.is_test:
            yield from _compared(review, function)
    yield from _contexts(review)


def _found(call: Call, what: str) -> Finding:
    return RULE.found(what, file=call.caller.file, line=call.line)


def _hashes_password(call: Call) -> bool:
    if call.target is None or _FAST.fullmatch(call.target) is None:
        return False
    names = {
        getattr(node, "id", None) or getattr(node, "attr", "")
        for argument in call.node.args
        for node in ast.walk(argument)
    }
    # A fast hash before a slow one is how long passwords are fed to bcrypt.
    slow = _SLOW.search(call.caller.module.text) is not None
    return not slow and any(_PASSWORD.match(name) for name in names)


def _compared(review: Review, function: Function) -> Iterator[Finding]:
    """Find `user.password == password`, where `user` is a row, and the same in a query."""
    rows = Rows(review)
    for node in function.nodes:
        if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            continue
        sides = [node.left, *node.comparators]
        stored = [side for side in sides if _is_column(rows, side, function)]
        given = [side for side in sides if side not in stored and _last(side)]
        if stored and any(_PASSWORD.match(_last(side)) for side in given):
            yield RULE.found(
                "a stored password is compared as it is: it is kept as plain text",
                file=function.file,
                line=node.lineno,
            )


def _is_column(rows: Rows, side: ast.expr, function: Function) -> bool:
    if not isinstance(side, ast.Attribute) or side.attr not in ("password", "passwd", "pwd"):
        return False
    named = rows.entity(side.value, function.module)
    return named is not None or rows.of(side.value, function) is not None


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _contexts(review: Review) -> Iterator[Finding]:
    """Find `CryptContext(schemes=[...])` with weak schemes, or with bcrypt where that fails."""
    places: list[tuple[str, int]] = []
    for module in review.source.own_modules():
        for node in module.nodes if "CryptContext" in module.text else ():
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("CryptContext")):
                continue
            first = _schemes(node)[:1]
            if set(first) & _WEAK_SCHEMES:
                yield RULE.found(
                    f"new passwords are stored with the scheme `{first[0]}`",
                    file=module.file,
                    line=node.lineno,
                )
            elif first == ["bcrypt"]:
                places.append((module.file, node.lineno))
    yield from _broken(review, places)


def _broken(review: Review, places: list[tuple[str, int]]) -> Iterator[Finding]:
    """Find that passlib's bcrypt fails as locked, or else as installed: one cause for all.

    Where only some of the locks have what fails, nobody here knows which is deployed.
    """
    installed = review.facts.versions.get("bcrypt", "0")
    versions = locked(review.project, "bcrypt") or {installed}
    failing = {version for version in versions if _major(version) >= _BCRYPT}
    if places and failing and "passlib" in review.facts.versions:
        version = max(failing, key=_major)
        where = "" if failing == versions else ", which not all of the locks have"
        served = {function.file for function in review.served}
        (file, line), *others = sorted(places, key=lambda place: place[0] not in served)
        yield RULE.found(
            f"`CryptContext` cannot hash with bcrypt {version}{where}: every log-in and sign-up "
            "fails",
            file=file,
            line=line,
            certainty="suspected" if where else "proved",
            severity="note" if where else None,
            also=[f"{path}:{number}" for path, number in others],
        )


def _major(version: str) -> int:
    first = version.partition(".")[0]
    return int(first) if first.isdecimal() else 0


def _schemes(call: ast.Call) -> list[str]:
    given = next((k.value for k in call.keywords if k.arg == "schemes"), None)
    given = given or (call.args[0] if call.args else None)
    items = given.elts if isinstance(given, ast.List | ast.Tuple) else []
    return [str(item.value) for item in items if isinstance(item, ast.Constant)]


RULE = Rule(
    id="AUTH009",
    title="Stored passwords can be read or guessed",
    severity="block",
    how="source",
    why="A graphics card tries billions of fast hashes a second: a copy of the table is a list of "
    "passwords.",
    fix="hash with Argon2id, `pwdlib.PasswordHash.recommended()`: `.hash(password)` and "
    "`.verify_and_update(password, stored)`",
    seed='003 "Hash with bcrypt via passlib", "Never store plain text"',
    expected="a fast hash that feeds a slow one, digests of files and tokens, comparing two new "
    "passwords of one form, a password of the settings. That passlib cannot use bcrypt 5 "
    "counts by the nearest locks and pins, and without them by what is installed; where only some "
    "of them have it, it is a note.",
    bad="""
import hashlib

from fastapi import FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]


def hash_password(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()  # finding


@app.post("/login")
def login(user_id: int, password: str) -> bool:
    with Session(engine) as session:
        user = session.get_one(User, user_id)
        return user.password == password  # finding


@app.post("/find")
def find(password: str) -> bool:
    with Session(engine) as session:
        query = select(User).where(User.password == password)  # finding
        return session.scalar(query) is not None
""",
    good="""
import hashlib
import secrets

from fastapi import FastAPI
from pydantic import BaseModel
from pwdlib import PasswordHash
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()
hasher = PasswordHash.recommended()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]


class NewPassword(BaseModel):
    password: str
    confirm_password: str


def hash_file(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@app.post("/login")
def login(user_id: int, password: str) -> bool:
    with Session(engine) as session:
        return hasher.verify(password, session.get_one(User, user_id).password)


@app.post("/register")
def register(body: NewPassword) -> bool:
    return body.password == body.confirm_password


@app.post("/basic")
def basic(password: str) -> bool:
    return secrets.compare_digest(password, "read from the settings")
""",
    find=find,
)
