"""The history of the schema: Alembic, run by program on an asynchronous engine.

    migrations = Migrations("sqlite+aiosqlite:///data.db", directory=Path("migrations"),
                            metadata=Entity.metadata)
    await migrations.up()

One history covers the kernel's tables and the service's; the service owns its files. They run on
SQLite (changes of a table by Alembic's batch mode) and on PostgreSQL alike.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from alembic import command
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import False_, True_
from sqlalchemy.sql.functions import now
from sqlalchemy.types import TypeDecorator, TypeEngine

from newel.engines import begin_immediate
from newel.errors import ConfigurationError
from newel.kernel_tables import take_out
from newel.revisions import heads, read_revisions, revision_at, wanted

__all__ = ["CONNECT_SECONDS", "LOCK_TIMEOUT_SECONDS", "SQLITE_WAIT_SECONDS", "Migrations"]

LOCK_TIMEOUT_SECONDS = 2.0
"""How long a migration may wait for a lock, and so make everybody else wait behind it."""

SQLITE_WAIT_SECONDS = 5.0
"""How long a migration of an SQLite file waits for another process's write."""

CONNECT_SECONDS = 5
"""How long the database may take to accept the connection."""

_ATTEMPTS = 5
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's SQLSTATE
_ONE_AT_A_TIME = 7_310_225_021  # the advisory lock's number; any constant that only we use
_Way = Literal["up", "down", "stamp"]
_ENVIRONMENT = Path(__file__).parent / "migration_environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """The bodies of ``upgrade`` and ``downgrade`` and the import lines that they need."""

    up: str = "pass"
    down: str = "pass"
    imports: frozenset[str] = frozenset()


class Migrations:
    """The migrations in ``directory``, for the database at ``url`` and the tables of ``metadata``.

    Nothing is read or connected before a method is called. What goes wrong on the user's side
    raises ``ConfigurationError`` with its fix. One method at a time in a process, because Alembic
    keeps its context in a module; processes may meet, each migration is applied once.
    """

    def __init__(self, url: str, *, directory: Path, metadata: MetaData) -> None:
        self._url = make_url(url)
        self._directory = directory
        self._metadata = metadata
        self._is_sqlite = self._url.get_backend_name() == "sqlite"

    def heads(self) -> tuple[str, ...]:
        """Return the newest revisions of the files: one, unless two branches were merged."""
        return heads(self._directory)

    async def current(self) -> str | None:
        """Return the revision the database is at, ``None`` if it was never migrated."""
        async with self._connection() as connection:
            return await connection.run_sync(revision_at)

    async def up(self, revision: str = "head") -> list[str]:
        """Apply the missing migrations up to ``revision``; return the ids that were applied.

        PostgreSQL: each in its own transaction, no lock waited for longer than
        ``LOCK_TIMEOUT_SECONDS``, tried five times. SQLite: all or nothing.
        """
        wanted(self._directory)
        return await self._run("up", revision)

    async def down(self, revision: str = "-1") -> list[str]:
        """Take back migrations down to ``revision`` (``-1``: the last, ``base``: all)."""
        return await self._run("down", revision)

    async def stamp(self, revision: str = "head") -> str | None:
        """Note that the database is at ``revision`` without changing a table; return its id.

        For a database that got its tables otherwise, and for a history that was written anew: what
        was noted before need not be known. ``base`` forgets it. ``check`` tells if it was true.
        """
        wanted(self._directory)
        await self._run("stamp", revision)
        return await self.current()

    async def check(self) -> list[str]:
        """Return what the models have and the history lacks, or the reverse; empty: they agree.

        The database has to be at the newest revision.
        """
        async with self._connection() as connection:
            await self._ensure_newest(connection)
            differences = await connection.run_sync(self._compare)
        return [line for difference in differences for line in _sentences(difference)]

    async def new(self, message: str, *, empty: bool = False) -> Path | None:
        """Write the migration from the history to the models; ``None`` when they agree.

        The file is ``0002_<message>.py``; ``empty=True`` writes one without operations, for data.
        """
        revisions = read_revisions(self._directory) if self._directory.is_dir() else ()
        number = 1 + max((int(r.id) for r in revisions if r.id.isdecimal()), default=0)
        below = self._newest()
        async with self._connection() as connection:
            await self._ensure_newest(connection)
            code = _Code() if empty else await connection.run_sync(self._render)
        if code.up == "pass" and not empty:
            return None
        self._directory.mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40] or "change"
        path = self._directory / f"{number:04d}_{slug}.py"
        path.write_text(_file(message, f"{number:04d}", below, code), encoding="utf-8")
        _format(path)
        return path

    # ------------------------------------------------------------ running

    async def _run(self, way: _Way, revision: str) -> list[str]:
        read_revisions(self._directory)
        done: list[str] = []
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._connection() as connection:
                    await connection.run_sync(self._command, way, revision, done)
            except CommandError as error:
                raise _command_error(error, revision) from None
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise self._failed(error, done) from error
                if attempt == _ATTEMPTS:
                    raise _locked(done) from error
                await asyncio.sleep(0.2 * attempt)
            else:
                return done

    def _command(self, connection: Connection, way: _Way, revision: str, done: list[str]) -> None:
        self._take_turn(connection)
        config = Config()
        config.set_main_option("script_location", _escaped(_ENVIRONMENT))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", _escaped(self._directory.absolute()))
        config.attributes["newel_options"] = self._options(connection) | {
            "on_version_apply": self._recorder(connection, done)
        }
        if way == "stamp":
            command.stamp(config, revision, purge=True)
        else:
            run = command.upgrade if way == "up" else command.downgrade
            run(config, revision)

    def _take_turn(self, connection: Connection) -> None:
        """Let two deployments migrate one after the other. SQLite: BEGIN IMMEDIATE does it."""
        if self._is_sqlite:
            return
        connection.exec_driver_sql(f"SET lock_timeout = '{int(LOCK_TIMEOUT_SECONDS * 1000)}ms'")
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ONE_AT_A_TIME})")
        connection.commit()  # both last as long as the connection

    def _recorder(self, connection: Connection, done: list[str]) -> Callable[..., None]:
        """Return what Alembic calls after each migration, inside its transaction."""

        def applied(*, step: Any, **_: Any) -> None:
            if self._is_sqlite and not step.is_stamp:
                _check_references(connection, step.up_revision_id)
            done.append(step.up_revision_id)

        return applied

    def _options(self, connection: Connection) -> dict[str, Any]:
        return {
            "connection": connection,
            "target_metadata": self._metadata,
            "render_as_batch": True,
            "compare_server_default": True,
            # pysqlite is told when to begin, so SQLite's transactions hold its DDL too.
            "transactional_ddl": True,
            "transaction_per_migration": not self._is_sqlite,
        }

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[AsyncConnection]:
        self._open_file()
        engine = self._engine()
        try:
            async with engine.connect() as connection:
                yield connection
        except OSError as error:  # refused, unreachable, timed out
            raise self._away(str(error)) from error
        except DBAPIError as error:
            if not error.connection_invalidated and error.statement is not None:
                raise
            raise self._away(_first_line(error)) from error
        finally:
            await engine.dispose()

    def _open_file(self) -> None:
        """Fail early on an SQLite file that cannot be opened.

        aiosqlite would, and then its thread writes a traceback when the event loop is gone first.
        """
        if not self._is_sqlite:
            return
        try:
            sqlite3.connect(self._url.database or "").close()
        except sqlite3.OperationalError as error:
            raise self._away(str(error)) from error

    def _engine(self) -> AsyncEngine:
        """Return an engine that lets SQLite rebuild tables without watching references."""
        seconds = SQLITE_WAIT_SECONDS if self._is_sqlite else CONNECT_SECONDS
        name = "connect_timeout" if "psycopg" in self._url.drivername else "timeout"
        engine = create_async_engine(self._url, poolclass=NullPool, connect_args={name: seconds})
        if self._is_sqlite:
            event.listen(engine.sync_engine, "connect", _leave_transactions_to_us)
            event.listen(engine.sync_engine, "begin", begin_immediate)
        return engine

    def _away(self, why: str) -> ConfigurationError:
        where = self._url.render_as_string(hide_password=True)
        return ConfigurationError(
            f"The database {where} cannot be used: {why}",
            fix="start it, or correct DATABASE_URL",
        )

    def _failed(self, error: DBAPIError, done: Sequence[str]) -> ConfigurationError:
        kept = () if self._is_sqlite else tuple(done)
        after = f"after revision {kept[-1]}" if kept else "and nothing was changed"
        return ConfigurationError(
            f"A migration failed {after}: {_first_line(error)}",
            fix="correct the migration (a new column may need a server_default for the rows that "
            "exist), or the rows, and run it again",
        )

    # ------------------------------------------------------------ comparing and writing

    def _newest(self) -> str | None:
        """Return the head; a folder that is not there yet has none."""
        return wanted(self._directory) if self._directory.is_dir() else None

    async def _ensure_newest(self, connection: AsyncConnection) -> None:
        at = await connection.run_sync(revision_at)
        want = self._newest()
        if at != want:
            raise ConfigurationError(
                f"The database is at revision {at}, the files are at {want}",
                fix="run `newel migrate up` first: the models are compared with the database",
            )

    def _context(self, connection: Connection) -> MigrationContext:
        return MigrationContext.configure(connection, opts=self._options(connection))

    def _compare(self, connection: Connection) -> Sequence[Any]:
        found: Sequence[Any] = compare_metadata(self._context(connection), self._metadata)
        return found

    def _render(self, connection: Connection) -> _Code:
        context = self._context(connection)
        script = produce_migrations(context, self._metadata)
        ours = ", ".join(f'"{name}"' for name in take_out(script, self._metadata))
        imports: set[str] = {"from newel import kernel_tables"} if ours else set()

        def body(operations: ops.UpgradeOps | ops.DowngradeOps | None) -> str:
            assert operations is not None  # noqa: S101 - produce_migrations always sets both
            operations.ops = list(_plain_indexes(operations.ops))
            code = render_python_code(
                operations,
                render_as_batch=True,
                render_item=_renderer(imports),
                migration_context=context,
            )
            kept = [line for line in code.splitlines() if not line.strip().startswith("# ###")]
            return "\n".join(kept).replace(", schema=None", "").strip()

        notes = "".join(f"# {note}\n    " for note in _unfilled(script.upgrade_ops))
        up, down = notes + body(script.upgrade_ops), body(script.downgrade_ops)
        if ours:
            # Last, since some of them refer to the users.
            up = f"{up.removeprefix('pass')}\n    kernel_tables.create({ours})".strip()
            down = f"kernel_tables.drop({ours})\n    {down.removeprefix('pass')}".strip()
        return _Code(up=up, down=down, imports=frozenset(imports))


def _unfilled(operations: ops.UpgradeOps | None) -> Iterator[str]:
    """Yield what to note of new columns that have no value for the rows that are there."""
    for found in operations.ops if operations else ():
        for part in found.ops if isinstance(found, ops.ModifyTableOps) else ():
            if isinstance(part, ops.AddColumnOp) and not (
                part.column.nullable or part.column.server_default
            ):
                yield f"{part.table_name}.{part.column.name} needs a server_default if rows exist"


def _plain_indexes(operations: Sequence[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    """Yield the operations without batches for indexes: no database rebuilds a table for one.

    Indexes of a table that is dropped are left out, they go with it.
    """
    dropped = {found.table_name for found in operations if isinstance(found, ops.DropTableOp)}
    for found in operations:
        parts = found.ops if isinstance(found, ops.ModifyTableOps) else []
        if not parts or not all(
            isinstance(part, ops.CreateIndexOp | ops.DropIndexOp) for part in parts
        ):
            yield found
        elif cast("ops.ModifyTableOps", found).table_name not in dropped:
            yield from parts


def _check_references(connection: Connection, revision: str) -> None:
    """Refuse a migration that leaves rows pointing nowhere; SQLite did not watch meanwhile."""
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise ConfigurationError(
            f"Migration {revision} leaves rows of {broken[0]} that refer to no row of {broken[2]}",
            fix=f"let {revision} move or delete these rows; the database is unchanged",
        )


def _leave_transactions_to_us(connection: Any, _entry: object) -> None:
    connection.isolation_level = None


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")  # configparser's


def _first_line(error: DBAPIError) -> str:
    cause = getattr(error.orig, "__cause__", None) or error.orig
    return str(cause).strip().partition("\n")[0]


def _command_error(error: CommandError, revision: str) -> ConfigurationError:
    message = str(error).partition("\n")[0]
    if "Can't locate revision" in message:
        return ConfigurationError(
            f"{message} in the migrations folder",
            fix="write a revision of the folder, `head`, `base` or a step such as `-1`; if the "
            "database is at a newer release's revision, use that release",
        )
    if "outside of" in message or "Relative revision" in message or "Walked too far" in message:
        return ConfigurationError(
            f"There is nothing {revision!r} could mean here: {message}",
            fix="the history ends before it; `newel migrate up` shows where the database is",
        )
    return ConfigurationError(message, fix="see the files in the migrations folder")


def _locked(done: Sequence[str]) -> ConfigurationError:
    after = f"after revision {done[-1]}" if done else "before its first step"
    return ConfigurationError(
        f"The migration stopped {after}: a lock was not free within {LOCK_TIMEOUT_SECONDS:g} s",
        fix="end long transactions, or another `newel migrate`, and run it again",
    )


def _sentences(difference: Any) -> list[str]:
    """Say one of Alembic's differences in words: ``add_column agents.name``."""
    if isinstance(difference, list):  # the changes of one column
        return [line for part in cast("list[Any]", difference) for line in _sentences(part)]
    what, *parts = difference
    if what.startswith("modify_"):
        _schema, table, column, _existing, old, new = parts
        was, now_is = (getattr(value, "arg", value) for value in (old, new))
        return [f"{what} {table}.{column}: {was!s} in the history, {now_is!s} in the models"]
    if what.endswith("_column"):
        _schema, table, column = parts
        return [f"{what} {table}.{column.name}"]
    thing = parts[0]
    table = getattr(thing, "table", None)
    name = getattr(thing, "name", None) or thing
    return [f"{what} {name}" if table is None else f"{what} {name} on {table.name}"]


