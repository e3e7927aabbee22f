"""TEST004: requests that are answered by a mock of the database."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.fixtures import Fixtures, is_above
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule
from newel_tools.facts.source import Function, Module

__all__ = ["RULE"]

_LISTED: Final = 20
_DEPTH: Final = 8  # names and fixtures that are followed
_MOCKS: Final = re.compile(
    r"(unittest\.mock|mock|mocker|mock_alchemy\.mocking|alchemy_mock\.mocking)\."
    r"(create_autospec|(NonCallable|UnifiedAlchemy|Alchemy|Async)?(Magic)?Mock)"
)
_REAL: Final = frozenset({"wraps", "side_effect"})  # a mock with one of these may pass calls on
_SESSIONS: Final = re.compile(
    r"(sqlalchemy|sqlmodel)\..*\b((Async)?(Session|Connection)|(async_)?scoped_session)"
)
_REPOSITORIES: Final = re.compile(
    r"(repo|repository|dao|uow|unit_?of_?work)$|\w(Repo|Dao|DAO|UoW|Uow)$", re.IGNORECASE
)
_SERVICES: Final = re.compile(r"(service|use_?case|interactor|handler)s?$", re.IGNORECASE)
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "request"})
_CLIENTS: Final = re.compile(r"client|^ac$", re.IGNORECASE)
_LIBRARY: Final = re.compile(r"\b(TestClient|AsyncClient|ASGITransport)\b")
_SUCCEEDS: Final = re.compile(
    r"status_code == (20\d\b|[\w.]*HTTP_20\d|HTTPStatus\.(OK|CREATED|ACCEPTED|NO_CONTENT)\b)"
)
_ASKS_NO_ROWS: Final = re.compile(
    r"\b(health\w*|ready|live|readiness|ping|metrics|docs|openapi|version|status)\b|^[\"']/?[\"']$",
    re.IGNORECASE,
)
_PATCHES: Final = re.compile(r"\bpatch(?:\.\w+)?\((?:'([\w.]*)')?|\.setattr\(")
_OF_DATABASE: Final = re.compile(r"(db|database|session)$", re.IGNORECASE)


def find(review: Review) -> Iterator[Finding]:
    """Find tests whose requests succeed although nothing but a mock answers their queries."""
    mocking = list(_Tests(review).mocking())
    if mocking:
        first, *others = mocking
        number = "a test sends its request" if not others else f"{len(mocking)} tests send requests"
        yield RULE.found(
            f"{number} to an application whose database is a mock",
            file=first.file,
            line=first.line,
            also=[f"{test.file}:{test.line}" for test in others[:_LISTED]],
        )


class _Tests:
    """The tests of a project, and what stands in for its database."""

    def __init__(self, review: Review) -> None:
        self._source = review.source
        self._types = review.calls.types
        self._fixtures = Fixtures(review)
        self._modules = [module for module in review.source.files.values() if module.is_test]

    def mocking(self) -> Iterator[Function]:
        """Yield the tests that send a request which succeeds, to an application with a mock."""
        replacing = {module for module in self._modules if self._replaces(module)}
        for function in self._source.functions.values():
            is_test = function.node.name.startswith("test") and "<locals>" not in function.name
            if is_test and function.module in replacing:
                text = ast.unparse(function.node)
                succeeds = _SUCCEEDS.search(text) and "side_effect" not in text
                if succeeds and _requests(function) and self._is_mocking(function):
                    yield function

    def _replaces(self, module: Module) -> bool:
        """Tell whether a file, with what stands above it, has all that it takes: to be fast."""
        text = "".join(top.text for top in self._tops(module))
        words = ("dependency_overrides", "Mock")
        return all(word in text for word in words) and _LIBRARY.search(text) is not None

    def _tops(self, module: Module) -> list[Module]:
        return [top for top in self._modules if is_above(top, module)]

    def _is_mocking(self, test: Function) -> bool:
        """Tell whether a mock that was told its answers stands for the database, and for it alone.

        A test that replaces more, a service or a function, claims nothing of the database.
        """
        scope = list(self._fixtures.scope(test))
        text = "\n".join(ast.unparse(function.node) for function in scope)
        patched = (found[1] or "" for found in _PATCHES.finditer(text))
        if "return_value" not in text or not all(map(_OF_DATABASE.search, patched)):
            return False
        given: list[tuple[str, ast.expr, Function | Module]] = [
            (name, value, where)
            for where in (*scope, *self._tops(test.module))
            for name, value in self._overrides(where)
        ]
        if any(_SERVICES.search(name) for name, _, _ in given):
            return False
        found = [
            self._provides_mock(value, where, _DEPTH)
            for name, value, where in given
            if self._is_database(name)
        ]
        return bool(found) and all(found)

    def _overrides(self, where: Function | Module) -> Iterator[tuple[str, ast.expr]]:
        """Yield each dependency that is replaced there, by its full name, and what by."""
        for node in where.nodes if isinstance(where, Function) else where.tree.body:
            match node:
                case ast.Assign(
                    targets=[
                        ast.Subscript(value=ast.Attribute(attr="dependency_overrides"), slice=what)
                    ],
                    value=value,
                ):
                    yield self._source.name_of(_file(where), what) or "", value
                case _:
                    pass

    def _is_database(self, name: str) -> bool:
        """Tell whether a dependency gives a session, or a repository that is made with one."""
        cls = self._source.classes.get(name)
        made = self._source.method(cls, "__init__") if cls else self._source.functions.get(name)
        if made is None or made.module.is_test:
            return False
        if _REPOSITORIES.search(name):
            taken = [self._types.local_types(made)[argument.arg] for argument in made.arguments]
        else:
            taken = [self._types.type_of(value, made) for value in _given(made)]
            taken += [
                self._source.name_of(made.module, part)
                for part in (ast.walk(made.node.returns) if made.node.returns else ())
            ]
        return any(_SESSIONS.fullmatch(one or "") for one in taken)

    # -- what is a mock ------------------------------------------------------------------------

    def _provides_mock(self, value: ast.expr, where: Function | Module, depth: int) -> bool:
        """Tell whether a dependency that stands in gives a mock when it is called."""
        if isinstance(value, ast.Lambda):
            return self._is_mock(value.body, where, depth)
        if isinstance(value, ast.Name):
            function = self._function(value, where)
            return function is not None and self._gives_mock(function, depth)
        return False

    def _function(self, name: ast.Name, where: Function | Module) -> Function | None:
        if isinstance(where, Function):
            nested = self._source.functions.get(f"{where.full_name}.<locals>.{name.id}")
            if nested is not None:
                return nested
        return self._source.functions.get(self._source.name_of(_file(where), name) or "")

    def _gives_mock(self, function: Function, depth: int) -> bool:
        values = _given(function)
        return bool(values) and all(self._is_mock(value, function, depth - 1) for value in values)

    def _is_mock(self, value: ast.expr, where: Function | Module, depth: int) -> bool:
        """Tell whether a value is certainly a mock; what cannot be followed is none."""
        match value if depth > 0 else None:
            case ast.Call(func=callee, keywords=keywords):
                if _MOCKS.fullmatch(self._source.name_of(_file(where), callee) or ""):
                    return _REAL.isdisjoint(keyword.arg for keyword in keywords)
                made = self._function(callee, where) if isinstance(callee, ast.Name) else None
                return made is not None and self._gives_mock(made, depth)
            case ast.Name(id=name):
                return self._is_name_of_mock(name, where, depth - 1)
            case _:
                return False

    def _is_name_of_mock(self, name: str, where: Function | Module, depth: int) -> bool:
        if isinstance(where, Function):
            bound = [value for node in where.nodes for value in _bound(node, name)]
            if bound:
                return all(value and self._is_mock(value, where, depth) for value in bound)
            if name in (argument.arg for argument in where.arguments):
                fixture = self._fixtures.named(name, where)
                return fixture is not None and self._gives_mock(fixture, depth)
            outer, _, nested = where.full_name.rpartition(".<locals>.")
            around = self._source.functions.get(outer) if nested else None
            return self._is_name_of_mock(name, around or where.module, depth)
        owner, _, last = self._source.resolve(where.names.get(name, name)).rpartition(".")
        home = self._source.modules.get(owner)
        value = home.values.get(last) if home is not None else None
        return home is not None and value is not None and self._is_mock(value, home, depth)


def _file(where: Function | Module) -> Module:
    return where.module if isinstance(where, Function) else where


def _requests(test: Function) -> bool:
    """Tell whether a test sends a request by a client, for more than the service's health."""
    for node in test.nodes:
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id=client)
                    | ast.Attribute(attr=client)
                    | ast.Call(func=ast.Name(id=client)),
                    attr=method,
                ),
                args=[*_, path],
            ) if method in _METHODS and _CLIENTS.search(client):
                if not _ASKS_NO_ROWS.search(ast.unparse(path)):
                    return True
            case _:
                pass
    return False


