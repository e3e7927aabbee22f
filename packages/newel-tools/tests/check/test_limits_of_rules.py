"""Where a rule groups its findings, follows a value further, or has nothing to go by."""

import pytest

from newel_tools.check.rule import load_rules
from newel_tools.check.rules import tx002

RULES = load_rules()


def what(reviewed, rule: str, text: str) -> list[str]:
    report = reviewed(text, rules=[RULES[rule]])

    assert report.facts.is_imported, report.notes
    return [finding.what for finding in report.findings]


def test_routes_without_any_model_are_one_finding(reviewed):
    routes = "".join(
        f'\n\n@app.get("/{n}")\ndef read{n}(n: int):\n    found = {{"n": n}}\n    return found\n'
        for n in range(4)
    )
    text = "from fastapi import FastAPI\n\napp = FastAPI()\n" + routes

    (said,) = what(reviewed, "RESP002", text)
    assert said.startswith("no route declares what it answers with, 4 of them")


def test_errors_that_nobody_documents_are_one_finding(reviewed):
    routes = "".join(
        f'\n\n@app.get("/{n}")\ndef read{n}() -> int:\n    raise HTTPException(404)\n'
        for n in range(2)
    )
    text = "from fastapi import FastAPI, HTTPException\n\napp = FastAPI()\n" + routes

    assert what(reviewed, "HTTP004", text) == [
        "no route documents its errors, and 2 of them raise some"
    ]


def test_bodies_without_examples_are_one_finding_if_they_are_many(reviewed):
    models = "".join(
        f"\n\nclass Body{n}(BaseModel):\n    text: str\n"
        f'\n\n@app.post("/{n}")\ndef make{n}(body: Body{n}) -> None:\n    print(body)\n'
        for n in range(6)
    )
    text = "from fastapi import FastAPI\nfrom pydantic import BaseModel\n\napp = FastAPI()\n"

    assert what(reviewed, "DOC002", text + models) == ["6 request bodies have no example"]


SESSIONS = """
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

sessions = sessionmaker(create_engine("sqlite://"))
app = FastAPI()


def opened():
    with sessions() as session:
        yield session
"""


@pytest.mark.parametrize(("routes", "more"), [(1, ""), (6, "; the same in 5 more places")])
def test_the_habit_of_synchronous_sessions_is_one_finding(reviewed, routes: int, more: str):
    written = "".join(
        f'\n\n@app.get("/{n}")\nasync def read{n}(session: Session = Depends(opened)) -> None:\n'
        '    session.execute(text("select 1"))\n    session.commit()\n'
        for n in range(routes)
    )

    report = reviewed(SESSIONS + written, rules=[RULES["ASYNC002"]])

    said = "`async def read0` waits for a synchronous session in 2 places" + more
    assert [cause.what for cause in report.causes] == [said]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("DOC001", "without description or tag: 6 of the routes in 6 files"),
        ("TYPE001", "and 1 more in 6 files"),
    ],
)
def test_matters_of_style_in_many_files_are_one_finding(reviewed, rule: str, said: str):
    files = {
        f"part{n}.py": "from fastapi import APIRouter\n\nrouter = APIRouter()\n"
        f'\n\n@router.get("/{n}")\ndef read{n}():\n    return {n}\n'
        for n in range(6)
    }
    imports = "".join(f"import part{n}\n" for n in range(6))
    includes = "".join(f"app.include_router(part{n}.router)\n" for n in range(6))
    files["main.py"] = f"from fastapi import FastAPI\n{imports}\napp = FastAPI()\n{includes}"

    report = reviewed(files, rules=[RULES[rule]])

    (finding,) = report.findings
    assert finding.what.endswith(said)


RANKED = """
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")
LIBRARY = '''
def current_user({rank}):
    def dependency(token: str = Depends(bearer)):
        return token, {rank}

    def served(token: str = Depends(bearer)):
        return dependency(token)

    served.__func_impl__ = dependency
    return {given}
'''
library = {{"Depends": Depends, "bearer": bearer}}
exec(LIBRARY, library)
somebody = library["current_user"]({value})


def require_admin(token: str = Depends(bearer)) -> str:
    return token


@app.get("/admin/one", dependencies=[Depends(require_admin)])
def one() -> list[str]:
    return []


@app.get("/admin/users")
def users(user: Annotated[str, Depends(somebody)]) -> list[str]:
    return [user]
"""


@pytest.mark.parametrize(
    ("rank", "value", "given", "findings"),
    [
        ("superuser", "True", "dependency", 0),
        ("superuser", "True", "served", 0),
        ("superuser", "False", "dependency", 1),
        ("active", "True", "served", 1),
    ],
)
def test_a_librarys_guard_is_asked_what_it_was_made_with(
    reviewed, rank: str, value: str, given: str, findings: int
):
    text = RANKED.format(rank=rank, value=value, given=given)

    assert len(what(reviewed, "AUTH004", text)) == findings