def _renderer(imports: set[str]) -> Callable[[str, Any, Any], str | Literal[False]]:
    """Return Alembic's ``render_item``: a migration names the database's types, not our classes.

    So that it still runs when ``UTCDateTime`` has moved or is gone.
    """

    def render(kind: str, thing: Any, _context: Any) -> str | Literal[False]:
        if kind == "server_default":
            return _default(thing)
        if kind != "type" or not isinstance(thing, TypeEngine):
            return False
        plain = _plain(cast("TypeEngine[Any]", thing))
        module = type(plain).__module__
        if module.startswith("sqlalchemy.dialects."):
            dialect = module.split(".")[2]
            imports.add(f"from sqlalchemy.dialects import {dialect}")
            # JSONB's repr names a type of its own without the module.
            named = repr(plain).replace("astext_type=Text()", "astext_type=sa.Text()")
            return False if plain is thing else f"{dialect}.{named}"
        if not module.startswith("sqlalchemy."):
            imports.add(f"import {module}")
        return False if plain is thing else f"sa.{plain!r}"

    return render


def _default(thing: Any) -> str | Literal[False]:
    """Render the defaults that each database spells differently as SQLAlchemy's own words."""
    value: object = getattr(thing, "arg", None)
    if isinstance(value, now):
        return "sa.func.now()"
    if isinstance(value, True_ | False_):
        return "sa.true()" if isinstance(value, True_) else "sa.false()"
    return False


