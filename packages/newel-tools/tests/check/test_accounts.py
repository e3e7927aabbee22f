"""Who may change whose account: asked in many ways, so that what is left is suspected."""

import pytest

from newel_tools.check.rule import load_rules

RULES = load_rules()
HEAD = """
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBearer
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()
bearer = HTTPBearer()
session = Session(create_engine("sqlite://"))


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    role: Mapped[str] = mapped_column(default="")


def get_current_user(token: Annotated[Any, Depends(bearer)]) -> User:
    return User(id=1, email=str(token))


Caller = Annotated[User, Depends(get_current_user)]


"""
MIDDLEWARE = """
class AuthMiddleware(BaseHTTPMiddleware):
    pass


app.add_middleware(AuthMiddleware)
"""


def routes(report) -> list[str]:
    assert report.facts.is_imported, report.notes
    return [item.route for item in report.findings]


ANYBODY = """
@app.post("/users")
def sign_up(email: str) -> None:
    session.add(User(email=email))


"""
CHANGED = """
def get_active(user: Caller) -> User:
    if not user.is_active:
        raise HTTPException(400)
    return user


@app.put("/users/{user_id}")
def change(user_id: int, email: str, user: Annotated[User, Depends(get_active)]) -> None:
    session.get(User, user_id).email = email


"""


def changed(*, body: str = "", asked: str = "get_current_user", before: str = "") -> str:
    """Return a route that changes an account, with what asks for more than a log-in."""
    return f"""
{before}
@app.put("/users/{{user_id}}")
def change(user_id: int, email: str, user: Annotated[Any, Depends({asked})]) -> None:
    {body or "pass"}
    session.get(User, user_id).email = email


"""


def guard(test: str, parameters: str = "user: Caller") -> str:
    return f"def asked({parameters}) -> Any:\n    if {test}:\n        raise HTTPException(400)\n"


MEANT = {
    "the body asks who": ANYBODY
    + changed(body="if user.email != 'boss@example.com':\n        return"),
    "the body asks whose": ANYBODY + changed(body="if user.id != user_id:\n        return"),
    "a service asks": ANYBODY
    + changed(
        body="allow(user)",
        before="def allow(actor: User) -> None:\n    assert actor.level > 8\n\n",
    ),
    "a guard asks for a rank": ANYBODY + changed(before=guard("user.level < 9"), asked="asked"),
    "a guard asks for a name": ANYBODY
    + changed(before=guard("user.email != 'boss@example.com'"), asked="asked"),
    "a guard asks whose": ANYBODY
    + changed(before=guard("user.id != user_id", "user_id: int, user: Caller"), asked="asked"),
    "a guard asks for the team": ANYBODY
    + changed(before=guard("user.team.lead != user.id"), asked="asked").replace(
        "/users/{user_id}", "/teams/members/{user_id}"
    ),
    "a key that no user has": ANYBODY
    + changed(
        before="def check_api_key(key: Annotated[Any, Depends(bearer)]) -> None: ...\n\n",
        asked="check_api_key",
    ),
    "a decorator asks": ANYBODY
    + changed(before="def only(function: Any) -> Any:\n    return function\n\n").replace(
        "def change", "@only\ndef change"
    ),
    "what the request carries asks": ANYBODY
    + changed(
        before="from contextvars import ContextVar\n\nCURRENT_USER = ContextVar[Any]('user')\n\n",
        body="assert CURRENT_USER.get()",
    ),
    "a middleware asks": MIDDLEWARE + ANYBODY + CHANGED,
    "who was invited signs up": ANYBODY.replace("email: str", "email: str, invitation: str")
    + CHANGED,
    "sign-up is switched": ANYBODY.replace(
        "    session",
        "    if app.extra['registration_open'] is False:\n        return\n    session",
    )
    + CHANGED,
    "the first user sets it up": ANYBODY.replace('"/users"', '"/setup"') + CHANGED,
    "users are made by users": ANYBODY.replace("email: str", "email: str, user: Caller") + CHANGED,
}


@pytest.mark.parametrize("text", MEANT.values(), ids=MEANT)
def test_accounts_that_not_everybody_changes(reviewed, text: str):
    report = reviewed(HEAD + text, rules=[RULES["AUTH002"]])

    assert routes(report) == []


def test_accounts_that_everybody_changes_are_suspected(reviewed):
    (found,) = reviewed(HEAD + ANYBODY + CHANGED, rules=[RULES["AUTH002"]]).findings

    assert (found.route, found.severity) == ("PUT /users/{user_id}", "change")
    assert found.certainty == "suspected"