def _given(function: Function) -> list[ast.expr]:
    """Return what a function returns or yields."""
    return [
        node.value
        for node in function.nodes
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None
    ]


def _bound(node: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Yield what a statement binds a name to; `None` for what is not followed."""
    match node:
        case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
            yield value
        case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name:
            yield value
        case ast.Assign(targets=targets) if name in _names(*targets):
            yield None
        case ast.For(target=target) | ast.AsyncFor(target=target) if name in _names(target):
            yield None
        case ast.withitem(optional_vars=ast.expr() as target) if name in _names(target):
            yield None
        case _:
            pass


def _names(*targets: ast.expr) -> set[str]:
    """Return the names that targets bind, not those whose attributes they set."""
    flat = [part for one in targets for part in getattr(one, "elts", [one])]
    return {one.id for one in flat if isinstance(one, ast.Name)}


RULE = Rule(
    id="TEST004",
    title="Tests mock the database that answers their requests",
    severity="note",
    how="source",
    why="A mock answers whatever is asked of it: wrong SQL, a missing column, a broken constraint "
    "and a forgotten commit all pass.",
    fix="override the session by one of a test database, in a transaction that is rolled back; "
    "keep mocks for other services",
    seed='003 "Real database (test DB)"',
    expected="unit tests that send no request, tests that replace or patch more than it, or expect "
    "no success, requests for health and documents, mocks with a `side_effect` or "
    "`wraps`, fakes that are classes, overrides in other files than the test's and `conftest.py`.",
    bad="""
# file: main.py
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

SessionLocal = sessionmaker(create_engine("sqlite://"))
app = FastAPI()


def get_session() -> Iterator[Session]:
    with SessionLocal() as session:
        yield session


@app.get("/notes")
def read_notes(session: Annotated[Session, Depends(get_session)]) -> list[str]:
    return list(session.scalars(text("SELECT title FROM notes")))
# file: tests/conftest.py
from unittest.mock import MagicMock

import pytest
from fastapi.testclient import TestClient

from main import app, get_session


@pytest.fixture
def session():
    rows = MagicMock(spec=["scalars"])
    rows.scalars.return_value = ["a"]
    return rows


@pytest.fixture
def client(session):
    app.dependency_overrides[get_session] = lambda: session
    yield TestClient(app)
    app.dependency_overrides.clear()
# file: tests/test_notes.py
def test_there_is_one(client):  # finding
    response = client.get("/notes")
    assert response.status_code == 200
    assert response.json() == ["a"]


def test_others_are_refused(client):
    assert client.get("/others").status_code == 404
""",
    good="""
# file: main.py
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

SessionLocal = sessionmaker(create_engine("sqlite://"))
app = FastAPI()


def get_session() -> Iterator[Session]:
    with SessionLocal() as session:
        yield session


def get_mailer() -> object:
    return object()


Database = Annotated[Session, Depends(get_session)]


def titles(session: Session) -> list[str]:
    return list(session.scalars(text("SELECT 'a'")))


@app.get("/notes")
def read_notes(session: Database) -> list[str]:
    return titles(session)


@app.post("/mails")
def send(session: Database, mailer: Annotated[object, Depends(get_mailer)]) -> None:
    return None


@app.get("/health")
def health(session: Database) -> None:
    session.execute(text("SELECT 1"))
# file: tests/test_notes.py
from unittest.mock import MagicMock

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from main import app, get_mailer, get_session, titles


@pytest.fixture
def mock_session():
    with Session(create_engine("sqlite://")) as session:
        yield session


@pytest.fixture
def client(mock_session):
    app.dependency_overrides[get_session] = lambda: mock_session
    yield TestClient(app)
    app.dependency_overrides.clear()


def test_there_is_one(client):
    assert client.get("/notes").status_code == 200


def test_a_mail_is_sent(client):
    app.dependency_overrides[get_mailer] = lambda: MagicMock()
    assert client.post("/mails").status_code == 200


def test_titles_are_a_list():
    session = MagicMock()
    session.scalars.return_value = ["a"]
    assert titles(session) == ["a"]


def test_a_route_alone(monkeypatch):
    session = MagicMock(return_value=None)
    app.dependency_overrides[get_session] = lambda: session
    monkeypatch.setattr("main.titles", lambda session: ["a"])
    assert TestClient(app).get("/notes").status_code == 200


def test_nobody_needs_rows_to_be_well():
    session = MagicMock()
    session.execute.return_value = None
    app.dependency_overrides[get_session] = lambda: session
    assert TestClient(app).get("/health").status_code == 200


def test_a_database_that_is_away():
    session = MagicMock()
    session.scalars.side_effect = RuntimeError
    app.dependency_overrides[get_session] = lambda: session
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/notes").status_code == 500
""",
    find=find,
)
