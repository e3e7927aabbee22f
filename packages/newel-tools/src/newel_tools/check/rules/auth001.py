"""AUTH001: data is changed and nobody was asked who they are."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.check.access import Access, is_public
from newel_tools.check.database import writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find routes that write rows without a guard; without any guard at all, say it once."""
    access = Access(review)
    writing = [
        route
        for route in review.http_routes
        if route.writes and not is_public(review, route) and _changes(review, route)
    ]
    if access.guarding_middleware:
        return
    if not access.has_authentication:
        if writing:
            yield _nobody_asked(review, writing)
        return
    for route in writing:
        if not access.is_protected(route):
            file, line = review.at(route)
            yield RULE.found(
                f"{route.label} changes data and does not ask who is calling",
                file=file,
                line=line,
                route=route.label,
            )


def _changes(review: Review, route: Route) -> bool:
    function = review.function(route.endpoint)
    if function is None:
        return False
    reached = review.calls.reached(function)
    return any(writes_rows(call) for inner in reached for call in review.calls.of(inner))


def _nobody_asked(review: Review, writing: list[Route]) -> Finding:
    first = writing[0]
    file, line = review.at(first)
    return RULE.found(
        f"no route asks who is calling, and {len(writing)} of them change data",
        file=file,
        line=line,
        also=[route.label for route in writing],
    )


RULE = Rule(
    id="AUTH001",
    title="A route changes data without asking who is calling",
    severity="block",
    how="import",
    why="Anybody who can reach the service can create, change or delete these rows.",
    fix="depend on what reads and checks the caller's token: `user: CurrentUser`, or "
    "`dependencies=[...]` of the router",
    seed='003 "Skip authentication on protected routes"',
    expected="sign-up, log-in, password reset, webhooks, contact forms and the like by their "
    "path; routes below a decorator or dependency that may refuse, or a middleware that does so by "
    "who is calling; routes that check the sender's signature; routes that change no rows. An "
    "application without any authentication is one finding.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
bearer = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@app.get("/notes/mine")
def read(token: Annotated[str, Depends(bearer)]) -> list[str]:
    return [token]


@app.post("/notes", status_code=201)
def create(text: str) -> None:  # finding
    with Session(engine) as session:
        session.add(Note(text=text))
        session.commit()
""",
    good="""
import hmac
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
bearer = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@app.post("/notes", status_code=201)
def create(text: str, token: Annotated[str, Depends(bearer)]) -> None:
    with Session(engine) as session:
        session.add(Note(text=text))
        session.commit()


@app.post("/register", status_code=201)
def register(text: str) -> None:
    with Session(engine) as session:
        session.add(Note(text=text))
        session.commit()


def is_signed(text: str, signature: str) -> bool:
    made = hmac.new(b"read from the settings", text.encode(), "sha256").hexdigest()
    return hmac.compare_digest(made, signature)


@app.post("/payments/notification")
def notify(text: str, signature: str) -> None:
    if is_signed(text, signature):
        with Session(engine) as session:
            session.add(Note(text=text))
            session.commit()
""",
    find=find,
    is_habit=True,
)
