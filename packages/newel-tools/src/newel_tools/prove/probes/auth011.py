"""Power is given, not won by being first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.prove.examples import DATABASE
from newel_tools.prove.lab import Lab
from newel_tools.prove.probe import Probe, Result

__all__ = ["PROBE"]

_POWER: Final = re.compile(
    r"^(is_)?(super_?user|admin|administrator|staff|owner)$|^(user_?)?roles?$", re.IGNORECASE
)


def _run(lab: Lab) -> Iterator[Result]:
    form, users, other = lab.entrance.registration, lab.entrance.users, lab.other
    if form is None or users is None or other is None:
        yield PROBE.skipped("", "no two accounts could be registered and compared")
        return
    first, second = lab.user.account, other.account  # as they were, before they were tried on
    names = [column.name for column in users.columns if _POWER.match(column.name)]
    more = [n for n in names if first.get(n) and first[n] != second.get(n)]
    exchanges = [e for e in lab.seen if e.request.label == form.operation.label]
    if more and exchanges:
        said = f"the first to register gets {more[0]} = {first.get(more[0])!r}, the next does not"
        yield PROBE.broke(form.operation.label, said, exchanges[0])
    else:
        yield PROBE.kept(form.operation.label)


_BAD = (
    DATABASE
    + """
# file: main.py
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from database import Base, Db, engine


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(default=False)


class Credentials(BaseModel):
    username: str
    password: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/register", status_code=201)
def register(data: Credentials, session: Db) -> dict[str, int]:
    count = session.scalar(select(func.count()).select_from(Account))
    account = Account(
        username=data.username, password_hash=data.password[::-1], is_admin=count == 0
    )
    session.add(account)
    session.commit()
    return {"id": account.id}


@app.post("/login")
def login(data: Credentials, session: Db) -> dict[str, str]:
    account = session.scalar(select(Account).where(Account.username == data.username))
    if account is None or account.password_hash != data.password[::-1]:
        raise HTTPException(401)
    return {"access_token": account.username}
"""
)
PROBE = Probe(
    id="AUTH011",
    title="The first to register gets no more than the next",
    severity="change",
    why="Between the deployment and the first log-in, anybody may be the first.",
    fix="make the first administrator by a command, or with a token from the log of the start",
    seed="003 Security first",
    expected="first accounts that were made by a command",
    bad=_BAD,
    good=_BAD.replace("is_admin=count == 0", "is_admin=False"),
    run=_run,
)
