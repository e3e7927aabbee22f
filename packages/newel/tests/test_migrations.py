"""The schema's history, on both databases: there and back, empty and filled, and when it fails."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sample_schema import schema
from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from newel import migrations as module
from newel.entity import Entity, UTCDateTime, unique
from newel.errors import ConfigurationError
from newel.ids import uuid7
from newel.migrations import Migrations
from newel.testing import Databases

pytestmark = pytest.mark.anyio


class Point(UserDefinedType[str]):
    """A type of the service's own that exists in the database by name."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "VARCHAR(40)"

    def __repr__(self) -> str:
        return "Point()"


class Either(TypeDecorator[str]):
    """A type that is another one in each database."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(10) if dialect.name == "sqlite" else String(20))


class Shout(TypeDecorator[str]):
    """A type that converts in Python only."""

    impl = String(30)
    cache_ok = True


class Tree(TypeDecorator[Any]):
    impl = postgresql.JSONB
    cache_ok = True


def tables() -> MetaData:
    return MetaData(naming_convention=Entity.metadata.naming_convention)


def first() -> MetaData:
    metadata = tables()
    Table(
        "owners",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("email", String(254), nullable=False),
        Column("born", Date),
    )
    Table(
        "agents",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("owner_id", ForeignKey("owners.id", ondelete="CASCADE"), nullable=False, index=True),
        Column("name", String(64), nullable=False),
        Column("seen_at", UTCDateTime, nullable=False),
    )
    return metadata


def second() -> MetaData:
    """Every kind of change that SQLite can only do by building the table anew."""
    metadata = tables()
    Table(
        "owners",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("email", String(320), nullable=False),
        Column("active", Boolean, server_default=true(), nullable=False),
        Column("blocked", Boolean, server_default=false(), nullable=False),
        Column("joined_at", UTCDateTime, server_default=func.now(), nullable=False),
        Column("nick", String(10), server_default="none", nullable=False),
        Index("uq_owners_email", "email", unique=True),
        CheckConstraint("length(email) > 2", name="email_length"),
    )
    Table(
        "agents",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("owner_id", ForeignKey("owners.id", ondelete="CASCADE"), nullable=False, index=True),
        Column("name", String(64), nullable=True),
        Column("seen_at", UTCDateTime, nullable=False),
        Column("price", Numeric(10, 2)),
        Column("kind", Enum("fast", "slow", name="kind", native_enum=False)),
        Column("config", JSON),
    )
    Table("tags", metadata, Column("name", String(20), primary_key=True))
    return metadata


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return (
        tmp_path / "100% of the\u00a0migrations, here"
    )  # what a careless configuration trips over


@pytest.fixture
def url(databases: Databases) -> Generator[str]:
    found = databases.create()
    yield found
    databases.drop(found)


@pytest.fixture
def at(url: str, folder: Path) -> Callable[[MetaData], Migrations]:
    return lambda metadata: Migrations(url, directory=folder, metadata=metadata)


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


async def execute(url: str, *statements: str, **values: Any) -> list[Any]:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            rows: list[Any] = []
            for statement in statements:
                result = await connection.execute(text(statement), values)
                rows = list(result) if result.returns_rows else []
            return rows
    finally:
        await engine.dispose()


async def fill(url: str, agents: int = 3) -> None:
    owner = {"id": uuid7().hex if is_sqlite(url) else str(uuid7())}
    await execute(
        url, f"INSERT INTO owners (id, email) VALUES ('{owner['id']}', 'ada@example.com')"
    )
    for number in range(agents):
        key = uuid7().hex if is_sqlite(url) else str(uuid7())
        await execute(
            url,
            "INSERT INTO agents (id, owner_id, name, seen_at) "
            f"VALUES ('{key}', '{owner['id']}', 'agent {number}', '2030-01-01 00:00:00')",
        )


def write(
    folder: Path, number: int, up: str, down: str = "", *, follows: str | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    below = follows or (f"{number - 1:04d}" if number > 1 else None)
    path = folder / f"{number:04d}_step.py"
    path.write_text(
        "from alembic import op\n"
        f"revision = '{number:04d}'\ndown_revision = {below!r}\n"
        f"def upgrade():\n    op.execute({up!r})\n"
        f"def downgrade():\n    op.execute({down or 'SELECT 1'!r})\n"
    )
    return path


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
async def test_up_down_up_gives_the_same_schema_and_keeps_the_rows(
    at: Callable[[MetaData], Migrations], url: str, *, filled: bool
):
    await at(first()).new("initial")
    assert await at(first()).up() == ["0001"]
    before = await schema(url)
    if filled:
        await fill(url)
    await at(second()).new("everything else")
    assert await at(second()).up() == ["0002"]
    after = await schema(url)
    assert after != before
    assert await at(second()).check() == []

    assert await at(second()).down() == ["0002"]
    assert await schema(url) == before
    assert await at(second()).up() == ["0002"]
    assert await schema(url) == after
    if filled:
        rows = await execute(url, "SELECT name FROM agents ORDER BY name")
        assert [row.name for row in rows] == ["agent 0", "agent 1", "agent 2"]
        assert (await execute(url, "SELECT nick FROM owners"))[0].nick == "none"

    assert await at(second()).down("base") == ["0002", "0001"]
    assert await schema(url) == {}
    assert await at(second()).current() is None
    assert await at(second()).up() == ["0001", "0002"]
    assert await schema(url) == after


async def test_the_kernels_own_tables_go_into_the_services_history(
    at: Callable[[MetaData], Migrations], url: str
):
    migrations = at(Entity.metadata)
    path = await migrations.new("initial")
    assert path is not None
    await migrations.up()
    assert await migrations.check() == []
    assert "outbox" in await schema(url)
    assert path.read_text().count("newel") == 1  # it names the kernel's tables, not its classes


async def test_one_history_runs_on_the_other_database_too(
    url: str, databases: Databases, folder: Path, tmp_path: Path
):
    """Written against one database, run on SQLite: defaults and types are nobody's dialect."""
    written = Migrations(url, directory=folder, metadata=first())
    await written.new("initial")
    await written.up()
    await Migrations(url, directory=folder, metadata=second()).new("more")
    other = f"sqlite+aiosqlite:///{tmp_path}/other.db"
    elsewhere = Migrations(other, directory=folder, metadata=second())
    assert await elsewhere.up() == ["0001", "0002"]
    assert await elsewhere.check() == []


