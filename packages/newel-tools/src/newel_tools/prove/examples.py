"""What the examples of the probes have in common: accounts to log in with, and a database."""

from __future__ import annotations

from typing import Final

__all__ = ["ACCOUNTS", "DATABASE"]

ACCOUNTS: Final = """
# file: accounts.py
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

router = APIRouter()
passwords: dict[str, str] = {}
tokens: dict[str, str] = {}


class Credentials(BaseModel):
    username: str
    password: str


@router.post("/register", status_code=201)
def register(data: Credentials) -> dict[str, str]:
    if data.username in passwords:
        raise HTTPException(409)
    passwords[data.username] = data.password
    return {"username": data.username}


@router.post("/login")
def login(data: Credentials) -> dict[str, str]:
    if passwords.get(data.username) != data.password:
        raise HTTPException(401)
    token = secrets.token_hex(16)
    tokens[token] = data.username
    return {"access_token": token}


def current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> str:
    if credentials.credentials not in tokens:
        raise HTTPException(401)
    return tokens[credentials.credentials]


User = Annotated[str, Depends(current_user)]
"""
"""A file `accounts.py`: register, log in, and ``User``, the dependency that says who is calling."""

DATABASE: Final = """
# file: database.py
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

engine = create_engine("sqlite:///./example.db")
sessions = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


def get_session() -> Iterator[Session]:
    with sessions() as session:
        yield session


Db = Annotated[Session, Depends(get_session)]
"""
"""A file `database.py`: an engine, ``Base`` and ``Db``, the dependency that hands out a session."""
