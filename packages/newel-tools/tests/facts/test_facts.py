"""What is known of an application after it was imported, and of one that resists."""

import os
import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from newel_tools.facts.facts import Facts, load_facts
from newel_tools.facts.project import find_project

APP = "from fastapi import FastAPI\napp = FastAPI()\n"


def facts_of(root: Path, *, timeout_seconds: float = 20.0) -> Facts:
    return load_facts(find_project(root), timeout_seconds=timeout_seconds)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


EVERYTHING = """
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Query, UploadFile, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings
from sqlalchemy import ForeignKey, String, UniqueConstraint, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

engine = create_engine("sqlite://", pool_pre_ping=True)
bearer = OAuth2PasswordBearer(tokenUrl="login")


class Settings(BaseSettings):
    secret_key: str = "hush"


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(50), unique=True)
    notes: Mapped[list["Note"]] = relationship(back_populates="owner", lazy="selectin")


class Note(Base):
    __tablename__ = "notes"
    __table_args__ = (UniqueConstraint("owner_id", "title"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20), index=True)
    text: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    owner: Mapped[User] = relationship(back_populates="notes")


class NoteIn(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=100)]
    text: str | None = None
    kind: Literal["a", "b"] = "a"
    secret: SecretStr | None = None
    tags: list[Annotated[str, Field(max_length=5)]] = []

    @field_validator("text")
    @classmethod
    def check(cls, value: str | None) -> str | None:
        return value


class NoteOut(BaseModel):
    id: int
    title: str = Field(serialization_alias="name")


def database():
    yield 1


async def user(token: Annotated[str, Depends(bearer)], session: Annotated[int, Depends(database)]):
    return token


app = FastAPI(title="Notes")
app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_credentials=True)
inner = APIRouter(prefix="/notes", tags=["notes"])
outer = APIRouter(prefix="/v1", dependencies=[Depends(user)])


@inner.get("/{note_id}", response_model=NoteOut, responses={404: {"description": "none"}})
async def read(note_id: int, q: Annotated[int, Query(ge=1, le=9)] = 1, x_tag: str = Header("")):
    return {}


@inner.post("", status_code=201)
def create(data: NoteIn) -> list[NoteOut]:
    return []


@inner.post("/upload")
def upload(file: UploadFile) -> None: ...


@app.websocket("/live")
async def live(socket: WebSocket) -> None: ...


@app.exception_handler(ValueError)
async def invalid(request, error): ...


outer.include_router(inner)
app.include_router(outer, prefix="/api")
sub = FastAPI()


@sub.get("/inside")
def inside() -> None: ...


app.mount("/sub", sub)
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    root = tmp_path_factory.mktemp("everything")
    (root / "main.py").write_text(EVERYTHING)
    facts = facts_of(root)
    assert facts.failures == ()
    return facts


def route(known: Facts, label: str):
    return next(route for route in known.routes if route.label == label)


def test_routes_are_flat_with_all_prefixes(known: Facts):
    labels = {route.label for route in known.routes if route.kind in ("http", "websocket")}

    assert labels == {
        "GET /api/v1/notes/{note_id}",
        "POST /api/v1/notes",
        "POST /api/v1/notes/upload",
        "WS /live",
        "GET /sub/inside",
    }


def test_an_endpoint_has_its_place(known: Facts):
    endpoint = route(known, "GET /api/v1/notes/{note_id}").endpoint

    assert endpoint is not None
    assert (endpoint.file, endpoint.kind, endpoint.name) == ("main.py", "coroutine", "read")
    assert EVERYTHING.splitlines()[endpoint.line - 1].startswith("@inner.get(")


def test_dependencies_of_every_level_are_known(known: Facts):
    found = route(known, "POST /api/v1/notes")

    called = [node.call.name for node in found.dependencies if node.call]
    assert called == ["user", "OAuth2PasswordBearer", "database"]
    assert [(item.type, item.refuses) for item in found.security] == [("oauth2", True)]
    assert route(known, "WS /live").dependencies == ()


def test_parameters_have_their_limits(known: Facts):
    params = {param.name: param for param in route(known, "GET /api/v1/notes/{note_id}").params}

    assert params["note_id"].source == "path"
    assert params["note_id"].shape.types == ("int",)
    assert (params["q"].shape.limits.ge, params["q"].shape.limits.le) == (1, 9)
    assert (params["x_tag"].source, params["x_tag"].alias) == ("header", "x-tag")
    assert route(known, "POST /api/v1/notes/upload").params[0].source == "file"


def test_request_models_have_their_fields(known: Facts):
    body = route(known, "POST /api/v1/notes").params[0]
    (name,) = body.shape.models
    model = known.models[name]

    title, text, kind, secret, tags = model.fields
    assert (title.required, title.shape.limits.max_length) == (True, 100)
    assert (text.shape.nullable, text.required, text.shape.validated) == (True, False, True)
    assert kind.shape.values == ("a", "b")
    assert secret.shape.secret
    assert tags.shape.item is not None
    assert tags.shape.item.limits.max_length == 5


def test_answers_have_their_models(known: Facts):
    read = route(known, "GET /api/v1/notes/{note_id}").response
    created = route(known, "POST /api/v1/notes")

    assert read.model is not None
    assert [known.models[name].name for name in read.model.models] == ["NoteOut"]
    assert known.models[read.model.models[0]].fields[1].serialized_as == "name"
    assert set(read.documented) == {"404"}
    assert created.status_code == 201
    assert created.response.model is not None
    assert created.response.model.item is not None
    assert list(created.response.model.leads_to()) == list(read.model.models)


def test_entities_have_columns_constraints_and_relationships(known: Facts):
    note, user = known.by_table["notes"], known.by_table["users"]

    title = note.column("title")
    assert title is not None
    assert (title.length, title.nullable, title.index) == (20, False, True)
    assert note.column("text").nullable
    assert note.column("created_at").is_filled
    owner = note.column("owner_id").references[0]
    assert (owner.table, owner.on_delete) == ("users", "CASCADE")
    assert note.unique == (("owner_id", "title"),)
    assert user.column("email").unique
    assert [(item.name, item.lazy, item.many) for item in user.relationships] == [
        ("notes", "selectin", True)
    ]


def test_the_parts_around_are_known(known: Facts):
    (cors,) = known.middleware
    assert cors.class_.endswith("CORSMiddleware")
    assert cors.options["allow_origins"] == ["https://a.example"]
    assert "builtins.ValueError".rpartition(".")[2] in {h.exception for h in known.handlers}
    (engine,) = known.engines
    assert (engine.dialect, engine.pre_ping, engine.asynchronous) == ("sqlite", True, False)
    (settings,) = known.settings
    assert known.models[settings].fields[0].default == "hush"
    assert known.openapi is not None
    assert known.openapi["info"]["title"] == "Notes"
    assert "fastapi" in known.versions
    assert known.modules == {"main": "main.py"}


RESISTING = {
    "exits": ("raise SystemExit(3)", "import at main.py:1: SystemExit: 3"),
    "asks": ("input('name? ')", "import at main.py:1: EOFError"),
    "lacks a package": ("import not_there", "No module named 'not_there'"),
    "is no Python": ("def (:\n", "import at main.py:1: SyntaxError: invalid syntax"),
    "raises": ("1 / 0", "import at main.py:1: ZeroDivisionError: division by zero"),
    "leaves at once": ("import os\nos._exit(4)", "the process ended with code 4"),
    "dies": ("import ctypes\nctypes.string_at(0)", "the process ended by SIGSEGV"),
    "connects": (
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "ConnectionRefusedError: [Errno 111] no network in a review",
    ),
    "starts a program": ("import subprocess\nsubprocess.run(['true'])", "no programs in a review"),
    "forks": ("import os\nos.fork()", "PermissionError: [Errno 1] no processes in a review"),
    "kills": ("import os\nos.kill(os.getppid(), 9)", "no processes in a review"),
    "writes elsewhere": ("open('/var/tmp/newel-trace', 'w')", "no writing outside the copy"),
    "raises what cannot be told": (
        "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
        "import at main.py:3: main.E",
    ),
    "is something else": ("app = 3", "it is a int, not a FastAPI application"),
}


@pytest.mark.parametrize("kind", RESISTING)
def test_an_application_that_resists_gets_a_line(kind: str, write):
    first, said = RESISTING[kind]
    late = "" if kind == "is something else" else APP
    root = write({"main.py": f"{first}\n{late}"})
    project = find_project(root) if late else find_project(root, application="main:app")

    facts = load_facts(project, timeout_seconds=20)

    assert not facts.is_imported
    (failure,) = facts.failures
    assert said in str(failure)
    assert "\n" not in str(failure)


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        ("while True:\n    pass", "import at main.py:"),
        ("import threading\nthreading.Event().wait()", "import at main.py:2: TimeoutError"),
    ],
)
def test_an_endless_import_is_ended(write, loop: str, said: str):
    facts = facts_of(write({"main.py": f"{loop}\n{APP}"}), timeout_seconds=1.5)

    assert not facts.is_imported
    assert said in str(facts.failures[0])
    assert "it was not done within 1.5 s" in str(facts.failures[0])


def test_nothing_is_left_behind(
    write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    side_effects = """
