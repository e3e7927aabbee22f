"""Who may do what: owners, roles, exceptions, fields that grant rights, refresh tokens."""

import pytest

from newel_tools.check.rule import load_rules

RULES = load_rules()
HEAD = """
from typing import Annotated, Any

from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Security
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy import ForeignKey, create_engine, select
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


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    text: Mapped[str]


def get_current_user(token: Annotated[Any, Depends(bearer)]) -> User:
    return User(id=1, email=str(token))


Caller = Annotated[User, Depends(get_current_user)]


"""
MIDDLEWARE = """
class AuthMiddleware(BaseHTTPMiddleware):
    pass


app.add_middleware(AuthMiddleware)
"""
LOOKED_AT = """
@app.get("/mine")
def mine(user: Caller) -> list[str]:
    return list(session.scalars({query}))


"""
COMPARED = LOOKED_AT.format(query="select(Note.text).where(Note.owner_id == user.id)")


def routes(report) -> list[str]:
    assert report.facts.is_imported, report.notes
    return sorted(label for item in report.findings for label in (item.route, *item.also) if label)


def reads(path: str, body: str, *, parameters: str = "note_id: int, user: Caller") -> str:
    name = path.strip("/").partition("/")[0].replace("-", "_")
    return f"@app.get('{path}')\ndef {name}({parameters}) -> Any:\n{body}\n\n\n"


FETCH = "    return session.get(Note, note_id).text"

SERVED = {
    "by get": reads("/a/{note_id}", FETCH),
    "by select": reads(
        "/a/{note_id}", "    return session.scalar(select(Note).where(Note.id == note_id))"
    ),
    "by query": reads("/a/{note_id}", "    return session.query(Note).get(note_id)"),
    "in a dependency": (
        "def load(note_id: int) -> Note:\n    return session.get(Note, note_id)\n\n\n"
        + reads(
            "/a/{note_id}",
            "    return note.text",
            parameters="note: Annotated[Note, Depends(load)], user: Caller",
        )
    ),
}
KEPT = {
    "the caller is used": reads("/a/{note_id}", f"    print(user.email)\n{FETCH}"),
    "the request is asked": reads(
        "/a/{note_id}",
        f"    print(request.state)\n{FETCH}",
        parameters="note_id: int, user: Caller, request: Request",
    ),
    "a role is asked for": reads(
        "/a/{note_id}", f"    if not note_id:\n        raise HTTPException(403)\n{FETCH}"
    ),
    "a scope is asked for": reads(
        "/a/{note_id}",
        FETCH,
        parameters="note_id: int, user: Annotated[User, Security(get_current_user, scopes=['a'])]",
    ),
    "the owner is set": reads("/a/{note_id}", f"    print('owner_id')\n{FETCH}"),
    "nobody has to log in": reads("/a/{note_id}", FETCH, parameters="note_id: int"),
    "no id is given": reads(
        "/a", "    return session.get(Note, 1).text", parameters="user: Caller"
    ),
    "another table is read": reads("/a/{note_id}", "    return session.get(User, note_id).email"),
}


@pytest.mark.parametrize("text", SERVED.values(), ids=SERVED)
def test_another_users_row_is_served(reviewed, text: str):
    found = reviewed(HEAD + COMPARED + text, rules=[RULES["AUTH002"]]).findings

    assert [item.route for item in found] == ["GET /a/{note_id}"]


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_rows_that_are_served_on_purpose(reviewed, text: str):
    assert reviewed(HEAD + COMPARED + text, rules=[RULES["AUTH002"]]).findings == ()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("select(Note.text).filter_by(owner_id=user.id)", True),
        ("[n.text for n in session.query(Note) if user.id == Note.owner_id]", True),
        ("select(Note.text)", False),
        ("select(Note.text).where(Note.id == user.id)", False),
    ],
)
def test_owners_count_where_some_route_looks_at_them(reviewed, query: str, found: bool):
    text = HEAD + LOOKED_AT.format(query=query) + SERVED["by get"]

    assert bool(reviewed(text, rules=[RULES["AUTH002"]]).findings) is found


