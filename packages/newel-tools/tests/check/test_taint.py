"""What clients send is followed into paths, addresses and statements, and no further."""

import pytest

from newel_tools.check.rule import load_rules

RULES = load_rules()
HEAD = """
import os
import re
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx2
from fastapi import Body, Depends, FastAPI, HTTPException, UploadFile
from pydantic import BaseModel, Field, model_validator
from sqlalchemy import create_engine, text

engine = create_engine("sqlite://")
app = FastAPI()
HOSTS = {"a": "https://a.example.com"}


def is_allowed(value: str) -> bool:
    return value in HOSTS


def refuse(value: str) -> None:
    if value not in HOSTS:
        raise HTTPException(422)


def wrapped(value: str) -> str:
    return "'" + value + "'"


def constant(value: str) -> str:
    return "1"


class Query(BaseModel):
    name: str
    code: str = Field("", pattern="^[a-z]+$")
    number: int = 1


class Checked(BaseModel):
    name: str

    @model_validator(mode="after")
    def check(self) -> "Checked":
        return self


class Search:
    def __init__(self, q: str = "", page: int = 1) -> None:
        self.q = q
        self.page = page
"""

SINK = """
def run{number}(statement: Any) -> None:
    with engine.connect() as connection:
        connection.execute(text(statement))


"""

REACHING = {
    "an f-string": "def f(x: str): run(f'SELECT {x}')",
    "a sum": "def f(x: str): run('SELECT ' + x + ' FROM t')",
    "percent": "def f(x: str): run('SELECT %s FROM %s' % (x, 't'))",
    "format": "def f(x: str): run('SELECT {}'.format(x))",
    "a method of texts": "def f(x: str): run('SELECT ' + x.strip().lower())",
    "joined": "def f(x: list[str]): run('SELECT ' + ','.join(x))",
    "a comprehension": "def f(x: list[str]): run('SELECT ' + ','.join([c.strip() for c in x]))",
    "a loop": "def f(x: list[str]):\n    for c in x:\n        run(f'SELECT {c}')",
    "an assignment": "def f(x: str):\n    q = x\n    run('SELECT ' + q)",
    "an annotated one": "def f(x: str):\n    q: str = x\n    run('SELECT ' + q)",
    "an augmented one": "def f(x: str):\n    q = 'SELECT '\n    q += x\n    run(q)",
    "a tuple": "def f(x: str):\n    q, y = x, 1\n    run('SELECT ' + q)",
    "a choice": "def f(x: str, y: bool): run('SELECT ' + (x if y else '1'))",
    "a default": "def f(x: str | None = None): run('SELECT ' + (x or '1'))",
    "a walrus": "def f(x: str):\n    if q := x:\n        run('SELECT ' + q)",
    "a field of a body": "def f(x: Query): run('SELECT ' + x.name)",
    "its dump": "def f(x: Query):\n    data = x.model_dump()\n    run('SELECT ' + data['name'])",
    "a key": "def f(x: Query):\n    data = {'n': x.name}\n    run('SELECT ' + data.get('n', ''))",
    "a raw body": "def f(x: Annotated[dict, Body()]): run('SELECT ' + str(x))",
    "a class of parameters": "def f(x: Annotated[Search, Depends()]): run('SELECT ' + x.q)",
    "a function's answer": "def f(x: str): run('SELECT ' + wrapped(x))",
    "a test of presence": "def f(x: str):\n    if x != '':\n        run('SELECT ' + x)",
}

STOPPED = {
    "a number": "def f(x: int): run(f'SELECT {x}')",
    "an id": "def f(x: UUID): run(f'SELECT {x}')",
    "a pattern": "def f(x: Query): run('SELECT ' + x.code)",
    "a number of a body": "def f(x: Query): run(f'SELECT {x.number}')",
    "a model that is checked": "def f(x: Checked): run('SELECT ' + x.name)",
    "a number of a class": "def f(x: Annotated[Search, Depends()]): run(f'SELECT {x.page}')",
    "a comparison": "def f(x: str):\n    if x in HOSTS:\n        run('SELECT ' + x)",
    "a comparison of what it became": (
        "def f(x: str):\n    q = x.strip()\n    if q not in HOSTS:\n        return\n"
        "    run('SELECT ' + x)"
    ),
    "a check": "def f(x: str):\n    if is_allowed(x):\n        run('SELECT ' + x)",
    "a refusal elsewhere": "def f(x: str):\n    refuse(x)\n    run('SELECT ' + x)",
    "a match": (
        "def f(x: str):\n    match x:\n        case 'a':\n            run('SELECT ' + x)\n"
        "        case _:\n            pass"
    ),
    "a regular expression": (
        "def f(x: str):\n    if re.fullmatch('[a-z]+', x):\n        run('SELECT ' + x)"
    ),
    "a table of ours": "def f(x: str): run('SELECT ' + HOSTS[x])",
    "the same with a default": "def f(x: str): run('SELECT ' + HOSTS.get(x, ''))",
    "a length": "def f(x: str): run('SELECT ' + str(len(x)))",
    "a constant answer": "def f(x: str): run('SELECT ' + constant(x))",
    "a difference": "def f(x: str): run('SELECT ' + str(len(x) - 1))",
}