def test_a_row_with_its_password_blocks(reviewed):
    text = RULES["RESP003"].bad.replace(
        "    email:", "    hashed_password: Mapped[str]\n    email:"
    )

    report = reviewed(text, rules=[RULES["RESP003"]])

    assert {finding.severity for finding in report.findings} == {"block"}
    assert report.findings[0].what.endswith("is sent, `hashed_password` among them")


@pytest.mark.parametrize(("deployed", "findings"), [("postgres:18", 1), ("valkey:9", 0)])
def test_what_lies_beside_the_application_counts_from_the_folder_above(
    reviewed, deployed: str, findings: int
):
    app = RULES["DATA001"].bad.lstrip()
    files = {"shop/main.py": app, "shop/compose.yaml": f"services: {{db: {{image: {deployed}}}}}"}

    report = reviewed(files, rules=[RULES["DATA002"]])

    assert sum("may hold NUL" in finding.what for finding in report.findings) == findings


SIZED = """
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

app = FastAPI()


def size(limit: int = 20) -> int:
    return limit


def rows(size: int) -> list[int]:
    with Session(create_engine("sqlite://")) as session:
        return list(session.scalars(text("select 1 limit :size"), {"size": size}))


@app.get("/notes")
def notes(size: Annotated[int, Depends(size)]) -> list[int]:
    return rows(size)


@app.get("/tags")
def tags(size: Annotated[int, Depends(size)]) -> list[int]:
    return rows(size)
"""


def test_a_page_size_that_routes_share_is_one_finding(reviewed):
    (found,) = reviewed(SIZED, rules=[RULES["PAGE002"]]).findings

    assert (found.line, found.route, found.also) == (10, "GET /notes", ("GET /tags",))


@pytest.mark.parametrize(("text", "findings"), [("def test_it(): ...\n", 0), ("x = 1\n", 1)])
def test_a_file_named_tests_is_one_if_it_tests(reviewed, text: str, findings: int):
    app = 'from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get("/a")\ndef a(): ...\n'
    files = {"main.py": app, "tests.py": text}

    report = reviewed(files, rules=[RULES["TEST001"]])

    said = [finding for finding in report.findings if "there is no test" in finding.what]
    assert len(said) == findings


@pytest.mark.parametrize(("said", "findings"), [("8.8.8.0/24", 0), ("/a/notes/24", 1)])
def test_a_text_that_only_values_of_a_path_fit_is_no_request(reviewed, said: str, findings: int):
    app = """
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

app = FastAPI()


@app.get("/a/notes/{note_id}", dependencies=[Depends(HTTPBearer())])
def note(note_id: int): ...
"""
    test = f"def test_it(client):\n    assert client.get({said!r})\n"

    report = reviewed({"main.py": app, "tests/test_it.py": test}, rules=[RULES["TEST002"]])

    assert len(report.findings) == findings


CAUGHT = """
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()

{middleware}

@app.get("/notes")
def notes() -> int:
    return 1
"""
CATCHES = """
@app.middleware("http")
async def catch(request: Request, call_next):
    try:
        return await call_next(request)
    except {caught}:
        return JSONResponse({{"detail": "something went wrong"}}, status_code=500)

"""
CLASS = """
class Catch:
    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            pass


app.add_middleware(Catch)

"""


@pytest.mark.parametrize(
    ("middleware", "is_caught"),
    [
        (CATCHES.format(caught="Exception"), True),
        (CATCHES.format(caught="(ValueError, Exception)"), True),
        (CATCHES.format(caught="ValueError"), False),
        (CLASS, True),
        ("", False),
    ],
)
def test_a_middleware_may_answer_for_every_exception(reviewed, middleware: str, *, is_caught: bool):
    assert (what(reviewed, "ERR002", CAUGHT.format(middleware=middleware)) == []) is is_caught


ENGINES = """
from fastapi import FastAPI
from sqlalchemy import ForeignKey, String, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from pydantic import BaseModel

engine = {engine}
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(5))
    other_id: Mapped[int] = mapped_column(ForeignKey("notes.id"))


class NoteCreate(BaseModel):
    title: str


@app.post("/notes")
def create(body: NoteCreate) -> None:
    with Session(engine) as session:
        session.add(Note(**body.model_dump()))
        session.commit()
"""


def test_sqlite_has_no_lengths(reviewed):
    text = ENGINES.format(engine='create_engine("sqlite://")')

    assert what(reviewed, "DATA002", text) == []
    assert len(what(reviewed, "DATA005", text)) == 1