import logging, os, sqlite3, tempfile
os.makedirs("uploads/deep", exist_ok=True)
logging.basicConfig(filename="app.log")
logging.error("here")
with sqlite3.connect("app.db") as database:
    database.execute("create table t (x)")
open(os.path.join(os.path.dirname(__file__), "beside.txt"), "w").write("x")
open("data.csv", "a").write("more")
tempfile.NamedTemporaryFile(delete=False).write(b"x")
"""
    root = write({"main.py": side_effects + APP, "data.csv": "one"})
    before = snapshot(root)
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    facts = facts_of(root)

    assert facts.is_imported, facts.failures
    assert snapshot(root) == before
    assert list(scratch.iterdir()) == []


def test_a_linked_large_file_cannot_be_written(write):
    root = write({"main.py": f"open('big.bin', 'w').write('x')\n{APP}"})
    (root / "big.bin").write_bytes(b"0" * 2_000_000)

    facts = facts_of(root)

    assert "no writing outside the copy" in str(facts.failures[0])
    assert (root / "big.bin").stat().st_size == 2_000_000


def test_no_connection_is_made_even_to_this_machine(write):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)
        attempt = f"import socket\ntry:\n    socket.create_connection(('127.0.0.1', {port}))\n"
        facts = facts_of(write({"main.py": f"{attempt}except OSError:\n    pass\n{APP}"}))
        with pytest.raises(TimeoutError):
            server.accept()

    assert facts.is_imported


def test_the_address_of_this_machine_may_be_looked_up(write):
    code = "import socket\nsocket.gethostbyname(socket.gethostname())\n"

    assert facts_of(write({"main.py": code + APP})).is_imported


def test_the_callers_environment_stays_outside(write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_TOKEN", "private")
    root = write({"main.py": f"import os\n{APP}app.title = os.environ.get('MY_TOKEN', 'unset')\n"})

    facts = facts_of(root)

    assert facts.application is not None
    assert facts.application["title"] == "unset"


def test_settings_that_are_missing_get_values_of_their_type(write):
    settings = """
