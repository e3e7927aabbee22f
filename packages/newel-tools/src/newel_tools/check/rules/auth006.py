"""AUTH006: a token is believed without being checked, or for ever."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.check.tokens import guarding, is_decode, is_encode, own_calls
from newel_tools.facts.calls import Call

__all__ = ["RULE"]

_UNCHECKED: Final = frozenset({"verify_signature", "verify_exp"})
_WHO: Final = frozenset({"sub", "user_id", "uid", "username", "user", "email", "id"})


def find(review: Review) -> Iterator[Finding]:
    """Find tokens that guards read without a check, and tokens of users that never end."""
    guards = guarding(review, Access(review))
    ends = _compared_claims(review)
    for call in own_calls(review):
        if is_decode(call):
            for what in _decoded(call, guarded=call.caller in guards):
                yield RULE.found(what, file=call.caller.file, line=call.line)
        elif is_encode(call) and _never_ends(call, ends):
            yield RULE.found(
                "the token has no `exp`: it is accepted for ever",
                file=call.caller.file,
                line=call.line,
            )


def _decoded(call: Call, *, guarded: bool) -> Iterator[str]:
    options = call.argument(3, "options")
    off = {name for name in _UNCHECKED if _switched_off(options, name)}
    unverified = "verify_signature" in off or _is_false(call.argument(None, "verify"))
    if unverified and guarded and not _verifies_too(call):
        yield "the caller's token is read without checking its signature"
    elif "verify_exp" in off and guarded:
        yield "the caller's token is accepted after its end"
    algorithms = call.argument(2, "algorithms")
    if isinstance(algorithms, ast.List | ast.Tuple | ast.Set):
        names = {getattr(item, "value", None) for item in algorithms.elts}
        if names & {"none", "None", "NONE"}:
            yield "a token with the algorithm `none` needs no signature"
    elif algorithms is None and not unverified and not _spreads(call):
        yield "the token is read without `algorithms`: it may choose its own"


def _verifies_too(call: Call) -> bool:
    """Tell whether the same function checks a token as well: it peeked at the issuer first."""
    calls = [node for node in call.caller.nodes if isinstance(node, ast.Call)]
    names = [ast.unparse(node.func) for node in calls if node is not call.node]
    return any(name.endswith((".decode", ".verify", "verify_token")) for name in names)


def _switched_off(options: ast.expr | None, name: str) -> bool:
    match options:
        case ast.Dict(keys=keys, values=values):
            return any(
                isinstance(key, ast.Constant) and key.value == name and _is_false(value)
                for key, value in zip(keys, values, strict=True)
            )
        case _:
            return False


def _is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _spreads(call: Call) -> bool:
    """Tell whether arguments are given that cannot be read: `*args`, `**options`."""
    return any(keyword.arg is None for keyword in call.node.keywords) or any(
        isinstance(argument, ast.Starred) for argument in call.node.args
    )


def _compared_claims(review: Review) -> frozenset[str]:
    """Return the keys whose values code puts in order: `claims["expires"] < time.time()`."""
    compared = (
        side
        for module in review.source.own_modules()
        for node in module.nodes
        if isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        for side in (node.left, *node.comparators)
    )
    return frozenset(
        inner.value
        for side in compared
        for inner in ast.walk(side)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    )


def _never_ends(call: Call, ends: frozenset[str]) -> bool:
    claims = call.argument(0, "payload") or call.argument(None, "claims")
    if isinstance(claims, ast.Name):
        claims = _only_value(call, claims.id)
    if not isinstance(claims, ast.Dict) or not all(_is_text(key) for key in claims.keys):
        return False
    names = {getattr(key, "value", None) for key in claims.keys}
    return not names & {"exp", *ends} and bool(names & _WHO)


def _is_text(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and isinstance(key.value, str)


def _only_value(call: Call, name: str) -> ast.expr | None:
    """Return what a local name holds if it is assigned once and nothing is done to it after."""
    uses = [n for n in call.caller.nodes if isinstance(n, ast.Name) and n.id == name]
    values: list[ast.expr | None] = []
    for node in call.caller.nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=bound)], value=value)
                | ast.AnnAssign(target=ast.Name(id=bound), value=value)
            ) if bound == name:
                values.append(value)
            case _:
                pass
    return values[0] if len(values) == 1 and len(uses) == 2 else None


RULE = Rule(
    id="AUTH006",
    title="A token is believed without being checked",
    severity="block",
    how="source",
    why="Whoever writes a token of their own, or finds an old one, is the user that it names.",
    fix="`jwt.decode(token, key, algorithms=['HS256'], options={'require': ['exp', 'sub']})`, and "
    "give every token an `exp`",
    seed='003 "JWT Pattern": "Include: exp, iat, sub, type"',
    expected="tests; reading a token's issuer before it is checked; tokens that another server "
    "handed over directly, outside the guards; claims that are put together elsewhere; a claim of "
    "another name that the code itself compares with the time.",
    bad="""
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")
KEY = "read from the settings"


