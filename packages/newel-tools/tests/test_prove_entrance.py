"""Getting in: which of what a log-in answers lets somebody in."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from newel_tools.prove.answer import Answer
from newel_tools.prove.callers import Caller
from newel_tools.prove.credentials import Form
from newel_tools.prove.operations import Operation, Schemas
from newel_tools.prove.probes.auth011 import PROBE
from newel_tools.prove.requests import Request, curl
from newel_tools.prove.service import Exchange

CREATED = Answer(
    status=201, outcome="answered", headers=(), body=b"{}", body_bytes=2, finished=True
)
LET_IN = """
import secrets
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel

app = FastAPI()
passwords: dict[str, str] = {}
sessions: dict[str, str] = {}
notes: dict[int, tuple[str, str]] = {}


class Credentials(BaseModel):
    username: str
    password: str


class Note(BaseModel):
    text: str


@app.post("/register", status_code=201)
def register(body: Credentials) -> None:
    passwords[body.username] = body.password


@app.post("/login")
def login(body: Credentials, response: Response) -> dict[str, str]:
    if passwords.get(body.username) != body.password:
        raise HTTPException(400)
    token = secrets.token_hex(16)
    sessions[token] = body.username
    response.set_cookie("pass", token)
    return {"access_token": token}


HOLDER


Caller = Annotated[str, Depends(caller)]


@app.get("/public")
def public() -> str:
    return "open"


@app.get("/me")
def me(user: Caller) -> str:
    return user


@app.post("/notes", status_code=201)
def create(body: Note, user: Caller) -> dict[str, int]:
    notes[len(notes) + 1] = (user, body.text)
    return {"id": len(notes)}


@app.get("/notes/{note_id}")
def read(note_id: int, user: Caller) -> str:
    if note_id not in notes or notes[note_id][0] != user:
        raise HTTPException(404)
    return notes[note_id][1]
"""
HOLDERS = {
    "a cookie": 'def caller(token: Annotated[str, Cookie(alias="pass")] = "") -> str:',
    "a bearer token": 'def caller(authorization: Annotated[str, Header()] = "") -> str:\n'
    '    token = authorization.removeprefix("Bearer ")',
    "a bare token": 'def caller(token: Annotated[str, Header(alias="Authorization")] = "") -> str:',
    "nothing": 'def caller(token: Annotated[str, Header(alias="X-Other")] = "") -> str:',
}
REFUSAL = """
    if token not in sessions:
        raise HTTPException(401, "Token absent")
    return sessions[token]"""


def proved(folder: Path, holder: str) -> dict[str, Any]:
    (folder / "main.py").write_text(LET_IN.replace("HOLDER", HOLDERS[holder] + REFUSAL))
    return run(folder, "ERR005")


def run(folder: Path, *probes: str) -> dict[str, Any]:
    only = [word for probe in probes for word in ("--only", probe)]
    done = subprocess.run(
        [Path(sys.executable).with_name("newel"), "prove", folder, "--json", *only],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("holder", ["a cookie", "a bearer token", "a bare token"])
def test_what_lets_in_is_tried_out(tmp_path: Path, holder: str) -> None:
    said = proved(tmp_path, holder)

    kept = [item["route"] for item in said["results"] if item["state"] == "kept"]
    assert kept == ["GET /notes/{note_id}"], said
    assert said["notes"] == []


@pytest.mark.parametrize(
    ("named", "default"), [("username", ""), ("username", ' = "username"'), ("email", "")]
)
def test_either_name_of_a_registration_may_log_in(tmp_path: Path, named: str, default: str) -> None:
    text = LET_IN.replace("HOLDER", HOLDERS["a cookie"] + REFUSAL)
    text = text.replace("def register(body: Credentials)", "def register(body: SignUp)")
    text = text.replace("passwords[body.username] =", f"passwords[body.{named}] =")
    sign_up = f"class SignUp(Credentials):\n    email: str\n    username: str{default}\n\n\n"
    text = text.replace("class Note(", f"{sign_up}class Note(")
    (tmp_path / "main.py").write_text(text)

    said = run(tmp_path, "ERR005")

    assert said["callers"] == ["user", "other"], said["notes"]


def test_a_log_in_that_lets_nobody_in_is_told_and_not_approved(tmp_path: Path) -> None:
    said = proved(tmp_path, "nothing")

    assert said["verdict"] == "REQUEST CHANGES"
    assert "lets nobody in: GET http://127.0.0.1:8000/" in said["notes"][0]
    assert 'headers = { X-Token = "{token}" }' in said["notes"][0]


def test_a_cookie_is_one_word_in_a_shell_line() -> None:
    cookie = "pass=0123456789abcdef; more=1"
    tokens = {"access": "0123456789abcdef", "cookie": cookie}
    caller = Caller(name="user", headers={"Cookie": cookie}, tokens=tokens)
    request = Request(method="GET", path="/me", label="GET /me", headers=(("Cookie", cookie),))

    line = curl(request, secrets=caller.secret_words)

    assert line == 'curl -sS -i http://127.0.0.1:8000/me -H "Cookie: $USER_COOKIE"'


def in_lab(first: Mapping[str, Any], second: Mapping[str, Any], form: Form) -> Any:
    columns = [SimpleNamespace(name=name) for name in ("id", "is_superuser", "role")]
    request = Request(method="POST", path="/users", label=form.operation.label)
    return SimpleNamespace(
        entrance=SimpleNamespace(registration=form, users=SimpleNamespace(columns=columns)),
        user=Caller(name="user", account=first),
        other=Caller(name="other", account=second),
        seen=[Exchange(request=request, answer=CREATED, caller=Caller(name="user"))],
    )


@pytest.mark.parametrize(
    ("first", "state"),
    [
        ({"id": 1, "is_superuser": True, "role": "user"}, "broke"),
        ({"id": 1, "is_superuser": False, "role": "owner"}, "broke"),
        ({"id": 1, "is_superuser": False, "role": "user"}, "kept"),
        ({"id": 1, "is_superuser": None, "role": "user"}, "kept"),
        ({}, "kept"),
    ],
)
def test_the_first_account_has_more_power_only_if_it_has_some(
    first: Mapping[str, Any], state: str
) -> None:
    operation = Operation(method="POST", path="/users", schemas=Schemas({}))
    lab = in_lab(first, {"id": 2, "is_superuser": False, "role": "user"}, Form(operation, (), ()))

    assert [result.state for result in PROBE.run(lab)] == [state]