@pytest.mark.parametrize(("version", "is_late"), [("0.105.0", True), ("0.117.9", False)])
def test_what_follows_a_yield_ran_before_the_answer_for_some_releases(
    reviewed, monkeypatch, version: str, *, is_late: bool
):
    monkeypatch.setattr(tx002, "_version", lambda _: tuple(map(int, version.split(".")[:2])))

    assert bool(what(reviewed, "TX002", RULES["TX002"].bad)) is is_late


AUDITED = """
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = create_engine("sqlite://")
sessions = sessionmaker(engine)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


def opened():
    with sessions() as session:
        yield session
        session.commit()


def store(session: Session) -> None:
    session.add(Note())


def audit(session: Session) -> None:
    BODY


@app.post("/notes", status_code=201)
def create(session: Annotated[Session, Depends(opened)]) -> None:
    ROUTE
    audit(session)
"""


@pytest.mark.parametrize(
    ("route", "body", "is_late"),
    [
        ("session.add(Note())", "with engine.begin() as c:\n        c.execute(insert(Note))", True),
        ("session.add(Note())", "own = sessions()\n    own.add(Note())\n    own.commit()", True),
        ("session.add(Note())", "session.commit()", False),
        ("session.add(Note())", "with session.begin():\n        store(session)", False),
        ("pass", "with engine.begin() as c:\n        c.execute(insert(Note))", False),
        (
            "pass",
            "with sessions.begin() as own:\n        store(own)\n        own.add(Note())",
            False,
        ),
    ],
)
def test_an_audit_log_commits_for_itself_alone(reviewed, route: str, body: str, *, is_late: bool):
    text = AUDITED.replace("ROUTE", route).replace("BODY", body)

    assert bool(what(reviewed, "TX002", text)) is is_late


def test_a_refusal_of_the_database_that_is_caught_is_a_change(reviewed):
    caught = (
        RULES["DATA001"]
        .bad.replace(
            "        session.add(Note(**body.model_dump()))\n        session.commit()",
            "        try:\n            session.add(Note(**body.model_dump()))\n"
            "            session.commit()\n        except IntegrityError:\n            pass",
        )
        .replace("app = FastAPI()", "from sqlalchemy.exc import IntegrityError\n\napp = FastAPI()")
    )

    report = reviewed(caught, rules=[RULES["DATA001"]])

    assert sorted(finding.severity for finding in report.findings) == [
        "block",
        "block",
        "block",
        "block",
        "change",
    ]


CHAIN = """
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite://")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)


class NoteRead(BaseModel):
    id: int


def load(session):
    result = session.execute(select(Note))
    return result.scalars().all()


def pass_on(session):
    notes = load(session)
    return notes


@app.get("/notes", response_model=list[NoteRead])
def notes() -> object:
    with Session(engine) as session:
        return pass_on(session)


@app.get("/raw")
def raw():
    with Session(engine) as session:
        return pass_on(session)
"""


def test_what_one_rule_could_not_follow_does_not_hide_it_from_the_next(reviewed):
    report = reviewed(CHAIN, rules=[RULES["RESP003"], RULES["PAGE001"]])
    alone = reviewed(CHAIN, rules=[RULES["PAGE001"]])

    assert "PAGE001" in {finding.rule for finding in alone.findings}
    assert "PAGE001" in {finding.rule for finding in report.findings}


@pytest.mark.parametrize(
    ("name", "severity"),
    [("test_connection", "note"), ("validate_text", "note"), ("connect", "change")],
)
def test_what_a_tester_answers_with_is_a_note(reviewed, name: str, severity: str):
    text = f"""
from fastapi import FastAPI

app = FastAPI()


@app.post("/it")
def {name}() -> dict[str, str]:
    try:
        return {{"said": str(1 / 0)}}
    except Exception as error:
        return {{"error": str(error)}}
"""

    (found,) = reviewed(text, rules=[load_rules()["ERR001"]]).findings

    assert found.severity == severity


def test_a_client_blocks_when_it_asks_not_when_it_is_made(reviewed):
    text = """
from fastapi import FastAPI
from redis import Redis

app = FastAPI()


@app.get("/it")
async def read() -> None:
    client = Redis.from_url("redis://127.0.0.1")
    client.get("it")
    client.close()
"""

    assert what(reviewed, "ASYNC001", text) == [
        "`redis.Redis.get` blocks the event loop in `async def read`"
    ]


def test_a_redirect_to_log_in_needs_no_model(reviewed):
    text = """
from typing import Any

from fastapi import FastAPI, Request

app = FastAPI()


def oauth() -> Any: ...


@app.get("/typed")
def typed() -> int:
    return 1


@app.get("/login")
async def login(request: Request):
    return await oauth().google.authorize_redirect(request)


@app.get("/profile")
async def profile(request: Request):
    return await oauth().google.userinfo(request)
"""

    assert what(reviewed, "RESP002", text) == ["`profile` declares no response model"]