def current_user(token: Annotated[str, Depends(bearer)]) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})  # finding
    return claims["sub"]


def late_user(token: Annotated[str, Depends(bearer)]) -> str:
    off = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_exp": False})  # finding
    return off["sub"]


def any_user(token: Annotated[str, Depends(bearer)]) -> str:
    return jwt.decode(token, KEY, algorithms=["HS256", "none"])["sub"]  # finding


def old_user(token: Annotated[str, Depends(bearer)]) -> str:
    return jwt.decode(token, KEY)["sub"]  # finding


@app.get("/me")
def me(
    user: Annotated[str, Depends(current_user)], late: Annotated[str, Depends(late_user)]
) -> str:
    return user + late


@app.get("/any")
def whoever(user: Annotated[str, Depends(any_user)], old: Annotated[str, Depends(old_user)]) -> str:
    return user + old


@app.post("/login")
def login(name: str) -> str:
    claims = {"sub": name}
    return jwt.encode(claims, KEY, algorithm="HS256")  # finding


@app.post("/sign-up")
def sign_up(name: str) -> str:
    claims = {"sub": name, "expires": "in an hour"}
    return jwt.encode(claims, KEY, algorithm="HS256")  # finding
""",
    good="""
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")
KEYS = {"us": "read from the settings"}
OPTIONS: dict[str, Any] = {"algorithms": ["HS256"]}


def current_user(token: Annotated[str, Depends(bearer)]) -> str:
    issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
    return jwt.decode(token, KEYS[issuer], algorithms=["HS256"])["sub"]


def known_user(token: Annotated[str, Depends(bearer)]) -> str:
    return jwt.decode(token, KEYS["us"], **OPTIONS)["sub"]


@app.get("/me")
def me(
    user: Annotated[str, Depends(current_user)], known: Annotated[str, Depends(known_user)]
) -> str:
    return user + known


def fresh_user(token: Annotated[str, Depends(bearer)]) -> str | None:
    claims = jwt.decode(token, KEYS["us"], algorithms=["HS256"])
    return claims["sub"] if claims["expires"] >= time.time() else None


@app.post("/renewals")
def renew(name: Annotated[str, Depends(fresh_user)]) -> str:
    claims = {"sub": name, "expires": time.time() + 900}
    return jwt.encode(claims, KEYS["us"], algorithm="HS256")


@app.get("/callback")
def callback(id_token: str) -> str:
    return jwt.decode(id_token, options={"verify_signature": False})["email"]


@app.post("/login")
def login(name: str) -> str:
    claims: dict[str, Any] = {"sub": name}
    claims["exp"] = datetime.now(UTC) + timedelta(minutes=15)
    return jwt.encode(claims, KEYS["us"], algorithm="HS256")


@app.post("/invitations")
def invite(project: str) -> str:
    return jwt.encode({"project": project}, KEYS["us"], algorithm="HS256")
""",
    find=find,
)
