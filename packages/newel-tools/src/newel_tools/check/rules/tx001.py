"""TX001: the world hears of a change before it is committed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.database import is_commit, receiver, writes_rows
from newel_tools.check.finding import Finding
from newel_tools.check.review import Reach, Review
from newel_tools.check.rule import Rule
from newel_tools.check.transactions import begins, commit_at_exit
from newel_tools.facts.calls import Call
from newel_tools.facts.source import Function

__all__ = ["RULE"]

_SENDS: Final = re.compile(
    r"^(delay|apply_async|kiq|send_task|enqueue|enqueue_job|publish|produce|send_and_wait|sendmail)$"
    r"|^(async_)?(send|publish|enqueue|emit|dispatch|deliver|notify)_\w*(mail|email|message|event|notification"
    r"|sms|webhook|task|job|code|link|push)\w*$"
)
_REQUESTS: Final = re.compile(
    r"(httpx\d?|requests|aiohttp)\.((AsyncClient|Client|Session|ClientSession)\.)?(post|put|patch|delete)"
)
_INSIDE: Final = re.compile(
    r"outbox|session|uow|unit_of_work|work|store|repo|db|transaction", re.IGNORECASE
)


def find(review: Review) -> Iterator[Finding]:
    """Find mails, jobs, events and requests between a write and its commit."""
    for function, reach in review.reached.items():
        for call in _early(review, function, reach):
            yield RULE.found(
                f"`{ast.unparse(call.node.func)}` is called before the commit",
                file=function.file,
                line=call.line,
                route=reach.route,
            )


def _early(review: Review, function: Function, reach: Reach) -> Iterator[Call]:
    """Yield what is sent after a write of the same function and before the commit."""
    written = False
    pending: list[Call] = []
    for call in review.calls.of(function):
        if is_commit(call):
            yield from pending
            written, pending = False, []
        elif writes_rows(call):
            written = True
        elif written and _sends(review, call):
            pending.append(call)
    for call in pending:
        if _in_transaction(function, call) or _commits_later(review, reach):
            yield call


def _sends(review: Review, call: Call) -> bool:
    """Tell whether something leaves the process; a row in an outbox does not."""
    method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    name = method or getattr(call.node.func, "id", "")
    if _INSIDE.search(receiver(call)) or (call.function and _stores(review, call.function)):
        return False
    if call.function and any(_is_mail(inner) for inner in _inside(review, call.function)):
        return True
    return bool(_SENDS.search(name) or _REQUESTS.fullmatch(call.target or ""))


def _is_mail(call: Call) -> bool:
    return (call.target or "").startswith(("smtplib.SMTP", "aiosmtplib."))


def _stores(review: Review, function: Function) -> bool:
    return any(map(writes_rows, _inside(review, function)))


def _inside(review: Review, function: Function) -> Iterator[Call]:
    """Yield the calls of a function and of all that it leads to."""
    for inner in review.calls.reached(function):
        yield from review.calls.of(inner)


def _in_transaction(function: Function, call: Call) -> bool:
    """Tell whether a call stands in a block `with session.begin():`, which commits at its end."""
    return any(
        isinstance(node, ast.With | ast.AsyncWith)
        and any(begins(item.context_expr) for item in node.items)
        and node.lineno <= call.line <= (node.end_lineno or 0)
        for node in function.nodes
    )


def _commits_later(review: Review, reach: Reach) -> bool:
    """Tell whether a dependency of the request commits when the function is through."""
    return any(
        commit_at_exit(review, node) is not None
        for route in reach.routes[:1]
        for node in route.dependencies
    )


RULE = Rule(
    id="TX001",
    title="Something is sent before the commit",
    severity="change",
    how="source",
    why="If the commit fails, a mail or job is out about a row that does not exist; a fast worker "
    "looks for it before it is there.",
    fix="send after the commit, or write what is to be sent into a table in the same transaction "
    "(an outbox) and let a worker send it",
    seed="004 events",
    expected="what is sent after the commit or without a write, outboxes (functions that store "
    "what is to be sent).",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


def send_welcome_email(user: User) -> None:
    print(user.id)


@app.post("/users", status_code=201)
def create() -> None:
    with Session(engine) as session:
        user = User()
        session.add(user)
        session.flush()
        send_welcome_email(user)  # finding
        session.commit()


@app.post("/blocks", status_code=201)
def create_in_block() -> None:
    with Session(engine) as session, session.begin():
        user = User()
        session.add(user)
        send_welcome_email(user)  # finding


def open_session():
    with Session(engine) as session:
        yield session
        session.commit()


@app.post("/depending", status_code=201)
def create_depending(session: Annotated[Session, Depends(open_session)]) -> None:
    user = User()
    session.add(user)
    send_welcome_email(user)  # finding
""",
    good="""
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)


class Event(Base):
    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)


def send_welcome_email(user: User) -> None:
    print(user.id)


def publish_event(session: Session) -> None:
    session.add(Event())


def open_session():
    with Session(engine) as session:
        yield session


@app.post("/users", status_code=201)
def create(session: Annotated[Session, Depends(open_session)]) -> None:
    user = User()
    session.add(user)
    publish_event(session)
    session.commit()
    send_welcome_email(user)


@app.post("/greetings", status_code=204)
def greet() -> None:
    send_welcome_email(User())
    with Session(engine) as session:
        session.add(User())
        session.commit()
""",
    find=find,
)
