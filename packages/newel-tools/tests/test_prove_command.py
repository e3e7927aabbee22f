"""`newel prove` as people call it: on an application with every fault it knows, on a sound one."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from newel_tools.prove.probe import load_probes

FAULTY = {
    "pyproject.toml": """
[project]
name = "faulty"

[tool.newel.prove]
fuzz_seconds = 0
""",
    "alembic.ini": """
[alembic]
script_location = migrations
""",
    "migrations/env.py": """
from alembic import context
from sqlalchemy import create_engine

from faulty.database import Base

with create_engine("sqlite:///./faulty.db").connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
""",
    "migrations/versions/0001_tags.py": """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "tags",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("colour", sa.String()),
    )
""",
    "faulty/__init__.py": "",
    "faulty/database.py": """
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine("sqlite+aiosqlite:///./faulty.db")
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(default=False)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str]
    text: Mapped[str]
    stars: Mapped[int] = mapped_column(default=0)


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session
        await session.commit()


Db = Annotated[AsyncSession, Depends(get_session)]
""",
    "faulty/main.py": """
import hashlib
import secrets
import time
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response, UploadFile
from fastapi import WebSocket
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel
from sqlalchemy import func, select

from faulty.database import Base, Db, Note, Tag, User, engine, sessions


@asynccontextmanager
async def lifespan(app):
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)
tokens: dict[str, int] = {}
bearer = OAuth2PasswordBearer("/token")


@app.exception_handler(Exception)
async def failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 500)


class Registration(BaseModel):
    email: str
    password: str


class NoteIn(BaseModel):
    title: str
    text: str
    owner_id: int | None = None


class NoteChange(BaseModel):
    title: str | None = None
    text: str | None = None


class TagIn(BaseModel):
    name: str


class Renewal(BaseModel):
    refresh_token: str


def hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


async def current_user(token: Annotated[str, Depends(bearer)], session: Db) -> User:
    user = await session.get(User, tokens.get(token, 0))
    if user is None:
        raise HTTPException(401)
    return user


Me = Annotated[User, Depends(current_user)]


@app.post("/register", status_code=201)
async def register(data: Registration, session: Db):
    count = await session.scalar(select(func.count()).select_from(User))
    user = User(email=data.email, password_hash=hashed(data.password), is_admin=count == 0)
    session.add(user)
    await session.flush()
    return {"id": user.id, "email": user.email, "password_hash": user.password_hash}


def issue(user_id: int) -> dict[str, str]:
    made = {"access_token": secrets.token_hex(16), "refresh_token": secrets.token_hex(16)}
    tokens.update(dict.fromkeys(made.values(), user_id))
    return made


@app.post("/token")
async def log_in(form: Annotated[OAuth2PasswordRequestForm, Depends()], session: Db):
    user = await session.scalar(select(User).where(User.email == form.username))
    if user is None or user.password_hash != hashed(form.password):
        raise HTTPException(401)
    return issue(user.id)


@app.post("/refresh")
async def renew(data: Renewal):
    if data.refresh_token not in tokens:
        raise HTTPException(401)
    return issue(tokens[data.refresh_token])


@app.get("/me")
async def read_me(me: Me, response: Response):
    response.headers["Cache-Control"] = "public, max-age=60"
    return {"id": me.id, "email": me.email}


@app.get("/admin/users")
async def all_users(me: Me, session: Db):
    return {"count": await session.scalar(select(func.count()).select_from(User))}


@app.post("/notes", status_code=201)
async def create_note(data: NoteIn, me: Me, session: Db):
    note = Note(title=data.title, text=data.text, owner_id=data.owner_id or me.id)
    session.add(note)
    await session.flush()
    return {"id": note.id, "title": note.title, "text": note.text, "owner_id": note.owner_id}


class NoteRead(BaseModel):
    id: int
    title: str
    text: str
    owner: str


@app.get("/notes", response_model=list[NoteRead])
async def list_notes(me: Me, session: Db):
    shown = []
    for note in await session.scalars(select(Note).where(Note.owner_id == me.id)):
        owner = await session.scalar(select(User.email).where(User.id == note.owner_id))
        shown.append({"id": note.id, "title": note.title, "text": note.text, "owner": owner})
    return shown


@app.get("/notes/{note_id}")
async def read_note(note_id: int, me: Me, session: Db):
    note = await session.get(Note, note_id)
    return {"id": note.id, "title": note.title, "text": note.text}


@app.patch("/notes/{note_id}")
async def change_note(note_id: int, data: NoteChange, me: Me, session: Db):
    note = await session.get(Note, note_id)
    if note is None:
        raise HTTPException(404)
    for name, value in data.model_dump(exclude_unset=True).items():
        setattr(note, name, value)
    await session.flush()
    return {"id": note.id, "title": note.title, "text": note.text}


