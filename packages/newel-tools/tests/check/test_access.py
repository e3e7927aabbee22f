"""Who is asked before a route answers, and which pages may call it."""

import pytest

from newel_tools.check.rule import load_rules

RULES = load_rules()
APP = """
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()
session = Session(create_engine("sqlite://"))


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


class AllowList(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next):
        if {asked} not in {{"allowed"}}:
            return JSONResponse({{"detail": "no"}}, status_code=403)
        return await call_next(request)


app.add_middleware(AllowList)


@app.post("/notes")
def create() -> None:
    session.add(Note())
    session.commit()
"""


@pytest.mark.parametrize(
    ("asked", "open_"),
    [
        ('request.headers.get("Origin")', True),
        ("request.url.path", True),
        ('request.headers.get("Authorization")', False),
        ('request.cookies.get("sid")', False),
        ("request.client.host", False),
    ],
)
def test_a_middleware_guards_only_if_it_refuses_by_who_is_calling(
    reviewed, asked: str, open_: bool
):
    report = reviewed(APP.format(asked=asked), rules=[RULES["AUTH001"]])

    assert bool(report.findings) == open_


@pytest.mark.parametrize(
    ("test", "open_"),
    [
        ('"curl" in request.headers.get("user-agent", "")', True),
        ('request.headers.get("x-csrf-token") != request.cookies.get("csrf_token")', True),
        ("request.client.host in app.extra", True),
        ('request.url.path == "/" and not print(request.client.host, request.cookies)', True),
        ("request.client.host not in app.extra", False),
        ('request.cookies.get("sid") != request.headers.get("user-agent")', False),
    ],
)
def test_a_browser_a_form_and_a_block_list_say_nothing_of_who_is_calling(
    reviewed, test: str, open_: bool
):
    text = APP.replace('{asked} not in {{"allowed"}}', test).replace("{{", "{").replace("}}", "}")

    assert bool(reviewed(text, rules=[RULES["AUTH001"]]).findings) == open_


OF_PAGES = """
from starlette.datastructures import Headers


class Pages:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        '''Refuse pages of others: there are no users here, no tokens and no sessions.'''
        if {test}:
            await JSONResponse({{}}, status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


app.add_middleware(Pages)


"""


@pytest.mark.parametrize(
    ("test", "open_"),
    [
        ("Headers(scope=scope).get('origin') not in app.extra", True),
        ("Headers(scope=scope).get('referer', 'authority') not in app.extra", True),
        ("__import__('ipaddress').ip_address(Headers(scope=scope)['host']) not in app.extra", True),
        ("Headers(scope=scope).get('x-forwarded-host') not in app.extra", True),
        ("Headers(scope=scope).get('x-forwarded-for') not in app.extra", False),
        ("Headers(scope=scope).get('authorization') not in app.extra", False),
    ],
)
def test_what_a_middleware_says_of_itself_is_no_guard_and_neither_is_the_page(
    reviewed, test: str, open_: bool
):
    text = APP.replace("{{", "{").replace("}}", "}")
    head, _, rest = text.partition("class AllowList")
    routes = rest.partition("app.add_middleware(AllowList)")[2]

    report = reviewed(head + OF_PAGES.format(test=test) + routes, rules=[RULES["AUTH001"]])

    assert report.facts.is_imported, report.notes
    assert bool(report.findings) == open_


SIGNED = """
import hmac
from fastapi import Request
from fastapi.security import HTTPBearer
from fastapi import Depends

KEY = "read from the settings"
STAGE = "live"


@app.get("/mine", dependencies=[Depends(HTTPBearer())])
def mine() -> None: ...


def sent_by() -> str:
    return KEY


@app.post("/paid")
def pay(request: Request, sign: str = "") -> None:
    BODY
    session.add(Note())
    session.commit()
"""


@pytest.mark.parametrize(
    ("body", "open_"),
    [
        ("if not hmac.compare_digest(sign, KEY):\n        return", False),
        ("if not hmac.compare_digest(request.headers['x'].encode(), b'k'):\n        return", False),
        (
            "given = sign.strip()\n    if not hmac.compare_digest(KEY, given):\n        return",
            False,
        ),
        ("if not hmac.compare_digest(KEY, sent_by()):\n        return", False),
        ("if hmac.compare_digest(STAGE, 'live'):\n        print('live')", True),
        ("stage = STAGE\n    if hmac.compare_digest(str(stage), 'live'):\n        print(1)", True),
    ],
)
def test_a_comparison_asks_who_is_calling_only_if_it_is_of_what_was_sent(
    reviewed, body: str, open_: bool
):
    text = APP.partition("class AllowList")[0] + SIGNED.replace("BODY", body)

    assert bool(reviewed(text, rules=[RULES["AUTH001"]]).findings) == open_


SIGN_UP = """
from pydantic import BaseModel


class Body(BaseModel):
    name: str
    {field}: str


@app.post("/{path}")
def take(body: Body) -> None:
    session.add(Note())
    session.commit()
"""


@pytest.mark.parametrize(
    ("path", "field", "open_"),
    [
        ("schools", "admin_password", False),
        ("onboarding", "text", False),
        ("schools", "text", True),
        ("schools", "password_hint", True),
        ("authors", "text", True),
        ("shipping", "text", True),
        ("devices", "text", True),
        ("seasonboards", "text", True),
        ("auth/start", "text", False),
        ("userLogin", "text", False),
        ("webhooks/bank", "text", False),
        ("reset", "text", False),
        ("access-token", "text", False),
        ("newsletter", "text", False),
        ("clear-tokens", "text", True),
        ("auth/clear-tokens", "text", True),
        ("device-tokens", "text", True),
        ("reset-database", "text", True),
        ("events", "text", True),
        ("admin/users", "password", True),
        ("admin/invitations", "text", True),
        ("auth/admin/users", "password", True),
        ("admin/users/password", "password", True),
        ("admin/login", "text", False),
        ("auth/admin/token", "text", False),
        ("admin/reset-password", "text", False),
        ("admin/setup", "password", False),
        ("user_sessions", "text", False),
    ],
)
def test_a_sign_up_is_for_everybody(reviewed, path: str, field: str, open_: bool):
    text = APP.partition("class AllowList")[0] + SIGN_UP.format(path=path, field=field)

    assert bool(reviewed(text, rules=[RULES["AUTH001"]]).findings) == open_