def test_exceptions_among_protected_routes(reviewed):
    guarded = "".join(
        f"@app.{method}('/{method}{n}')\ndef {method}{n}(user: Caller) -> None:\n    pass\n\n\n"
        for method in ("get", "post")
        for n in range(3)
    )
    text = HEAD + guarded + "@app.get('/a')\ndef a() -> None:\n    return None\n\n\n"
    text += "@app.post('/b')\ndef b(number: int) -> None:\n    return None\n\n\n"
    rule = RULES["AUTH003"]

    assert routes(reviewed(text, rules=[rule])) == ["GET /a", "POST /b"]
    assert routes(reviewed(text + MIDDLEWARE, rules=[rule])) == []


@pytest.mark.parametrize(
    "route",
    [
        (
            "@app.get('/a')\ndef a() -> None:\n    return None\n\n\n"
            "@app.get('/c')\ndef c() -> None:\n    return None\n"
        ),
        "@app.get('/health')\ndef health() -> None:\n    return None\n",
    ],
)
def test_two_exceptions_or_a_public_one_are_meant(reviewed, route: str):
    guarded = "".join(
        f"@app.get('/{n}')\ndef f{n}(user: Caller) -> None:\n    return None\n\n\n"
        for n in range(4)
    )

    assert routes(reviewed(HEAD + guarded + route, rules=[RULES["AUTH003"]])) == []


POSTED = """
@app.post("/{name}")
def {name}(number: int, user: Caller) -> None:
    {code}


"""
READ = "@app.get('/one')\ndef one(OPEN) -> None:\n    return None\n\n\n"


@pytest.mark.parametrize(
    ("code", "reader", "found"),
    [
        ("notes.index(number)", "", False),
        ("notes.remove(number)", "", True),
        ("store_note(number)", "", True),
        ("notes.index(number)", "user: Caller", True),
    ],
    ids=["reads", "removes", "stores", "where reads are protected"],
)
def test_a_post_that_reads_is_open_where_reads_are(reviewed, code: str, reader: str, found: bool):
    text = HEAD + "notes: Any = None\nstore_note: Any = None\n" + READ.replace("OPEN", reader)
    text += "".join(POSTED.format(name=name, code="notes.insert(1)") for name in ("a", "b", "c"))
    text += POSTED.format(name="by_ids", code=code).replace(", user: Caller", "")

    assert routes(reviewed(text, rules=[RULES["AUTH003"]])) == ["POST /by_ids"] * found


@pytest.mark.parametrize("method", ["delete", "put"])
def test_what_is_no_post_is_no_way_to_read(reviewed, method: str):
    text = HEAD + "notes: Any = None\n" + READ.replace("OPEN", "")
    text += "".join(POSTED.format(name=name, code="notes.insert(1)") for name in ("a", "b", "c"))
    route = POSTED.format(name="by_ids", code="notes.index(number)").replace(", user: Caller", "")
    text += route.replace("app.post", f"app.{method}")

    found = routes(reviewed(text, rules=[RULES["AUTH003"]]))
    assert found == [f"{method.upper()} /by_ids"]


@pytest.mark.parametrize(
    ("parameter", "found"),
    [("signature: str", False), ("ticket: str = ''", False), ("size: int", True)],
)
def test_a_key_among_the_parameters_is_asked_for(reviewed, parameter: str, found: bool):
    text = HEAD + "".join(
        f"@app.get('/{n}')\ndef f{n}(user: Caller) -> None:\n    return None\n\n\n"
        for n in range(3)
    )
    text += f"@app.get('/picture')\ndef picture({parameter}) -> None:\n    return None\n"

    assert routes(reviewed(text, rules=[RULES["AUTH003"]])) == ["GET /picture"] * found


def test_a_sign_up_is_public(reviewed):
    text = f"""{HEAD}
class SignUp(BaseModel):
    email: str
    password: str


@app.post("/members", status_code=201)
def create(body: SignUp) -> None:
    session.add(User(email=body.email))


@app.post("/members/{{member_id}}")
def change(member_id: int) -> None:
    session.add(User(email=""))


@app.get("/me")
def me(user: Caller) -> None:
    return None
"""
    assert routes(reviewed(text, rules=[RULES["AUTH001"]])) == ["POST /members/{member_id}"]