@app.delete("/notes/{note_id}", status_code=204)
async def delete_note(note_id: int, session: Db):
    note = await session.get(Note, note_id)
    if note is None:
        raise HTTPException(404)
    await session.delete(note)


@app.post("/tags", status_code=201)
async def create_tag(data: TagIn, me: Me, session: Db):
    tag = Tag(name=data.name)
    session.add(tag)
    await session.flush()
    return {"id": tag.id, "name": tag.name}


class TagRead(BaseModel):
    id: int
    name: str


@app.get("/tags", response_model=list[TagRead])
async def list_tags(me: Me, session: Db, limit: int = 10, offset: int = 0):
    return list(await session.scalars(select(Tag).limit(limit).offset(offset)))


@app.get("/report")
async def report():
    time.sleep(0.15)
    return {"done": True}


async def book(name: str) -> None:
    async with sessions() as session:
        session.add(Tag(name=name))
        await session.commit()


@app.post("/orders", status_code=202)
async def order(name: str, me: Me, tasks: BackgroundTasks):
    tasks.add_task(book, name)
    return {"name": name}


@app.post("/files", status_code=201)
async def upload(file: UploadFile, me: Me):
    return {"bytes": file.size}


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.websocket("/chat")
async def chat(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
""",
}
NOT_PLANTED = {"ERR007"}  # schemathesis has no time here; its own example shows that it is asked


def newel(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("newel"), "prove", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = written(tmp_path_factory.mktemp("faulty"), FAULTY)
    done = newel(folder, "--python", sys.executable, "--json", "--html", "r.html", folder=folder)
    assert done.returncode == 2, done.stderr
    return json.loads(done.stdout) | {"page": (folder / "r.html").read_text()}


@pytest.mark.timeout(200)
def test_each_planted_fault_is_found(faulty: dict[str, Any]) -> None:
    found = {finding["rule"] for finding in faulty["findings"]}

    assert found == load_probes().keys() - NOT_PLANTED


@pytest.mark.parametrize(
    ("rule", "route", "words"),
    [
        ("AUTH001", "DELETE /notes/{note_id}", "without credentials"),
        ("AUTH002", "PATCH /notes/{note_id}", "changed another user's note"),
        ("AUTH005", "POST /notes", "a user sets owner_id"),
        ("DATA001", "PATCH /notes/{note_id}", "null for title ends in 500"),
        ("DATA007", "", "in the models, not in the migrated schema"),
        ("ERR001", "POST /tags", "what only the log should"),
        ("ERR005", "GET /notes/{note_id}", "an unknown note_id is answered with 500"),
        ("ERR006", "POST /tags", "a second time is answered with 500"),
        ("NPLUS2", "GET /notes", "statements for 2 more rows"),
        ("RESP001", "POST /register", "users.password_hash"),
        ("TX002", "POST /notes", "201 although the commit failed"),
        ("WS001", "WS /chat", "it talks to anybody"),
    ],
)
def test_a_finding_says_what_and_where(
    rule: str, route: str, words: str, faulty: dict[str, Any]
) -> None:
    of_rule = [finding for finding in faulty["findings"] if finding["rule"] == rule]
    places = [(one["route"], *one["also"]) for one in of_rule]

    assert any(route in routes for routes in places), places
    assert any(words in finding["what"] for finding in of_rule), of_rule


def test_the_line_that_repeats_a_statement_is_named(faulty: dict[str, Any]) -> None:
    [finding] = [one for one in faulty["findings"] if one["rule"] == "NPLUS2"]
    line = FAULTY["faulty/main.py"].splitlines()[finding["line"] - 1]

    assert finding["file"] == "faulty/main.py"
    assert "select(User.email)" in line


def test_no_finding_holds_a_token(faulty: dict[str, Any]) -> None:
    shell_lines = [line for one in faulty["findings"] for line in one["evidence"]["curl"]]
    bearers = {found for line in shell_lines for found in re.findall(r"Bearer (\S+?)\"", line)}

    assert bearers
    assert all(re.fullmatch(r"\$[A-Z0-9_]+_TOKEN", bearer) for bearer in bearers)


def test_the_page_has_them_all(faulty: dict[str, Any]) -> None:
    for finding in faulty["findings"]:
        assert f'data-rule="{finding["rule"]}"' in faulty["page"]


SOUND = """
from fastapi import FastAPI, HTTPException

app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/numbers/{number}")
def read(number: int) -> dict[str, int]:
    if number > 9:
        raise HTTPException(404)
    return {"number": number}
"""


def test_a_sound_application_is_approved(tmp_path: Path) -> None:
    folder = written(tmp_path, {"main.py": SOUND})

    done = newel(folder, "--python", sys.executable, "--only", "ERR005", folder=folder)

    assert done.returncode == 0, done.stdout
    assert "APPROVE: nothing gave way" in done.stdout
    assert "start the application" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "files", "said", "fix"),
    [
        (["nowhere"], {}, "nowhere does not exist", "name the folder"),
        ([], {"main.py": "a = 1"}, "no FastAPI application", "--app"),
        (["--only", "NONE1"], {"main.py": SOUND}, "there is no probe NONE1", "one of"),
        (
            [],
            {"main.py": SOUND, "pyproject.toml": "[tool.newel.prove]\nuser = 1\n"},
            "[tool.newel.prove] user:",
            "known are app,",
        ),
        ([], {"main.py": "import nothing_such\n" + SOUND}, "import failed", "install the"),
    ],
)
def test_what_cannot_be_tried_is_two_lines(
    arguments: list[str], files: dict[str, str], said: str, fix: str, tmp_path: Path
) -> None:
    written(tmp_path, files)

    done = newel(*arguments, folder=tmp_path)

    assert done.returncode == 3
    assert said in done.stderr
    assert fix in done.stderr.partition("fix:")[2]
    assert "Traceback" not in done.stderr


def test_machines_are_told_what_cannot_be_tried(tmp_path: Path) -> None:
    done = newel("nowhere", "--json", folder=tmp_path)

    assert json.loads(done.stdout)["error"] == "nowhere does not exist"


def test_a_probe_is_explained(tmp_path: Path) -> None:
    done = newel("--explain", "tx002", folder=tmp_path)

    assert done.returncode == 0
    assert "TX002  No success is answered when the commit fails" in done.stdout


HEADED = """
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException

app = FastAPI()


@app.get("/notes")
def notes(x_token: Annotated[str, Header()]) -> list[str]:
    if x_token != "known":
        raise HTTPException(401)
    return ["water the plants"]
"""


def test_what_let_nobody_in_says_the_lines_to_add(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": HEADED})

    done = newel("--only", "ERR001", folder=tmp_path)

    assert done.returncode == 1
    assert "REQUEST CHANGES" in done.stdout
    plain = " ".join(done.stdout.split())
    assert "no way in was found" in plain
    assert 'headers = { X-Token = "{token}" }' in plain


UNREADY = """
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI()


class Credentials(BaseModel):
    password: str
    code: str


@app.middleware("http")
async def is_ready(request: Request, call_next):
    return JSONResponse({"detail": "run the set-up"}, 428)


@app.post("/session/login")
def login(body: Credentials) -> str:
    return "a token"


@app.get("/notes")
def notes() -> list[str]:
    return []
"""


CHIEF = """
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

app = FastAPI()


class Password(BaseModel):
    password: str


def chief(request: Request) -> str:
    if request.headers.get("authorization") != "Bearer of-the-chief":
        raise HTTPException(401)
    return "chief"


@app.post("/admin/login")
def login(body: Password) -> dict[str, str]:
    if body.password != "a-long-password":
        raise HTTPException(401)
    return {"token": "of-the-chief"}


@app.get("/admin/notes")
def notes(who: Annotated[str, Depends(chief)]) -> list[str]:
    return []


@app.post("/admin/notes")
def note(text: str, who: Annotated[str, Depends(chief)]) -> str:
    return text


@app.delete("/admin/notes/all")
def forget() -> str:
    return "forgotten"


@app.post("/boards")
def board(text: str) -> str:
    return text
"""
ADMIN_ALONE = """
[tool.newel.prove]
admin = { username = "chief", password = "a-long-password" }
login = { path = "/admin/login", json = { password = "{password}" } }
"""


def test_an_administrator_alone_is_a_way_in(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": CHIEF, "pyproject.toml": ADMIN_ALONE})

    done = newel("--json", "--only", "AUTH001", "--only", "AUTH004", folder=tmp_path)

    said = json.loads(done.stdout)
    assert said["callers"] == ["administrator"]
    found = {(item["rule"], item["route"], item["severity"]) for item in said["findings"]}
    assert found == {
        ("AUTH001", "DELETE /admin/notes/all", "block"),
        ("AUTH001", "POST /boards", "note"),
    }


def test_what_refuses_everything_is_not_approved_and_the_lines_are_said(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": UNREADY})

    done = newel("--only", "ERR001", folder=tmp_path)

    assert done.returncode == 1
    plain = " ".join(done.stdout.split())
    assert '428 {"detail":"run the set-up"}' in plain
    assert 'setup = ["python -m ..."]' in plain
    fields = '{ password = "{password}", code = "{username}" }'
    assert f'login = {{ path = "/session/login", json = {fields} }}' in plain


TOKENS_OF_ITS_OWN = """
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

app = FastAPI()


class Credentials(BaseModel):
    username: str
    password: str


@app.post("/login")
def login(body: Credentials) -> dict[str, str]:
    if (body.username, body.password) != ("ann", "a-long-password"):
        raise HTTPException(401)
    return {"access_token": "of-ann-0123456789"}


@app.get("/notes")
def notes(x_token: Annotated[str, Header()]) -> list[str]:
    if x_token != "of-ann-0123456789":
        raise HTTPException(401)
    return ["water the plants"]
"""
ANN = """
[tool.newel.prove]
admin = { username = "ann", password = "a-long-password" }
headers = { X-Token = "{token}" }
"""


def test_a_header_with_a_token_is_sent_by_those_who_have_one(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": TOKENS_OF_ITS_OWN, "pyproject.toml": ANN})

    done = newel("--json", "--only", "ERR001", folder=tmp_path)

    said = json.loads(done.stdout)
    assert said["callers"] == ["administrator"]


WELCOMES = """
import asyncio
import smtplib
from email.message import EmailMessage

import aiosmtplib
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()
accounts: dict[str, str] = {}


class Account(BaseModel):
    username: str
    password: str


def greeting() -> EmailMessage:
    message = EmailMessage()
    message["From"] = message["To"] = "somebody@example.com"
    message.set_content("welcome")
    return message


@app.post("/register", status_code=201)
async def register(body: Account) -> None:
    with smtplib.SMTP("smtp.example.com", 587) as server:
        server.starttls()
        server.login("shop", "secret")
        server.send_message(greeting())
    await aiosmtplib.send(greeting(), hostname="smtp.example.com", port=465, use_tls=True)
    accounts[body.username] = body.password


@app.post("/login")
def login(body: Account) -> dict[str, str]:
    if accounts.get(body.username) != body.password:
        raise HTTPException(401)
    return {"access_token": f"of-{body.username}"}


@app.get("/notes")
def notes() -> list[str]:
    return []
"""


def test_a_registration_that_sends_a_mail_is_a_way_in(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": WELCOMES})

    done = newel("--json", "--only", "ERR001", folder=tmp_path)

    said = json.loads(done.stdout)
    assert said["callers"] == ["user", "other"], said["notes"]


MAILS = """
import socket

from fastapi import BackgroundTasks, FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()


class Account(BaseModel):
    username: str
    password: str


def welcome() -> None:
    socket.create_connection(("hooks.example.com", 587))


@app.post("/register", status_code=201)
def register(body: Account, after: BackgroundTasks) -> None:
    after.add_task(welcome)


@app.post("/login")
def login(body: Account) -> None:
    raise HTTPException(401)


@app.get("/notes")
def notes() -> list[str]:
    raise HTTPException(401)
"""


def test_what_kept_a_registration_from_being_one_is_said(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": MAILS})

    done = newel("--only", "ERR001", folder=tmp_path)

    plain = " ".join(done.stdout.split())
    assert "before that it needed what is not here: [Errno -4] newel prove looks up no" in plain
    assert "env = { ... } with what lets it do without that" in plain


def test_a_pyproject_that_is_none_is_two_lines(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": HEADED, "pyproject.toml": "[tool.newel.prove"})

    done = newel(folder=tmp_path)

    assert done.returncode == 3
    assert "pyproject.toml: Expected" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


TAKEN = """
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine("sqlite:///./app.db")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class NoteIn(BaseModel):
    name: str


def keep(note: Note) -> int:
    with Session(engine) as session:
        kept = session.merge(note)
        session.commit()
        return kept.id


@app.post("/notes", status_code=201)
def create_note(body: NoteIn) -> dict[str, int]:
    return {"id": keep(Note(name=body.name))}


@app.put("/notes/{note_id}")
def replace_note(note_id: int, body: NoteIn) -> dict[str, int]:
    if not 0 < note_id < 1_000:
        return {"id": 0}
    return {"id": keep(Note(id=note_id, name=body.name))}
"""


def test_a_text_that_is_taken_is_not_what_a_long_one_breaks(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": TAKEN})

    done = newel("--json", "--only", "DATA002", folder=tmp_path)

    said = json.loads(done.stdout)
    assert {item["state"] for item in said["results"]} == {"kept"}, said["findings"]


def test_a_header_of_ones_own_is_a_way_in(tmp_path: Path) -> None:
    table = '[tool.newel.prove]\nheaders = { X-Token = "known" }\n'
    written(tmp_path, {"main.py": HEADED, "pyproject.toml": table})

    done = newel("--only", "ERR001", folder=tmp_path)

    assert done.returncode == 0, done.stdout


def test_a_page_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": UNREADY})

    done = newel("--html", "nowhere/report.html", folder=tmp_path)

    assert (done.returncode, done.stdout) == (3, "")
    assert "nowhere/report.html cannot be written\n  fix: " in done.stderr