SECRET = """
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from pydantic import BaseModel

app = FastAPI()
bearer = HTTPBearer()


class Client(BaseModel):
    {field}: str


def require_admin(token: Annotated[object, Depends(bearer)]) -> None: ...


def read_caller(token: Annotated[object, Depends(bearer)]) -> None: ...


@app.get("/clients", dependencies=[Depends({asked})])
def clients() -> list[Client]:
    return []
"""


@pytest.mark.parametrize(
    ("field", "asked", "severity"),
    [
        ("client_secret", "require_admin", "change"),
        ("client_secret", "read_caller", "block"),
        ("secret_key", "require_admin", "change"),
        ("password_hash", "require_admin", "block"),
        ("ssn", "require_admin", "block"),
        ("card_number", "require_admin", "block"),
        ("totp_secret", "require_admin", "block"),
        ("pin_code_hash", "require_admin", "block"),
    ],
)
def test_administrators_may_be_meant_to_hand_a_secret_on_but_no_password(
    reviewed, field: str, asked: str, severity: str
):
    report = reviewed(SECRET.format(field=field, asked=asked), rules=[RULES["RESP001"]])

    assert [item.severity for item in report.findings] == [severity]


CORS = """
import os

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

ENVIRONMENT = "development"
LIVE = "production"
COUNT = 1
DEBUG = True
app = FastAPI()
{before}
"""
ADDED = "app.add_middleware(CORSMiddleware, allow_origins={}, allow_credentials=True)"
SET = "found = ['https://a.example.com']\nif {}:\n    {}\n" + ADDED.format("found")
UNSET = "if ENVIRONMENT == 'production':\n    {}\n" + ADDED.format("found")
RETURNED = (
    "def found():\n    if {}:\n        return ['*']\n    return ['https://a.example.com']\n\n"
    + ADDED.format("found()")
)
ADDED_BY = "app.add_middleware(CORSMiddleware, allow_origins=['*'], allow_credentials={})"
EITHER = (
    "if ENVIRONMENT == 'production':\n    "
    + ADDED.format("['https://a.example.com']")
    + "\nelse:\n    "
    + ADDED.format("['*']")
)


@pytest.mark.parametrize(
    ("before", "severity"),
    [
        (ADDED.format("['*']"), "block"),
        (ADDED.format("['*'] if COUNT else []"), "block"),
        (ADDED.format("['*'] if ENVIRONMENT == 'development' else []"), "note"),
        (
            "found = ['*'] if ENVIRONMENT == 'development' else []\n" + ADDED.format("found"),
            "note",
        ),
        ("if ENVIRONMENT == 'development':\n    " + ADDED.format("['*']"), "note"),
        (ADDED.format("[] if ENVIRONMENT == 'production' else ['*']"), "note"),
        (ADDED.format("['*'] if ENVIRONMENT != 'production' else []"), "note"),
        (ADDED.format("['*'] if not ENVIRONMENT == 'production' else []"), "note"),
        ("if COUNT == 2:\n    pass\nelse:\n    " + ADDED.format("['*']"), "block"),
        ("if ENVIRONMENT != 'development':\n    " + ADDED.format("['*']") + "\n    pass", None),
        ("if ENVIRONMENT:\n    " + ADDED.format("['*']"), "note"),
        (ADDED.format("[os.getenv('ORIGINS')] if os.getenv('ORIGINS') else ['*']"), "block"),
        (ADDED.format("['*'] if not os.environ.get('CORS_ORIGINS') else []"), "block"),
        (ADDED.format("['*'] if os.getenv('APP_ENV', 'dev') == 'dev' else []"), "note"),
        (ADDED.format("['*'] if LIVE == 'production' else []"), "block"),
        ("if LIVE == 'production':\n    " + ADDED.format("['*']"), "block"),
        (SET.format("ENVIRONMENT == 'development'", "found = ['*']"), "note"),
        (SET.format("ENVIRONMENT == 'development'", "found.append('*')"), "note"),
        (SET.format("ENVIRONMENT == 'development'", "found += ['*']"), "note"),
        (SET.format("COUNT", "found = ['*']"), "block"),
        (SET.format("LIVE == 'production'", "found = ['*']"), "block"),
        ("found = ['*']\n" + UNSET.format("found = ['https://a.example.com']"), "note"),
        ("found = ['*']\n" + UNSET.format("found.append('https://a.example.com')"), "block"),
        (RETURNED.format("ENVIRONMENT == 'development'"), "note"),
        (RETURNED.format("COUNT"), "block"),
        (ADDED_BY.format("ENVIRONMENT == 'development'"), "note"),
        (ADDED_BY.format("DEBUG"), "note"),
        (ADDED_BY.format("not LIVE"), None),
        (ADDED_BY.format("COUNT == 1"), "block"),
        (EITHER, "note"),
    ],
)
def test_every_origin_for_developers_only_is_a_note(reviewed, before: str, severity: str | None):
    report = reviewed(CORS.format(before=before), rules=[RULES["CORS001"]])

    assert [item.severity for item in report.findings] == [severity] * (severity is not None)
