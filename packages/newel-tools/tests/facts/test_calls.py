"""Names, classes and calls between the files of a project."""

from collections.abc import Callable, Mapping

import pytest

from newel_tools.facts.calls import Calls
from newel_tools.facts.files import python_files
from newel_tools.facts.source import Source, read_source

Read = Callable[..., Source]


@pytest.fixture
def read(write) -> Read:
    def read_files(files: Mapping[str, str] | None = None, **modules: str) -> Source:
        named = {f"{name}.py": text for name, text in modules.items()}
        root = write({**(files or {}), **named})
        return read_source(root, python_files(root), [root])

    return read_files


def targets(source: Source, name: str) -> list[str | None]:
    return [call.target for call in Calls(source).of(source.functions[name])]


def target(read: Read, body: str, *, head: str = "", **files: str) -> str | None:
    """Return the longest name that a function's body calls."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    source = read(main=f"{head}\ndef run(self=None):\n{lines}", **files)
    return max(targets(source, "main.run"), key=lambda name: len(name or ""))


@pytest.mark.parametrize(
    ("head", "body", "called"),
    [
        ("import time", "time.sleep(1)", "time.sleep"),
        ("import time as t", "t.sleep(1)", "time.sleep"),
        ("from time import sleep as s", "s(1)", "time.sleep"),
        ("import os.path", "os.path.exists('x')", "os.path.exists"),
        ("", "import time\ntime.sleep(1)", "time.sleep"),
        ("try:\n    import a as b\nexcept ImportError:\n    import c as b", "b.x()", "a.x"),
        ("import httpx", "client = httpx.Client()\nclient.get('x')", "httpx.Client.get"),
        ("import httpx", "with httpx.Client() as c:\n    c.get('x')", "httpx.Client.get"),
        ("import httpx", "httpx.Client().get('x')", "httpx.Client.get"),
        ("import httpx", "c: 'httpx.Client' = make()\nc.get('x')", "httpx.Client.get"),
        ("from httpx import Client", "c: Client | None = None\nc.get('x')", "httpx.Client.get"),
        ("from httpx import Client\nclient = Client()", "client.get('x')", "httpx.Client.get"),
        ("import requests", "for requests in []:\n    requests.get('x')", None),
        ("import requests", "try: pass\nexcept E as requests:\n    requests.get('x')", None),
        ("", "unknown().method()", None),
        ("", "print('x')", "print"),
        ("def helper(): ...", "helper()", "main.helper"),
        ("", "def inner(): ...\ninner()", "main.run.<locals>.inner"),
    ],
)
def test_a_call_is_known_by_its_full_name(read: Read, head: str, body: str, called: str | None):
    found = target(read, body, head=head)

    assert found == called or (called is None and "." not in (found or ""))


SESSION = """
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

make = sessionmaker()
make_async = async_sessionmaker()

def get_db() -> Iterator[Session]:
    yield make()

async def get_async() -> AsyncGenerator[AsyncSession, None]:
    yield make_async()

DB = Annotated[Session, Depends(get_db)]
"""


@pytest.mark.parametrize(
    ("parameter", "body", "owner"),
    [
        ("db: Session", "db.execute(1)", "orm.Session"),
        ("db: DB", "db.execute(1)", "orm.Session"),
        ("db: make", "db.execute(1)", "orm.Session"),
        ("db: Session", "db.info = {}\n    db.info['a'] = 1\n    db.execute(1)", "orm.Session"),
        (
            "db: Annotated[AsyncSession, Depends(get_async)]",
            "db.execute(1)",
            "ext.asyncio.AsyncSession",
        ),
        ("db=Depends(get_db)", "db.execute(1)", "orm.Session"),
        ("db=Depends(get_async)", "db.execute(1)", "ext.asyncio.AsyncSession"),
        ("", "db = make()\n    db.execute(1)", "orm.Session"),
        ("", "with make() as db:\n        db.execute(1)", "orm.Session"),
        ("", "with make_async() as db:\n        db.execute(1)", "ext.asyncio.AsyncSession"),
    ],
)
def test_a_session_is_known_however_it_comes(read: Read, parameter: str, body: str, owner: str):
    source = read(
        db=SESSION,
        main="from typing import Annotated\nfrom fastapi import Depends\nfrom db import (\n"
        "    DB, AsyncSession, Session, get_async, get_db, make, make_async\n"
        f")\ndef run({parameter}):\n    {body}\n",
    )

    assert targets(source, "main.run")[-1] == f"sqlalchemy.{owner}.execute"


SERVICE = """
from repo import Repository

class Base:
    def shared(self): ...

class Service(Base):
    repository: Repository

    def __init__(self, repository: Repository, other: "Repository"):
        self.other = other
        self.made = Repository()

    @classmethod
    def create(cls) -> "Service": ...

    def work(self):
        self.repository.save()
        self.other.save()
        self.made.save()
        self.helper()
        self.shared()
        super().shared()

    def helper(self): ...