ROLES = {
    "nothing more": ("user: Caller", "    return 1", True),
    "nobody": ("", "    return 1", True),
    "a role in the code": ("user: Caller", "    return user.role", False),
    "a guard of that name": ("user: Annotated[Any, Depends(only_admins)]", "    return 1", False),
    "a scope": (
        "user: Annotated[Any, Security(get_current_user, scopes=['x'])]",
        "    return 1",
        False,
    ),
}


@pytest.mark.parametrize(("parameters", "body", "found"), ROLES.values(), ids=ROLES)
def test_administrators_routes(reviewed, parameters: str, body: str, found: bool):
    text = f"{HEAD}def only_admins(user: Caller) -> User:\n    return user\n\n\n"
    text += f"@app.get('/admin/all')\ndef all({parameters}) -> int:\n{body}\n"
    rule = RULES["AUTH004"]

    assert bool(reviewed(text, rules=[rule]).findings) is found
    assert routes(reviewed(text + MIDDLEWARE, rules=[rule])) == []


def test_decorators_ask_for_roles_too(reviewed):
    text = f"""{HEAD}
def has_role(function: Any) -> Any:
    return function


@app.get("/admin/all")
@has_role
def all(user: Caller) -> int:
    return 1


@app.get("/admin/page", response_class=HTMLResponse, response_model=None)
def page() -> Any:
    return ""
"""
    assert routes(reviewed(text, rules=[RULES["AUTH004"]])) == []


def test_one_kind_of_user_needs_no_roles(reviewed):
    text = HEAD.replace('    role: Mapped[str] = mapped_column(default="")\n', "")
    text += "@app.get('/admin/all')\ndef all(user: Caller) -> int:\n    return 1\n"

    assert routes(reviewed(text, rules=[RULES["AUTH004"]])) == []


BODIES = """
class UserBody(BaseModel):
    email: str
    role: str = ""


class NoteBody(BaseModel):
    text: str
    owner_id: int


"""
GRANTS = {
    "a role for oneself": (
        (
            "@app.patch('/me')\ndef change(body: UserBody, user: Caller) -> None:\n"
            "    for name, value in body.model_dump().items():\n"
            "        setattr(user, name, value)\n"
        ),
        True,
    ),
    "another's name": (
        (
            "@app.post('/notes')\ndef add(body: NoteBody, user: Caller) -> None:\n"
            "    session.add(Note(**body.model_dump()))\n"
        ),
        True,
    ),
    "copied by name": (
        (
            "@app.post('/notes')\ndef add(body: NoteBody, user: Caller) -> None:\n"
            "    session.add(Note(text=body.text, owner_id=body.owner_id))\n"
        ),
        True,
    ),
    "overwritten": (
        (
            "@app.post('/notes')\ndef add(body: NoteBody, user: Caller) -> None:\n"
            "    session.add(Note(**{**body.model_dump(), 'owner_id': user.id}))\n"
        ),
        False,
    ),
    "looked at": (
        (
            "@app.post('/notes')\ndef add(body: NoteBody, user: Caller) -> None:\n"
            "    assert body.owner_id == user.id\n    session.add(Note(**body.model_dump()))\n"
        ),
        False,
    ),
    "by nobody in particular": (
        (
            "@app.post('/notes')\ndef add(body: NoteBody) -> None:\n"
            "    session.add(Note(**body.model_dump()))\n"
        ),
        False,
    ),
    "by administrators": (
        (
            "def require_admin(user: Caller) -> User:\n    return user\n\n\n"
            "@app.post('/users', dependencies=[Depends(require_admin)])\n"
            "def add(body: UserBody) -> None:\n    session.add(User(**body.model_dump()))\n"
        ),
        False,
    ),
}