async def test_a_name_too_long_for_a_database_is_shortened_the_same_way_each_time(
    url: str, databases: Databases, folder: Path, tmp_path: Path
):
    metadata = tables()
    columns = ("registration_at_the_port", "scheduled_arrival_number")
    Table(
        "international_container_ships",
        metadata,
        Column("id", Uuid, primary_key=True),
        *(Column(name, String(20), nullable=False) for name in columns),
        unique("international_container_ships", *columns),
        unique("international_container_ships", *columns[::-1]),
    )
    here = Migrations(url, directory=folder, metadata=metadata)
    await here.new("initial")
    for migrations in (
        here,
        Migrations(f"sqlite+aiosqlite:///{tmp_path}/o.db", directory=folder, metadata=metadata),
    ):
        assert await migrations.up() == ["0001"]
        assert await migrations.check() == []
        assert await migrations.new("nothing") is None


async def test_a_revision_may_be_a_goal_in_both_directions(
    at: Callable[[MetaData], Migrations], folder: Path
):
    for number in (1, 2, 3):
        write(folder, number, f"CREATE TABLE t{number} (id int)", f"DROP TABLE t{number}")
    migrations = at(tables())
    assert migrations.heads() == ("0003",)
    assert await migrations.up("0002") == ["0001", "0002"]
    assert await migrations.current() == "0002"
    assert await migrations.up() == ["0003"]
    assert await migrations.up() == []
    assert await migrations.down("0001") == ["0003", "0002"]


# ---------------------------------------------------------------- stamping