def _plain(thing: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return what a decorator is in the database, if that is the same in every database."""
    if not isinstance(thing, TypeDecorator) or "load_dialect_impl" in vars(type(thing)):
        return thing
    return thing.impl_instance


def _file(message: str, revision: str, below: str | None, code: _Code) -> str:
    title = message.strip().rstrip(".").replace("\\", "").replace('"', "'")
    body = code.up + code.down
    modules = {line for line in code.imports if line.startswith("import ")}
    names = code.imports - modules
    if "sa." in body:
        modules.add("import sqlalchemy as sa")
    if "op." in body:
        names |= {"from alembic import op"}
    head = [*sorted(modules), *sorted(names)]
    return "\n".join(
        [
            f'"""{title[:1].upper()}{title[1:]}."""',
            "",
            *([*head, ""] if head else []),
            f'revision: str = "{revision}"',
            f"down_revision: str | None = {json.dumps(below) if below else None}",
            "",
            "",
            "def upgrade() -> None:",
            f"    {code.up}",
            "",
            "",
            "def downgrade() -> None:",
            f"    {code.down}",
            "",
        ]
    )


def _format(path: Path) -> None:
    """Format with the project's own ruff, if it has one; the file is valid without."""
    beside = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if beside is not None:
        subprocess.run([beside, "format", "--quiet", str(path)], check=False)  # noqa: S603 - our own file
