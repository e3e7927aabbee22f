"""ASYNC004: a password is hashed on the event loop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import receiver
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.calls import Call

__all__ = ["RULE"]

_HASHES: Final = re.compile(
    r"bcrypt\.(hashpw|checkpw)|hashlib\.(pbkdf2_hmac|scrypt)"
    r"|passlib\.context\.CryptContext\.(hash|verify|verify_and_update|encrypt)"
    r"|passlib\.hash\.\w+\.(hash|verify)|argon2(\._password_hasher)?\.PasswordHasher\.(hash|verify)"
    r"|pwdlib\.PasswordHash\.(hash|verify|verify_and_update)"
    r"|werkzeug\.security\.(generate_password_hash|check_password_hash)"
)
_HASHERS: Final = re.compile(r"pwd|password_?hash|hasher|crypt|^ph$", re.IGNORECASE)
_METHODS: Final = frozenset({"hash", "verify", "verify_and_update", "encrypt"})
_LIBRARIES: Final = ("pwdlib", "passlib", "argon2")
_ROUNDS: Final = 10_000  # of `pbkdf2_hmac`: fewer take a few milliseconds


def find(review: Review) -> Iterator[Finding]:
    """Find slow hashes that coroutines compute, themselves or further down."""
    for function, reach in review.on_loop.items():
        for call in review.calls.of(function):
            if not call.is_awaited and _is_slow(call):
                yield RULE.found(
                    f"`{ast.unparse(call.node.func)}` takes the event loop for its whole time",
                    file=function.file,
                    line=call.line,
                    route=reach.route,
                )


def _is_slow(call: Call) -> bool:
    """Tell whether a call hashes a password; a hasher made by a class method goes by its name."""
    if _HASHES.fullmatch(call.target or ""):
        return not _is_short(call.node)
    method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    known = any(library in call.caller.module.text for library in _LIBRARIES)
    by_name = known and method in _METHODS and call.function is None
    return by_name and _HASHERS.search(receiver(call)) is not None


def _is_short(call: ast.Call) -> bool:
    """Tell whether `pbkdf2_hmac` derives a key in so few rounds that nobody waits for it."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "iterations"]
    match [*named, *call.args[3:4]]:
        case [ast.Constant(value=int(rounds))]:
            return rounds < _ROUNDS
        case _:
            return False


RULE = Rule(
    id="ASYNC004",
    title="A password is hashed on the event loop",
    severity="change",
    how="source",
    why="A good password hash takes 50 to 300 ms of CPU by design: a few log-ins at once stop "
    "every other request.",
    fix="`await asyncio.to_thread(hasher.verify, ...)`, or make the endpoint a plain `def`",
    seed='003 "Blocking calls in async context"',
    expected="`def` endpoints and dependencies, hashes in a thread, fast digests, keys that are "
    "derived in fewer than 10,000 rounds.",
    bad="""
import hashlib

import bcrypt
from fastapi import FastAPI
from pwdlib import PasswordHash

hasher = PasswordHash.recommended()
app = FastAPI()


def check(password: str, hashed: str) -> bool:
    return bcrypt.checkpw(password.encode(), hashed.encode())  # finding


@app.post("/login")
async def login(password: str) -> bool:
    return check(password, "$2b$12$")


@app.post("/register")
async def register(password: str) -> str:
    return hasher.hash(password)  # finding


@app.post("/derive")
async def derive(password: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 600_000).hex()  # finding
""",
    good="""
import asyncio
import hashlib

import bcrypt
from fastapi import FastAPI

app = FastAPI()


def check(password: str, hashed: str) -> bool:
    return bcrypt.checkpw(password.encode(), hashed.encode())


@app.post("/login")
async def login(password: str) -> bool:
    return await asyncio.to_thread(check, password, "$2b$12$")


@app.post("/thread")
def in_thread(password: str) -> bool:
    return check(password, "$2b$12$")


@app.post("/digest")
async def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@app.post("/keys")
async def derive(text: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"keys", 2048, 32).hex()
""",
    find=find,
    is_habit=True,
)
