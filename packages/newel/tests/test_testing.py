"""The fixtures of `newel.testing`, used by a service as its team uses them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sample_runs import Service
from sqlalchemy import inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from newel.db import Database
from newel.embedded import embedded_postgres
from newel.errors import Unavailable
from newel.testing import Databases, FrozenClock, commits_fail, open_databases

pytestmark = pytest.mark.anyio


def run_tests(
    service: Service, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    known = service.command(**environment)
    known["args"] = [
        *(sys.executable, "-m", "pytest", "-q", "-W", "error", "--import-mode=importlib"),
        *("-p", "no:cacheprovider", "-o", "python_files=*_checks.py", "-o", "pythonpath=src"),
        *("--rootdir", str(service.root), *arguments, "tests"),
    ]
    return subprocess.run(**known, capture_output=True, check=False, timeout=280)


async def databases_on(url: str) -> list[str]:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        found = list(await connection.scalars(text("SELECT datname FROM pg_database")))
    await engine.dispose()
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("url", [None, "sqlite+aiosqlite:///ignored.db", "postgresql"])
def test_a_services_tests_run_without_a_word_and_by_url(service: Service, url: str | None):
    done = run_tests(service, **({} if url is None else {"DATABASE_URL": url}))
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout
    assert not (service.root / "ignored.db").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fails", [False, True])
async def test_on_a_server_every_database_is_removed_again(service: Service, *, fails: bool):
    checks = service.root / "tests" / "sample_checks.py"
    if fails:
        checks.write_text(checks.read_text().replace("== 201", "== 0"))
    with embedded_postgres() as server:
        before = await databases_on(server.url())
        done = run_tests(service, DATABASE_URL=server.url())
        assert done.returncode == (1 if fails else 0), done.stdout
        assert await databases_on(server.url()) == before


def test_a_service_has_to_say_how_its_application_is_made(service: Service):
    conftest = service.root / "tests" / "conftest.py"
    conftest.write_text('pytest_plugins = ["newel.testing"]\n')
    done = run_tests(service, "-x")
    assert done.returncode != 0
    assert "no session fixture make_app" in done.stdout


def test_a_schema_without_migrations_is_explained(service: Service):
    shutil.rmtree(service.root / "migrations")
    done = run_tests(service, "-x")
    assert done.returncode != 0
    assert "There is no migrations folder" in done.stdout


# ---------------------------------------------------------------- databases


def tables(url: str) -> list[str]:
    async def read() -> list[str]:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            found = await connection.run_sync(lambda bound: inspect(bound).get_table_names())
        await engine.dispose()
        return found

    return asyncio.run(read())


def run_sql(url: str, statement: str) -> None:
    async def write() -> None:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(write())


def test_a_copy_has_the_tables_of_its_template_and_is_another_database(databases: Databases):
    template = databases.create()
    run_sql(template, "CREATE TABLE first (id int)")
    copy = databases.create(template=template)
    assert tables(copy) == ["first"]
    run_sql(copy, "CREATE TABLE second (id int)")
    assert tables(template) == ["first"]
    databases.drop(copy)
    databases.drop(template)
    databases.drop(template)  # gone already: nothing to do


async def test_a_database_in_use_can_be_dropped(databases: Databases):
    url = databases.create()
    engine = create_async_engine(url, poolclass=NullPool)
    connection = await engine.connect()
    await connection.execute(text("SELECT 1"))
    databases.drop(url)
    await connection.invalidate()
    await engine.dispose()


def test_files_beside_an_sqlite_database_go_with_it(tmp_path: Path):
    with open_databases(None, directory=tmp_path) as databases:
        url = databases.create()
        path = Path(make_url(url).database or "")
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).touch()
        databases.drop(url)
    assert list(tmp_path.iterdir()) == []


async def test_a_commit_that_fails_keeps_nothing_and_is_in_nobodys_way(databases: Databases):
    url = databases.create()
    await asyncio.to_thread(run_sql, url, "CREATE TABLE first (id int)")
    database, other = Database(url), Database(url)

    async def write(into: Database, number: int) -> None:
        async with into.write(None) as work, work.as_system("a test writes"):
            await work.session.execute(text(f"INSERT INTO first VALUES ({number})"))

    with commits_fail(database), pytest.raises(Unavailable):
        await write(database, 1)
    await write(other, 2)
    await write(database, 3)

    async with database.read(None) as work, work.as_system("a test looks"):
        found = await work.session.scalars(text("SELECT id FROM first ORDER BY id"))
        assert list(found) == [2, 3]
    await database.close()
    await other.close()


# ---------------------------------------------------------------- the clock


def test_a_frozen_clock_stands_still_until_it_is_moved():
    clock = FrozenClock()
    assert clock.now() == clock.now() == datetime(2030, 1, 1, 12, tzinfo=UTC)
    clock.move(hours=1, seconds=30)
    assert clock.now() == datetime(2030, 1, 1, 13, 0, 30, tzinfo=UTC)
    clock.move(days=-1)
    assert clock.now() == datetime(2029, 12, 31, 13, 0, 30, tzinfo=UTC)
    assert FrozenClock(datetime(2031, 1, 1, tzinfo=UTC)).now().year == 2031
