"""Secrets do not leave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result
from newel_tools.prove.service import Exchange
from newel_tools.prove.values import PASSWORD

__all__ = ["PROBE"]

_HIDDEN: Final = re.compile(r"pass|hash|secret|salt", re.IGNORECASE)
_CHARACTERS: Final = 12


def _run(lab: Lab) -> Iterator[Result]:
    lab.ask_everything()
    secrets = dict(_secrets(lab))
    told: set[str] = set()
    seen: set[str] = set()
    for exchange in lab.seen:
        label = exchange.request.label
        seen.add(label)
        found = [said for secret, said in secrets.items() if secret in exchange.answer.text]
        if found and label not in told and not _is_echo(exchange):
            told.add(label)
            yield PROBE.broke(label, f"the answer holds {found[0]}", exchange)
    for label in sorted(seen - told):
        yield PROBE.kept(label)


def _is_echo(exchange: Exchange) -> bool:
    """Tell whether a refusal only repeats what was sent: its caller knows that already."""
    return exchange.answer.status in (400, 422) and PASSWORD in exchange.answer.text


def _secrets(lab: Lab) -> Iterator[tuple[str, str]]:
    """Yield what no answer may hold, and what it is."""
    yield PASSWORD, "the password in clear text"
    for secret in lab.secrets:
        yield secret, "a secret of the settings"
    users = lab.entrance.users
    if users is None:
        return
    for caller in lab.callers:
        row = lab.entrance.row_by_name(caller.username) or {}
        for name, value in row.items():
            hidden = _HIDDEN.search(name) and isinstance(value, str)
            if hidden and len(value) >= _CHARACTERS and value != PASSWORD:
                yield value, f"{users.name}.{name}"


_BAD = (
    DATABASE
    + """
# file: main.py
from hashlib import sha256

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]


class Credentials(BaseModel):
    username: str
    password: str


class AccountRead(BaseModel):
    id: int
    username: str
    password_hash: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/register", status_code=201, response_model=AccountRead)
def register(data: Credentials, session: Db) -> Account:
    hashed = sha256(data.password.encode()).hexdigest()
    account = Account(username=data.username, password_hash=hashed)
    session.add(account)
    session.commit()
    return account


@app.post("/login")
def login(data: Credentials, session: Db) -> dict[str, str]:
    account = session.scalar(select(Account).where(Account.username == data.username))
    if account is None:
        raise HTTPException(401)
    return {"access_token": account.username}
"""
)
PROBE = Probe(
    id="RESP001",
    title="No answer holds a password, a hash or a secret of the settings",
    severity="block",
    why="Answers are cached, logged and shown; a hash is a password after some hours.",
    fix="answer with a model that lists what may be seen, as `response_model`",
    seed='"No passwords in responses"',
    expected="refusals that repeat the request's own body",
    stage="after",
    bad=_BAD,
    good=_BAD.replace(
        "    username: str\n    password_hash: str\n\n\nBase", "    username: str\n\n\nBase"
    ),
    run=_run,
)