"""


def test_methods_are_followed_through_attributes_and_bases(read: Read):
    source = read(service=SERVICE, repo="class Repository:\n    def save(self): ...\n")

    assert targets(source, "service.Service.work") == [
        "repo.Repository.save",
        "repo.Repository.save",
        "repo.Repository.save",
        "service.Service.helper",
        "service.Base.shared",
        "service.Base.shared",
        "super",
    ]


NOTE = "from tortoise.models import Model\nclass Note(Model): ..."


@pytest.mark.parametrize(
    ("body", "called"),
    [
        ("Note.filter(id=1).update(a=1)", "tortoise.Query.update"),
        ("found = Note.filter(id=1)\n    found.exclude(b=2).delete()", "tortoise.Query.delete"),
        ("notes = await Note.filter(id=1)\n    notes.delete()", None),
    ],
)
def test_a_query_of_an_orm_stays_one_until_it_is_awaited(read: Read, body: str, called: str | None):
    source = read(main=f"{NOTE}\nasync def run():\n    {body}\n")

    changing = [name for name in targets(source, "main.run") if not (name or "").endswith("filter")]
    assert called in changing


def test_names_are_followed_through_re_exports(read: Read):
    source = read(
        {
            "pkg/__init__.py": "from .inner import thing as other\n",
            "pkg/inner.py": "from .deep import thing\n",
            "pkg/deep.py": "def thing(): ...\n",
        },
        main="from pkg import other\nimport pkg\ndef run():\n    other()\n    pkg.other()\n",
    )

    assert targets(source, "main.run") == ["pkg.deep.thing", "pkg.deep.thing"]


def test_imports_in_a_circle_end(read: Read):
    source = read(
        a="from b import x\ndef run():\n    x()\n",
        b="from a import x\n",
        c="v = w\nw = v\ndef run():\n    v.call()\n",
    )

    assert len(targets(source, "a.run")) == 1
    assert targets(source, "c.run") == ["c.v.call"]


def test_what_a_function_leads_to_has_its_way(read: Read):
    source = read(
        main="""
import asyncio

def start():
    one()
    asyncio.to_thread(callback)

def one():
    two()
    start()

def two(): ...
def callback(): ...
def never(): two()
"""
    )
    calls = Calls(source)

    found = calls.reached(source.functions["main.start"])

    ways = {function.node.name: way for function, way in found.items()}
    assert set(ways) == {"start", "one", "two", "callback"}
    assert [call.line for call in ways["two"] if call] == [5, 9]
    assert ways["callback"] == (None,)
    assert [call.caller.node.name for call in calls.callers[source.functions["main.two"]]] == [
        "one",
        "never",
    ]


def test_arguments_are_found_by_place_and_by_name(read: Read):
    source = read(main="def run():\n    f(1, b=2)\n    f(*x)\n")
    first, second = Calls(source).of(source.functions["main.run"])

    assert first.argument(0, "a").value == 1
    assert first.argument(None, "b").value == 2
    assert first.argument(3, "c") is None
    assert second.argument(0, "a") is None


def test_a_function_is_found_at_its_def_and_its_decorators(read: Read):
    source = read(main="@a\n@b(\n)\ndef run(): ...\n")

    function = source.functions["main.run"]
    assert [source.function_at("main.py", line) for line in (1, 2, 4)] == [function] * 3
    assert source.function_at("main.py", 3) is None
    assert source.function_at(None, 1) is None


def test_functions_inside_blocks_and_handlers_are_known(read: Read):
    source = read(
        main="try:\n    def a(): ...\nexcept E:\n    def b(): ...\nelse:\n    def c(): ...\n"
    )

    assert set(source.functions) == {"main.a", "main.b", "main.c"}


def test_the_body_of_an_inner_function_is_its_own(read: Read):
    source = read(main="def run():\n    def inner():\n        deep()\n    lambda: now()\n")

    assert targets(source, "main.run") == ["now"]
    assert targets(source, "main.run.<locals>.inner") == ["deep"]


MODELS = """
from library.models import Model

class Base(Model): ...

class Note(Base):
    def own(self): ...
"""


def test_an_inherited_method_is_named_by_the_library_that_has_it(read: Read):
    source = read(
        models=MODELS,
        main="from models import Note\ndef run(note: Note):\n    Note.create()\n    note.save()\n"
        "    note.own()\n",
    )

    assert targets(source, "main.run") == [
        "library.models.Model.create",
        "library.models.Model.save",
        "models.Note.own",
    ]


PORTS = """
from abc import ABC, abstractmethod
import time

class Notes(ABC):
    @abstractmethod
    def all(self): ...

class Stored(Notes):
    def all(self):
        time.sleep(1)

class Partly(Notes): ...

class Reader:
    def __init__(self, notes: Notes):
        self.notes = notes

    def read(self):
        return self.notes.all()
"""


@pytest.mark.parametrize(
    ("more", "reached"),
    [
        ("", ["ports.Reader.read", "ports.Stored.all"]),
        (  # nobody can say which of them it is
            "\nclass Cached(Notes):\n    def all(self): ...\n",
            ["ports.Notes.all", "ports.Reader.read"],
        ),
    ],
)
def test_a_call_of_a_port_leads_to_its_only_adapter(read: Read, more: str, reached: list[str]):
    source = read(ports=PORTS + more)

    found = Calls(source).reached(source.functions["ports.Reader.read"])
    assert sorted(function.full_name for function in found) == reached