from pydantic import AnyHttpUrl, EmailStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing import Literal

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="APP_")
    database_url: str
    secret_key: str
    debug: bool
    port: int
    origins: list[str]
    site: AnyHttpUrl
    kind: Literal["web", "worker"]

settings = Settings()
"""
    facts = facts_of(write({"main.py": settings + APP}))

    assert facts.failures == ()


def test_a_setting_that_pydantic_1_misses_gets_a_value(write):
    settings = """
import os

class Missing(ValueError):
    def errors(self):
        return [{"loc": ("hostname",), "type": "value_error.missing"}]

if "HOSTNAME" not in os.environ:
    raise Missing("1 validation error")
"""
    facts = facts_of(write({"main.py": settings + APP}))

    assert facts.failures == ()


def test_what_servers_have_loaded_is_there(write):
    code = "import logging\nlogging.config.dictConfig({'version': 1})\nlogging.handlers\n"

    assert facts_of(write({"main.py": code + APP})).failures == ()


def test_a_large_database_of_the_project_is_written_in_the_copy_alone(write):
    root = write(
        {"main.py": f"{APP}import sqlite3\nsqlite3.connect('app.db').execute('create table u (i)')"}
    )
    with sqlite3.connect(root / "app.db") as connection:
        connection.execute("create table t (filling)")
        connection.execute("insert into t values (zeroblob(1500000))")
    connection.close()
    before = snapshot(root)

    assert facts_of(root).failures == ()
    assert snapshot(root) == before


def test_a_setting_that_an_error_names_gets_a_value(write):
    check = 'import os\nif not os.environ.get("A_B"):\n    raise RuntimeError("A_B must be set")\n'

    assert facts_of(write({"main.py": check + APP})).failures == ()


def test_what_an_application_prints_does_not_disturb(write):
    noise = "import sys\nprint('{' * 100_000)\nprint('x', file=sys.stderr)\nsys.stdout.close()\n"

    assert facts_of(write({"main.py": noise + APP})).failures == ()


def test_one_part_that_fails_leaves_the_others(write):
    broken = f"{APP}def fail():\n    raise ValueError('no schema')\napp.openapi = fail\n"

    facts = facts_of(write({"main.py": broken}))

    assert [(failure.stage, failure.message) for failure in facts.failures] == [
        ("openapi", "no schema")
    ]
    assert facts.is_imported
    assert facts.openapi is None


def test_a_thread_of_the_application_does_not_keep_it_alive(write):
    forever = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    before = threading.active_count()

    assert facts_of(write({"main.py": forever + APP})).is_imported
    assert threading.active_count() == before


@pytest.mark.parametrize("wrapped", ["Wrapper(app)", "Wrapper(Wrapper(app))"])
def test_an_application_in_a_wrapper_is_found(write, wrapped: str):
    text = f"{APP}class Wrapper:\n    def __init__(self, app): self.app = app\nserved = {wrapped}\n"
    project = find_project(write({"main.py": text}), application="main:served")

    assert load_facts(project).is_imported


def test_a_factory_is_called(write):
    made = "def create_app() -> FastAPI:\n    return FastAPI(title='made')\n"
    text = f"from fastapi import FastAPI\n{made}"

    facts = facts_of(write({"main.py": text}))

    assert facts.application is not None
    assert facts.application["title"] == "made"


def test_modules_of_the_project_win_over_those_of_the_probe(write):
    files = {
        "routes.py": "NAME = 'mine'\n",
        "main.py": f"import routes\n{APP}app.title = routes.NAME\n",
    }

    facts = facts_of(write(files))

    assert facts.application is not None
    assert facts.application["title"] == "mine"


def test_the_working_folder_is_that_of_the_application(write):
    files = {
        "backend/app/__init__.py": "",
        "backend/app/main.py": f"{APP}app.title = open('title.txt').read()\n",
        "backend/title.txt": "read",
    }

    facts = facts_of(write(files))

    assert facts.application is not None
    assert facts.application["title"] == "read"


def test_an_unreadable_file_is_left_out_of_the_copy(write):
    root = write({"main.py": APP})
    os.mkfifo(root / "pipe")
    (root / "gone").symlink_to("nowhere")

    assert facts_of(root).is_imported