@pytest.mark.parametrize(("text", "found"), GRANTS.values(), ids=GRANTS)
def test_fields_that_grant_rights(reviewed, text: str, found: bool):
    known = "@app.get('/me')\ndef me(user: Caller) -> None:\n    return None\n\n\n"
    rule = RULES["AUTH005"]
    written = HEAD + BODIES + known + text

    assert bool(reviewed(written, rules=[rule]).findings) is found
    assert reviewed(written + MIDDLEWARE, rules=[rule]).findings == ()


REFRESHING = {
    "an access token": ("user: Caller", "    return create_token(user)", True),
    "no token is made": ("user: Caller", "    return user.email", False),
    "a field of the body": ("body: Renewal, user: Caller", "    return create_token(user)", False),
    "a cookie": (
        "a: Annotated[str, Cookie()], user: Caller",
        "    return create_token(user)",
        False,
    ),
    "a type that is checked": (
        "user: Caller",
        "    assert user.email == 'refresh'\n    return create_token(user)",
        False,
    ),
    "the bare scheme": (
        "token: Annotated[Any, Depends(bearer)]",
        "    return create_token(token)",
        False,
    ),
}


@pytest.mark.parametrize(("parameters", "body", "found"), REFRESHING.values(), ids=REFRESHING)
def test_refresh_routes(reviewed, parameters: str, body: str, found: bool):
    text = f"""{HEAD}
class Renewal(BaseModel):
    refresh_token: str


def create_token(user: Any) -> str:
    return str(user)


@app.get("/me")
def me(user: Caller) -> None:
    return None


@app.post("/auth/refresh")
def refresh({parameters}) -> str:
{body}
"""
    assert bool(reviewed(text, rules=[RULES["AUTH012"]]).findings) is found


def test_a_library_that_a_class_of_the_project_inherits_says_what_is_written(reviewed):
    text = """
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.orm import Session

bearer = OAuth2PasswordBearer(tokenUrl="login")
app = FastAPI()

class Rows(Session):
    pass

class Basket(set[str]):
    pass

@app.get("/mine")
def mine(token: Annotated[str, Depends(bearer)]) -> str:
    return token

@app.post("/notes")
def create(text: str) -> None:
    rows = Rows()
    rows.add(text)

@app.post("/baskets")
def fill(text: str) -> None:
    basket = Basket()
    basket.add(text)
"""
    assert [item.what for item in reviewed(text, rules=[RULES["AUTH001"]]).findings] == [
        "POST /notes changes data and does not ask who is calling"
    ]


def test_a_client_of_others_and_what_finds_users_are_no_guards(reviewed):
    text = """
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

class ClientSession:
    pass

app = FastAPI()

async def get_http_session() -> ClientSession:
    return ClientSession()

def get_user_context_resolver() -> object:
    return object()

@app.get("/pictures")
def pictures(
    http: Annotated[Any, Depends(get_http_session)],
    users: Annotated[object, Depends(get_user_context_resolver)],
) -> None:
    print(http, users)

@app.post("/notes")
def create(text: str) -> None:
    with Session(create_engine("sqlite://")) as session:
        session.add(text)
"""
    assert [item.what for item in reviewed(text, rules=[RULES["AUTH001"]]).findings] == [
        "no route asks who is calling, and 1 of them change data"
    ]
    asking = text.replace("get_http_session", "get_current_user")
    assert [item.what for item in reviewed(asking, rules=[RULES["AUTH001"]]).findings] == [
        "POST /notes changes data and does not ask who is calling"
    ]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("app/init_db.py", 1),
        ("app/start.py", 1),
        ("run_seed.py", 0),
        ("tools/sweep/prepare.py", 0),
        ("run_integration_tests.py", 0),
    ],
)
def test_an_administrator_of_a_seed_or_a_test_is_nobody_s(reviewed, file: str, found: int):
    text = f"""# file: main.py
from fastapi import FastAPI

app = FastAPI()
# file: {file}
def make(session, User, hash_password):
    session.add(User(name="admin", role="admin", password=hash_password("admin123")))
"""
    assert len(reviewed(text, rules=[RULES["AUTH011"]]).findings) == found
