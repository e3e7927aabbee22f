"""A service knows which schema it wants, without Alembic, and refuses every other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, text

from newel.db import Database
from newel.errors import ConfigurationError
from newel.migrations import Migrations
from newel.revisions import current_revision, ensure_current, heads, read_revisions, wanted
from newel.testing import Databases

pytestmark = pytest.mark.anyio


def write(folder: Path, name: str, revision: str, follows: str | None) -> Path:
    path = folder / name
    path.write_text(
        f"revision: str = {revision!r}\ndown_revision: str | None = {follows!r}\n"
        "def upgrade() -> None: ...\ndef downgrade() -> None: ...\n"
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "0001_initial.py", "0001", None)
    write(tmp_path, "0002_more.py", "0002", "0001")
    return tmp_path


@pytest.fixture
async def empty(databases: Databases) -> AsyncGenerator[Database]:
    url = databases.create()
    database = Database(url)
    yield database
    await database.close()
    databases.drop(url)


async def migrate(database: Database, folder: Path, revision: str = "head") -> None:
    await Migrations(database.url, directory=folder, metadata=MetaData()).up(revision)


async def test_a_current_database_is_accepted(empty: Database, folder: Path):
    await migrate(empty, folder)
    await ensure_current(empty, folder)
    assert await current_revision(empty) == wanted(folder) == "0002"


async def test_a_database_without_tables_is_refused(empty: Database, folder: Path):
    assert await current_revision(empty) is None
    with pytest.raises(ConfigurationError, match="has no tables yet, the code wants 0002") as e:
        await ensure_current(empty, folder)
    assert "newel migrate up" in e.value.fix


async def test_a_database_that_is_behind_is_refused(empty: Database, folder: Path):
    await migrate(empty, folder, "0001")
    with pytest.raises(ConfigurationError, match="at revision 0001, the code wants 0002") as e:
        await ensure_current(empty, folder)
    assert "newel migrate up" in e.value.fix


async def test_a_database_of_a_newer_release_is_refused(empty: Database, folder: Path):
    await migrate(empty, folder)
    (folder / "0002_more.py").unlink()
    with pytest.raises(ConfigurationError, match="at revision 0002, which this code does not") as e:
        await ensure_current(empty, folder)
    assert "newel migrate down 0001" in e.value.fix
    (folder / "0001_initial.py").unlink()
    with pytest.raises(ConfigurationError) as e:
        await ensure_current(empty, folder)
    assert "newel migrate down base" in e.value.fix


async def test_a_service_without_migrations_wants_no_revision(empty: Database, tmp_path: Path):
    (tmp_path / "__init__.py").touch()
    assert wanted(tmp_path) is None
    await ensure_current(empty, tmp_path)


async def test_a_database_at_two_revisions_is_refused(empty: Database, folder: Path):
    await migrate(empty, folder)
    async with empty.engine.begin() as connection:
        await connection.execute(text("INSERT INTO alembic_version VALUES ('0009')"))
    with pytest.raises(ConfigurationError, match="0002, 0009"):
        await ensure_current(empty, folder)


def test_heads_are_what_nothing_follows(folder: Path):
    assert heads(folder) == ("0002",)
    write(folder, "0003_left.py", "0003", "0002")
    write(folder, "0004_right.py", "0004", "0002")
    assert heads(folder) == ("0003", "0004")
    with pytest.raises(ConfigurationError, match="several ends: 0003, 0004"):
        wanted(folder)
    merge = folder / "0005_merge.py"
    merge.write_text("revision = '0005'\ndown_revision = ('0003', '0004')\n")
    assert heads(folder) == ("0005",)
    assert [r.follows for r in read_revisions(folder)][-1] == ("0003", "0004")


def test_files_are_read_and_not_run(folder: Path):
    (folder / "0003_bad.py").write_text(
        "revision = '0003'\ndown_revision = '0002'\nbranch_labels = None\n"
        "here, there = 1, 2\nnothing: int\ncomputed = open('/nonexistent')\n"
        "raise SystemExit('executed')\n"
    )
    (folder / "notes.py").write_text("x = 1\n")
    (folder / "odd.py").write_text("revision = 7\n")
    assert [revision.id for revision in read_revisions(folder)] == ["0001", "0002", "0003"]


def test_two_files_with_one_id_are_refused(folder: Path):
    write(folder, "0002_other.py", "0002", "0001")
    with pytest.raises(ConfigurationError, match=r"0002_more.py and 0002_other.py both are") as e:
        heads(folder)
    assert "0002_other.py" in e.value.fix


def test_a_file_that_is_no_python_is_named(folder: Path):
    (folder / "0003_bad.py").write_text("revision = \n")
    with pytest.raises(ConfigurationError, match=r"0003_bad.py is not valid Python: .* line 1"):
        heads(folder)


def test_no_folder_is_explained(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no migrations folder") as e:
        heads(tmp_path / "nowhere")
    assert "MIGRATIONS" in e.value.fix


def test_a_start_does_not_load_alembic():
    script = "import sys, newel.app; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