async def test_a_database_that_got_its_tables_otherwise_can_be_taken_over(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    for number in (1, 2):
        write(folder, number, f"CREATE TABLE t{number} (id int)", f"DROP TABLE t{number}")
    await execute(url, "CREATE TABLE t1 (id int)")
    migrations = at(tables())
    assert await migrations.stamp("0001") == "0001"
    assert await migrations.current() == "0001"
    assert await migrations.up() == ["0002"]
    assert sorted(await schema(url)) == ["t1", "t2"]


async def test_a_stamp_changes_no_table_and_can_be_taken_back(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    write(folder, 1, "CREATE TABLE t1 (id int)", "DROP TABLE t1")
    migrations = at(tables())
    assert await migrations.stamp() == "0001"
    assert await schema(url) == {}
    assert await migrations.stamp("base") is None
    assert await migrations.up() == ["0001"]


async def test_a_history_that_was_written_anew_replaces_what_was_noted(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    write(folder, 1, "CREATE TABLE t1 (id int)")
    old = write(folder, 2, "CREATE TABLE t2 (id int)")
    migrations = at(tables())
    await migrations.up()
    old.unlink()
    with pytest.raises(ConfigurationError, match="0002"):
        await migrations.up()
    assert await migrations.stamp("0001") == "0001"
    assert await migrations.up() == []


async def test_a_stamp_does_not_judge_the_rows(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    if not is_sqlite(url):
        pytest.skip("PostgreSQL never lets go of a reference")
    await execute(url, "CREATE TABLE a (id int PRIMARY KEY, b int REFERENCES c (id))")
    await execute(url, "CREATE TABLE c (id int PRIMARY KEY)")
    await execute(url, "INSERT INTO a VALUES (1, 2)")
    write(folder, 1, "SELECT 1")
    assert await at(tables()).stamp() == "0001"


# ---------------------------------------------------------------- writing


async def test_a_new_file_is_numbered_named_typed_and_formatted(
    at: Callable[[MetaData], Migrations], folder: Path
):
    path = await at(first()).new('Agents & "owners".')
    assert path == folder / "0001_agents_owners.py"
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)) == "Agents & 'owners'."
    assert 'revision: str = "0001"\ndown_revision: str | None = None\n' in source
    assert "def upgrade() -> None:" in source
    assert "auto generated" not in source
    assert "schema=None" not in source
    assert ruff(path, "format", "--check") == ""
    # The formatter's own commas, and what the service's ruff.toml says of its folders.
    assert ruff(path, "check", "--select=ALL", "--ignore=COM812,D,INP,CPY") == ""


def ruff(path: Path, *arguments: str) -> str:
    """Return what ruff has to say about a file."""
    command = [str(Path(sys.executable).parent / "ruff"), *arguments]
    done = subprocess.run(
        [*command, "--isolated", "--line-length=100", "--quiet", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


async def test_without_ruff_the_file_is_valid_all_the_same(
    at: Callable[[MetaData], Migrations], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)
    await at(first()).new("initial")
    assert await at(first()).up() == ["0001"]


async def test_indexes_are_written_without_batches_and_dropped_with_their_table(
    at: Callable[[MetaData], Migrations], url: str
):
    path = await at(first()).new("initial")
    assert path is not None
    up, down = path.read_text().split("def downgrade")
    assert 'op.create_index(op.f("ix_agents_owner_id"), "agents", ["owner_id"]' in up
    assert "batch" not in up
    assert "index" not in down
    await at(first()).up()
    before = await schema(url)

    wider = first()
    columns = wider.tables["agents"].columns
    Index("ix_agents_name", columns["name"])
    Index("uq_agents_name_seen_at", columns["name"], columns["seen_at"], unique=True)
    path = await at(wider).new("more indexes")
    assert path is not None
    assert 'op.drop_index("ix_agents_name", table_name="agents")' in path.read_text()
    await at(wider).up()
    assert await at(wider).check() == []
    assert await at(wider).down() == ["0002"]
    assert await schema(url) == before
    assert await at(wider).down() == ["0001"]
    assert await schema(url) == {}


async def test_types_of_the_code_become_types_of_the_database(
    at: Callable[[MetaData], Migrations], url: str
):
    metadata = tables()
    columns = [
        Column("seen_at", UTCDateTime),
        Column("shout", Shout),
        Column("either", Either),
        Column("point", Point),
    ]
    if not is_sqlite(url):
        columns += [Column("tree", Tree), Column("words", postgresql.ARRAY(String))]
    Table("things", metadata, Column("id", Integer, primary_key=True), *columns)
    path = await at(metadata).new("initial")
    assert path is not None
    source = path.read_text()
    assert 'sa.Column("seen_at", sa.DateTime(timezone=True)' in source
    assert 'sa.Column("shout", sa.String(length=30)' in source
    # These two mean something only together with the service's code.
    assert f"import {__name__}" in source
    assert f'sa.Column("either", {__name__}.Either(' in source
    assert f'sa.Column("point", {__name__}.Point()' in source
    if not is_sqlite(url):
        assert "from sqlalchemy.dialects import postgresql" in source
        assert 'sa.Column("tree", postgresql.JSONB(' in source
    assert await at(metadata).up() == ["0001"]


async def test_nothing_to_write_writes_nothing(at: Callable[[MetaData], Migrations], folder: Path):
    await at(first()).new("initial")
    await at(first()).up()
    assert await at(first()).new("again") is None
    assert names(folder) == ["0001_initial.py"]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py")]


async def test_an_empty_migration_for_data_can_be_asked_for(at: Callable[[MetaData], Migrations]):
    await at(first()).new("initial")
    await at(first()).up()
    path = await at(first()).new("!?", empty=True)
    assert path is not None
    assert path.name == "0002_change.py"
    assert "import" not in path.read_text()
    assert await at(first()).up() == ["0002"]
    assert await at(first()).down() == ["0002"]


async def test_new_and_check_refuse_a_database_that_is_behind(
    at: Callable[[MetaData], Migrations],
):
    await at(first()).new("initial")
    for refused in (at(second()).new("more"), at(second()).check()):
        with pytest.raises(
            ConfigurationError, match="at revision None, the files are at 0001"
        ) as e:
            await refused
        assert "newel migrate up" in e.value.fix


# ---------------------------------------------------------------- checking


async def test_check_names_what_differs(at: Callable[[MetaData], Migrations]):
    await at(first()).new("initial")
    await at(first()).up()
    assert await at(first()).check() == []
    found = "\n".join(await at(second()).check())
    for expected in (
        "add_table tags",
        "add_column owners.active",
        "remove_column owners.born",
        "add_index uq_owners_email on owners",
        "modify_nullable agents.name: False in the history, True in the models",
        "modify_type owners.email: VARCHAR(254) in the history, VARCHAR(320) in the models",
    ):
        assert expected in found


async def test_check_sees_a_changed_default(at: Callable[[MetaData], Migrations]):
    def table(default: str) -> MetaData:
        metadata = tables()
        Table("t", metadata, Column("id", Integer, primary_key=True),
              Column("word", String(9), server_default=default))  # fmt: skip
        return metadata

    await at(table("one")).new("initial")
    await at(table("one")).up()
    assert await at(table("one")).check() == []
    (line,) = await at(table("two")).check()
    assert line.startswith("modify_default t.word: 'one'")
    assert line.endswith(" in the history, two in the models")


# ---------------------------------------------------------------- when it fails


async def test_a_failure_keeps_what_the_database_can_keep(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    write(folder, 1, "CREATE TABLE t1 (id int)")
    write(folder, 2, "CREATE TABLE t2 (id int)")
    write(folder, 3, "SELECT nonsense")
    with pytest.raises(ConfigurationError) as caught:
        await at(tables()).up()
    assert "nonsense" in caught.value.detail
    assert "run it again" in caught.value.fix
    if is_sqlite(url):  # one transaction over all
        assert "nothing was changed" in caught.value.detail
        assert await schema(url) == {}
        assert await at(tables()).current() is None
    else:  # one a migration
        assert "after revision 0002" in caught.value.detail
        assert set(await schema(url)) == {"t1", "t2"}
        assert await at(tables()).current() == "0002"


async def test_a_column_that_the_rows_cannot_fill_is_noted_and_its_failure_explained(
    at: Callable[[MetaData], Migrations], url: str
):
    def table(*columns: Column[Any]) -> MetaData:
        metadata = tables()
        Table("t", metadata, Column("id", Integer, primary_key=True), *columns)
        return metadata

    note = "    # t.colour needs a server_default if rows exist\n"
    path = await at(table()).new("initial")
    assert path is not None
    assert "server_default" not in path.read_text()  # the table is new: it has no rows
    await at(table()).up()
    await execute(url, "INSERT INTO t (id) VALUES (1)")

    path = await at(table(Column("colour", String(9), nullable=False))).new("colour")
    assert path is not None
    assert note in path.read_text()
    with pytest.raises(ConfigurationError) as caught:
        await at(table()).up()
    assert "server_default for the rows that exist" in caught.value.fix

    path.unlink()
    colour = Column("colour", String(9), nullable=False, server_default="red")
    path = await at(table(colour, Column("size", Integer))).new("colour")
    assert path is not None
    assert note not in path.read_text()
    assert await at(table()).up() == ["0002"]
    assert [row.colour for row in await execute(url, "SELECT colour FROM t")] == ["red"]


async def test_a_migration_that_fails_half_way_leaves_no_half(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    path = write(folder, 1, "CREATE TABLE half (id int)")
    path.write_text(path.read_text().replace(
        "def downgrade", "    op.execute('INSERT INTO half SELECT nonsense')\ndef downgrade"
    ))  # fmt: skip
    with pytest.raises(ConfigurationError):
        await at(tables()).up()
    assert await schema(url) == {}


async def test_an_error_in_a_migration_file_is_not_hidden(
    at: Callable[[MetaData], Migrations], folder: Path
):
    path = write(folder, 1, "SELECT 1")
    path.write_text(path.read_text().replace("op.execute('SELECT 1')", "op.exceute('x')", 1))
    with pytest.raises(AttributeError, match="exceute"):
        await at(tables()).up()


@pytest.mark.parametrize("revision", ["nonsense", "0009"])
async def test_an_unknown_goal_is_explained(
    at: Callable[[MetaData], Migrations], folder: Path, revision: str
):
    write(folder, 1, "SELECT 1")
    for refused in (at(tables()).up(revision), at(tables()).stamp(revision)):
        with pytest.raises(ConfigurationError, match=revision) as caught:
            await refused
        assert "head" in caught.value.fix
    with pytest.raises(ConfigurationError, match="nothing '-1' could mean"):
        await at(tables()).down()


async def test_other_words_of_alembic_pass_on_in_one_line(
    at: Callable[[MetaData], Migrations], folder: Path
):
    write(folder, 1, "SELECT 1")
    with pytest.raises(ConfigurationError, match="Range revision not allowed"):
        await at(tables()).up("base:head")


async def test_two_ends_are_refused(at: Callable[[MetaData], Migrations], folder: Path):
    write(folder, 1, "SELECT 1")
    write(folder, 2, "SELECT 1")
    write(folder, 3, "SELECT 1", follows="0001")
    for refused in (at(tables()).up(), at(tables()).new("x"), at(tables()).stamp()):
        with pytest.raises(ConfigurationError, match="several ends: 0002, 0003") as caught:
            await refused
        assert "down_revision" in caught.value.fix


async def test_no_folder_is_refused(at: Callable[[MetaData], Migrations], folder: Path):
    for refused in (at(tables()).up(), at(tables()).down(), at(tables()).stamp()):
        with pytest.raises(ConfigurationError, match="no migrations folder") as caught:
            await refused
        assert "MIGRATIONS" in caught.value.fix


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+asyncpg://ada:s3cret@127.0.0.1:1/gone",
        "postgresql+asyncpg://ada:s3cret@/gone?host=/nonexistent",
        "sqlite+aiosqlite:////nonexistent/data.db",
    ],
)
async def test_a_database_that_is_away_is_two_lines_without_the_password(
    address: str, tmp_path: Path
):
    with pytest.raises(ConfigurationError) as caught:
        await Migrations(address, directory=tmp_path, metadata=tables()).current()
    assert "cannot be used" in caught.value.detail
    assert "s3cret" not in str(caught.value)
    assert "\n" not in caught.value.detail
    assert "DATABASE_URL" in caught.value.fix


async def test_a_wrong_database_name_is_the_databases_fault(url: str, tmp_path: Path):
    if is_sqlite(url):
        return  # a missing file is a new database there
    gone = url.replace("newel_test_", "newel_gone_")
    with pytest.raises(ConfigurationError, match="does not exist"):
        await Migrations(gone, directory=tmp_path, metadata=tables()).up()


# ---------------------------------------------------------------- references on SQLite


async def test_rebuilding_a_table_does_not_delete_what_refers_to_it(
    at: Callable[[MetaData], Migrations], url: str
):
    """With foreign_keys=ON, SQLite's DROP TABLE of the old copy would cascade to every agent."""
    await at(first()).new("initial")
    await at(first()).up()
    await fill(url)
    changed = first()
    changed.tables["owners"].c.email.type = String(300)
    await at(changed).new("longer")
    await at(changed).up()
    assert len(await execute(url, "SELECT id FROM agents")) == 3


async def test_a_migration_must_not_leave_rows_that_refer_to_nothing(
    at: Callable[[MetaData], Migrations], url: str, folder: Path
):
    await at(first()).new("initial")
    await at(first()).up()
    await fill(url)
    referring = "DELETE FROM owners"
    if not is_sqlite(url):
        referring = "ALTER TABLE agents ADD CHECK (owner_id IS NULL)"  # its own guard, at once
    write(folder, 2, referring)
    with pytest.raises(ConfigurationError):
        await at(first()).up()
    assert len(await execute(url, "SELECT id FROM agents")) == 3
    assert len(await execute(url, "SELECT id FROM owners")) == 1
    assert await at(first()).current() == "0001"


# ---------------------------------------------------------------- beside others


def test_two_deployments_at_once_apply_each_migration_once(url: str, folder: Path):
    for number in range(1, 6):
        write(folder, number, f"CREATE TABLE t{number} (id int)")
    script = (
        "import asyncio, json, pathlib, sys, sqlalchemy\n"
        "from newel.migrations import Migrations\n"
        "url, folder = sys.argv[1], pathlib.Path(sys.argv[2])\n"
        "found = Migrations(url, directory=folder, metadata=sqlalchemy.MetaData())\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(json.dumps(asyncio.run(found.up())))\n"
    )
    deployments = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for deployment in deployments:
        assert deployment.stdout is not None
        assert deployment.stdout.readline() == "ready\n"
    for deployment in deployments:
        assert deployment.stdin is not None
        deployment.stdin.write("\n")
        deployment.stdin.flush()
    results = [json.loads(deployment.communicate()[0]) for deployment in deployments]
    everything = ["0001", "0002", "0003", "0004", "0005"]
    assert sorted(results) == [[], [], everything]


async def test_a_migration_gives_up_a_lock_instead_of_blocking_everyone(
    at: Callable[[MetaData], Migrations],
    url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    if is_sqlite(url):
        return  # one writer: nobody holds a lock on a single table
    write(folder, 1, "CREATE TABLE busy (id int)")
    await at(tables()).up()
    write(folder, 2, "ALTER TABLE busy ADD COLUMN more int")
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.1)
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as reader:
        await reader.execute(text("SELECT * FROM busy"))  # a transaction that stays open
        with pytest.raises(ConfigurationError, match="a lock was not free") as caught:
            await at(tables()).up()
        assert "long transactions" in caught.value.fix

        waiting = asyncio.create_task(at(tables()).up())
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not await execute(url, blocked):
            pass
        await reader.rollback()
        assert await waiting == ["0002"], "it tries again"
    await engine.dispose()


async def test_a_busy_sqlite_is_explained(
    at: Callable[[MetaData], Migrations],
    url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    if not is_sqlite(url):
        return
    monkeypatch.setattr(module, "SQLITE_WAIT_SECONDS", 0.1)
    write(folder, 1, "SELECT 1")
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as writer:
        await writer.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(ConfigurationError, match="locked") as caught:
            await at(tables()).up()
        assert caught.value.fix
    await engine.dispose()


async def test_a_time_survives_the_round_trip(at: Callable[[MetaData], Migrations], url: str):
    metadata = first()
    await at(metadata).new("initial")
    await at(metadata).up()
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    engine = create_async_engine(url, poolclass=NullPool)
    owner = uuid7()
    async with engine.begin() as connection:
        await connection.execute(metadata.tables["owners"].insert(), {"id": owner, "email": "a"})
        agents = metadata.tables["agents"]
        await connection.execute(
            agents.insert(), {"id": owner, "owner_id": owner, "name": "x", "seen_at": moment}
        )
        found = await connection.scalar(agents.select().with_only_columns(agents.c.seen_at))
    await engine.dispose()
    assert found == moment