def blocked(report) -> list[str]:
    return [item.rule for item in report.findings if item.severity == "block"]


def application(bodies: list[str]) -> str:
    """Return one application with a route, and a `run` of its own, for each body."""
    parts = [HEAD]
    for number, body in enumerate(bodies):
        parts.append(SINK.format(number=number))
        own = body.replace("run(", f"run{number}(").replace("def f(", f"def f{number}(")
        parts.append(f"@app.post('/f{number}')\n{own}\n\n\n")
    return "".join(parts)


def reached(report) -> set[str]:
    assert report.facts.is_imported, report.notes
    lines = report.source.files["main.py"].lines
    return {
        next(line for line in reversed(lines[: item.line]) if line.startswith("def "))
        for item in report.findings
        if item.severity == "block"
    }


def test_text_reaches_a_statement(reviewed):
    report = reviewed(application(list(REACHING.values())), rules=[RULES["SQL001"]])

    missed = [
        name
        for number, name in enumerate(REACHING)
        if f"def run{number}(statement: Any) -> None:" not in reached(report)
    ]
    assert missed == []


def test_text_is_stopped_on_its_way(reviewed):
    report = reviewed(application(list(STOPPED.values())), rules=[RULES["SQL001"]])

    passed = [
        name
        for number, name in enumerate(STOPPED)
        if f"def run{number}(statement: Any) -> None:" in reached(report)
    ]
    assert passed == []


@pytest.mark.parametrize("call", ["Names().by(x)", "Names.plainly(x)", "Names.plainly(name=x)"])
def test_text_reaches_a_method(reviewed, call: str):
    text = f"""{HEAD}
class Names:
    def by(self, name: str) -> None:
        self.plainly(name)

    @staticmethod
    def plainly(name: str) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT " + name))


@app.post("/f")
def f(x: str) -> None:
    {call}
"""
    assert blocked(reviewed(text, rules=[RULES["SQL001"]])) == ["SQL001"]


ADDRESSES = [
    ("x", True),
    ("f'{x}/status'", True),
    ("f'https://{x}/status'", True),
    ("'https://' + x", True),
    ("'{}/status'.format(x)", True),
    ("'http://{}/status'.format(x)", True),
    ("f'https://api.example.com/{x}'", False),
    ("f'https://example.com:{x}'", True),
    ("'https://api.example.com/' + x", False),
    ("'https://api.example.com/{}'.format(x)", False),
    ("HOSTS['a'] + x", False),
    ("'/'.join([HOSTS['a'], x])", False),
    ("'/'.join([x, 'status'])", True),
    ("'https://api.example.com'", False),
]


def test_an_address_is_the_clients_by_its_beginning(reviewed):
    routes = [
        f"@app.get('/f{number}')\ndef f{number}(x: str) -> None:\n    httpx2.get({address})"
        for number, (address, _) in enumerate(ADDRESSES)
    ]
    report = reviewed(HEAD + "\n\n\n".join(routes), rules=[RULES["SSRF001"]])

    found = {item.route for item in report.findings}
    said = [(address, f"GET /f{n}" in found) for n, (address, _) in enumerate(ADDRESSES)]
    assert said == ADDRESSES


@pytest.mark.parametrize(
    "call",
    ["client.get(x)", "client.request('GET', x)", "client.stream('GET', url=x)"],
)
def test_a_clients_methods_fetch(reviewed, call: str):
    text = (
        f"{HEAD}@app.get('/f')\ndef f(x: str) -> None:\n    client = httpx2.Client()\n    {call}\n"
    )

    (found,) = reviewed(text, rules=[RULES["SSRF001"]]).findings
    assert found.route == "GET /f"


PATHS = [
    ("open(file.filename)", True),
    ("open('/files/' + file.filename)", True),
    ("Path('/files').joinpath(file.filename).unlink()", True),
    ("os.replace('a', f'/files/{file.filename}')", True),
    ("(Path('/files') / str(file.filename)).open('wb')", True),
    ("open(Path(file.filename).name)", False),
    ("open(os.path.basename(file.filename))", False),
    ("open('/files/a' + os.path.splitext(file.filename)[1])", False),
    ("open(file.content_type)", False),
    ("print(file.filename)", False),
]


def test_a_file_name_becomes_a_path(reviewed):
    routes = [
        f"@app.post('/f{number}')\ndef f{number}(file: UploadFile) -> None:\n    {line}"
        for number, (line, _) in enumerate(PATHS)
    ]
    report = reviewed(HEAD + "\n\n\n".join(routes), rules=[RULES["UP002"]])

    found = {item.route for item in report.findings}
    said = [(line, f"POST /f{n}" in found) for n, (line, _) in enumerate(PATHS)]
    assert said == PATHS


