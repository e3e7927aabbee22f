"""A key that is empty unless somebody sets it is everybody's."""

import pytest

from newel_tools.check.rule import load_rules

RULES = load_rules()
SIGNED = """
import os

import jwt
from fastapi import FastAPI

app = FastAPI()
KEY = os.{read}


class Settings:
    KEY = os.{read}


{used}
"""
SESSIONS = """
def start() -> None:
    from starlette.middleware.sessions import SessionMiddleware

    app.add_middleware(SessionMiddleware, secret_key=KEY)
"""


@pytest.mark.parametrize(
    ("read", "used", "places"),
    [
        ("getenv('A', '')", SESSIONS, 2),
        ("getenv('A', default='')", "def sign():\n    return jwt.encode({}, KEY)", 2),
        ("environ.get('A', '')", "def sign():\n    return jwt.encode({}, key=Settings.KEY)", 2),
        (
            "environ.get('A', '')",
            "def read(token):\n    return jwt.decode(token, KEY, ['HS256'])",
            2,
        ),
        ("getenv('A')", SESSIONS, 0),
        ("getenv('A', '')", "def sign():\n    return jwt.encode({'sub': KEY}, app.title)", 0),
        ("getenv('A', '')", f"{SESSIONS}\nif not KEY:\n    KEY = 'another'", 0),
        ("getenv('A', '')", f"{SESSIONS}\nassert len(KEY) < 31", 0),
        ("getenv('A', '')", f"key = KEY or os.urandom(32)\n{SESSIONS}", 0),
    ],
)
def test_a_key_that_nobody_has_to_set_signs_nothing(reviewed, read: str, used: str, places: int):
    report = reviewed(SIGNED.format(read=read, used=used), rules=[RULES["SEC001"]])

    assert report.facts.is_imported, report.notes
    assert [item.severity for item in report.findings] == ["block"] * places
