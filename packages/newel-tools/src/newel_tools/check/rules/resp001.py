"""RESP001: a secret is part of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.roles import asks_role
from newel_tools.check.rule import Rule
from newel_tools.facts.routes import Route
from newel_tools.facts.shapes import Field, Model

__all__ = ["RULE"]

_SECRET: Final = re.compile(
    r"^((hashed_?|encrypted_?|user_?|admin_?|raw_?|plain_?)?(password|passwd|passphrase|pwd)(_?(hash|hashed|digest|salt))?"
    r"|(password|pwd)_?(hash|salt)|pin_?(code_?)?hash|totp_?secret|mfa_?secret|otp_?secret|two_?factor_?secret"
    r"|(client|webhook|signing|jwt|app|api)_?secret|secret_?key|private_?key|card_?number|cvv|cvc|ssn)$",
    re.IGNORECASE,
)
_SHOWN_ONCE: Final = re.compile(
    r"(token|login|sign_?in|create|register|generate|rotate|regenerate|reset|enable|setup|enroll|provision"
    r"|setting|config|credential|key|secret|2fa|mfa|otp|totp)",
    re.IGNORECASE,
)
_OF_THE_API: Final = re.compile(
    r"^((client|webhook|signing|jwt|app|api)_?secret|secret_?key)$", re.IGNORECASE
)
_HASHES: Final = re.compile(r"password|passwd|pwd|cvv|cvc", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find response fields that are named as secrets and can hold text."""
    for route in review.http_routes:
        excluded = route.response.options.get("response_model_exclude") or ()
        for model in review.models_in(route.response.model):
            for field in model.fields:
                if _leaks(route, field) and field.name not in excluded:
                    file, line = review.field_place(model, field.name)
                    yield RULE.found(
                        f"{_name(model)}.{field.name} is sent to clients",
                        file=file,
                        line=line,
                        route=route.label,
                        severity="change" if _is_for_who_set_it(review, route, field) else None,
                    )


def _is_for_who_set_it(review: Review, route: Route, field: Field) -> bool:
    """Tell whether a secret of the API's own, no person's, is shown to those who administer it."""
    return _OF_THE_API.search(field.name) is not None and asks_role(review, route)


def _leaks(route: Route, field: Field) -> bool:
    if field.exclude or field.shape.secret or not _SECRET.match(field.name):
        return False
    if not {"str", "bytes"} & set(field.shape.types):
        return False
    # An API's own secrets are shown once, when they are made; a password or its hash never is.
    return bool(_HASHES.search(field.name)) or not _SHOWN_ONCE.search(f"{route.path} {route.name}")


def _name(model: Model) -> str:
    return model.name.rpartition(".")[2]


RULE = Rule(
    id="RESP001",
    title="A secret is part of an answer",
    severity="block",
    how="import",
    why="Whoever may read the resource may read its password hash or key, and so may every "
    "log and cache.",
    fix="answer with a model of its own that lacks the field, or exclude it: `Field(exclude=True)`",
    seed='003 "No passwords in responses", "Return passwords/secrets in responses"',
    expected="masked types (SecretStr), excluded fields, token endpoints, secrets that are shown"
    " once when they are made, flags such as `has_password`. An API's own secret (`client_secret`) "
    "on a route for administrators is a change: they may be meant to hand it on.",
    bad="""
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class User(BaseModel):
    id: int
    email: str
    hashed_password: str  # finding


@app.get("/users/{user_id}", response_model=User)
def read_user(user_id: int) -> object:
    return {"id": user_id, "email": "a@example.com", "hashed_password": "$2b$"}
""",
    good="""
from fastapi import FastAPI
from pydantic import BaseModel, Field, SecretStr

app = FastAPI()


class User(BaseModel):
    id: int
    email: str
    has_password: bool = True
    password: SecretStr | None = None
    password_hash: str = Field("", exclude=True)


class Token(BaseModel):
    access_token: str


@app.get("/users/{user_id}", response_model=User)
def read_user(user_id: int) -> object:
    return {"id": user_id, "email": "a@example.com"}


@app.post("/login")
def login() -> Token:
    return Token(access_token="a")
""",
    find=find,
)