STATEMENTS = [
    ("f'SELECT * FROM {name}'", True),
    ("'SELECT * FROM ' + name", True),
    ("'SELECT * FROM {}'.format(name)", True),
    ("f'SELECT * FROM {TABLE}'", False),
    ("f'SELECT * FROM {int(name)}'", False),
    ("f'SELECT * FROM {table.__tablename__}'", False),
    ("f'hello {name}'", False),
    ("'SELECT 1'", False),
]


def test_other_mixed_texts_are_notes(reviewed):
    routes = [
        f"@app.post('/f{number}')\ndef f{number}(table: Any = None) -> None:\n    name = os.sep\n"
        f"    with engine.connect() as connection:\n        connection.execute(text({statement}))"
        for number, (statement, _) in enumerate(STATEMENTS)
    ]
    text = HEAD + "TABLE = 'users'\n\n\n" + "\n\n\n".join(routes)
    report = reviewed(text, rules=[RULES["SQL001"]])

    found = {item.route: item.severity for item in report.findings}
    said = [(text, found.get(f"POST /f{n}") == "note") for n, (text, _) in enumerate(STATEMENTS)]
    assert said == STATEMENTS


def test_a_mixed_text_is_found_through_its_name(reviewed):
    text = f"""{HEAD}
@app.get("/f")
def f() -> None:
    name = os.sep
    query = f"SELECT * FROM {{name}}"
    with engine.connect() as connection:
        connection.exec_driver_sql(query)
"""
    (found,) = reviewed(text, rules=[RULES["SQL001"]]).findings

    assert found.severity == "note"


def test_functions_that_call_each_other_come_to_an_end(reviewed):
    text = f"""{HEAD}
def ping(value: str) -> str:
    return pong(value + "a")


def pong(value: str) -> str:
    with engine.connect() as connection:
        connection.execute(text("SELECT " + value))
    return ping(value)


@app.get("/f")
def f(x: str) -> str:
    return ping(x)
"""
    assert blocked(reviewed(text, rules=[RULES["SQL001"]])) == ["SQL001"]


@pytest.mark.parametrize(
    ("answer", "severity"),
    [
        ('"id = ?", (name,)', "note"),  # only what is bound is the client's
        ('"id = " + name, ()', "block"),
        ('(f"id = {name}" if name else "1"), (name,)', "block"),
    ],
)
def test_of_a_pair_that_is_answered_each_is_followed_on_its_own(reviewed, answer, severity):
    text = f"""{HEAD}

def condition(name: str):
    return {answer}


@app.get("/rows")
def rows(name: str) -> None:
    where, values = condition(name)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM t WHERE " + where, values)
"""
    (found,) = reviewed(text, rules=[RULES["SQL001"]]).findings

    assert found.severity == severity


@pytest.mark.parametrize(
    ("path", "severity"),
    [
        ('f"uploads/{folder}/{file.filename}"', "block"),
        ('"uploads/" + file.filename', "block"),
        ('Path("uploads") / file.filename', "block"),
        ('f"uploads/{folder}_{file.filename}"', "note"),  # `7_..` is a folder that nobody has
        ('Path("uploads") / ("new-" + file.filename)', "note"),
    ],
)
def test_a_name_with_something_before_it_leads_out_of_no_folder(reviewed, path, severity):
    text = f"""{HEAD}

@app.post("/files/{{folder}}")
async def store(folder: int, file: UploadFile) -> None:
    with open({path}, "wb") as target:
        target.write(await file.read(1_000))
"""
    (found,) = reviewed(text, rules=[RULES["UP002"]]).findings

    assert found.severity == severity


PREFIXED = """

def prepare(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)


@app.post("/files/{folder}")
async def store(folder: int, file: UploadFile) -> None:
    path = Path("uploads") / f"{folder}_{file.filename}"
    {line}
    path.write_bytes(await file.read(1_000))
"""


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("path.parent.mkdir(parents=True, exist_ok=True)", "block"),
        ("os.makedirs(os.path.dirname(path), exist_ok=True)", "block"),
        ("prepare(path)", "block"),
        ("path = path.resolve()", "block"),
        ("path = Path(os.path.normpath(path))", "block"),
        ('Path("uploads").mkdir(exist_ok=True)', "note"),
        ("os.makedirs(f'uploads/{folder}')", "note"),
    ],
)
def test_a_name_with_something_before_it_leads_where_the_code_makes_a_way(reviewed, line, severity):
    text = HEAD + PREFIXED.replace("{line}", line)

    found = reviewed(text, rules=[RULES["UP002"]]).findings

    assert {finding.severity for finding in found} == {severity}


def test_a_path_is_clean_once_it_is_compared_without_its_dots(reviewed):
    line = (
        "path = path.resolve()\n"
        "    if Path('uploads').resolve() not in path.parents:\n"
        "        raise HTTPException(422)"
    )
    text = HEAD + PREFIXED.replace("{line}", line)

    assert not reviewed(text, rules=[RULES["UP002"]]).findings
