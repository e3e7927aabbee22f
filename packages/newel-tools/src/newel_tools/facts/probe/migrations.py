"""What a project's Alembic migrations say to PostgreSQL, without a database and without `env.py`.

Alembic's offline mode prints the statements of each revision's `upgrade()`. `env.py` is left out:
it only decides which database is dialled, and many fail where there is none.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from .places import Places

__all__ = ["migrations"]

_MESSAGE_CHARACTERS = 200


class _Output:
    """Takes what is printed, and from which line of the revision that runs."""

    def __init__(self) -> None:
        self.path = ""
        self.printed: list[dict[str, Any]] = []
        self.change: tuple[str, str] | None = None

    def write(self, text: str) -> None:
        if text.strip():
            said = {"sql": text.strip(), "line": self._line(), "types": self.change}
            self.printed.append(said)

    def flush(self) -> None:
        """Alembic calls it after each statement."""

    def _line(self) -> int:
        frame: Any = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - who prints is known only on the stack
        while frame is not None and os.path.realpath(frame.f_code.co_filename) != self.path:
            frame = frame.f_back
        return frame.f_lineno if frame is not None else 0


class _NoRows:
    """What a query gives: the tables are empty, as they are when all migrations run in a row."""

    rowcount = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def fetchall(self) -> list[Any]:
        """Return no rows."""
        return []

    def first(self) -> None:
        """Return no row."""

    def mappings(self) -> _NoRows:
        """Return no rows of another kind."""
        return self

    all = fetchall
    fetchone = one_or_none = scalar = scalar_one_or_none = first
    scalars = mappings


def migrations(asked: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """Return the statements of revisions, in the order in which they run.

    ``settings`` is the project's alembic.ini, or a folder of revisions; ``root`` the project. Those
    in the ``new`` files are wanted, and the newest; `None`: that alone, and it is new. ``older``
    counts those left out; ``unread`` says from which on they could not be printed.
    """
    environment: Any = importlib.import_module("alembic.runtime.environment")
    operations: Any = importlib.import_module("alembic.operations").Operations
    config, script = _script(asked["settings"], root=asked["root"])
    heads = set(script.get_heads())
    output = _Output()
    found: dict[str, Any] = {"statements": [], "older": 0, "unread": None}
    with environment.EnvironmentContext(config, script, as_sql=True) as context:
        context.configure(dialect_name="postgresql", output_buffer=output)
        _lead(context.get_context(), output)
        with operations.context(context.get_context()):
            for revision in reversed(list(script.walk_revisions())):
                file = places.relative(revision.path)
                is_head = revision.revision in heads
                is_new = is_head if asked["new"] is None else file in asked["new"]
                if not is_new and not is_head:
                    found["older"] += 1
                    continue
                found["unread"] = _print(revision, output)
                for said in output.printed:
                    found["statements"].append({**said, "file": file, "is_new": is_new})
                if found["unread"] is not None:
                    found["unread"] = f"{file}: {found['unread']}"
                    break
    return found


def _script(settings: str, *, root: str) -> tuple[Any, Any]:
    """Return Alembic's configuration and its folder of revisions."""
    config_class: Any = importlib.import_module("alembic.config").Config
    script_class: Any = importlib.import_module("alembic.script").ScriptDirectory
    if os.path.isdir(settings):  # noqa: PTH112 - no pathlib in the probe
        config = config_class()
        config.set_main_option("script_location", settings.replace("%", "%%"))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", settings.replace("%", "%%"))
    else:
        os.chdir(os.path.dirname(settings))  # noqa: PTH120 - as above
        config = config_class(settings)
        folder = config.get_main_option("script_location") or ""
        if ":" not in folder and not os.path.exists(folder):  # noqa: PTH110 - as above
            os.chdir(root)  # it is run as `alembic -c`
    return config, script_class.from_config(config)


def _lead(context: Any, output: _Output) -> None:
    """Let what asks for a connection print as well, and note which types a column changes."""
    context.impl.connection = _connection(context.dialect, output)
    alter = context.impl.alter_column

    def alter_column(*names: Any, **options: Any) -> Any:
        types = [options.get("existing_type"), options.get("type_")]
        if None not in types:
            before, after = (_type(kind, context.dialect) for kind in types)
            output.change = (before, after)
        try:
            return alter(*names, **options)
        finally:
            output.change = None

    context.impl.alter_column = alter_column


def _connection(dialect: Any, output: _Output) -> Any:
    """Return what `op.get_bind()` gives: it prints what it is asked, and finds no rows.

    Nothing with a SQLAlchemy that knows none; who inspects tables by it fails.
    """
    make: Any = getattr(importlib.import_module("sqlalchemy"), "create_mock_engine", None)

    def execute(said: Any, *_: object, **__: object) -> _NoRows:
        text = said if isinstance(said, str) else said.compile(dialect=dialect)
        output.write(str(text).strip().rstrip(";") + ";")
        return _NoRows()

    def execute_scalar(*said: Any, **options: Any) -> None:
        execute(*said, **options).scalar()

    connection = None if make is None else make("postgresql://", execute)
    if connection is not None:
        connection.exec_driver_sql = connection.scalars = execute
        connection.scalar = execute_scalar
    return connection


def _type(kind: Any, dialect: Any) -> str:
    sqltypes: Any = importlib.import_module("sqlalchemy.types")
    return str(sqltypes.to_instance(kind).compile(dialect=dialect))


def _print(revision: Any, output: _Output) -> str | None:
    """Print what a revision says; return why it could not say all."""
    output.path = os.path.realpath(revision.path)
    output.printed = []
    try:
        revision.module.upgrade()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the project's code does
        said = " ".join(str(error).split())[:_MESSAGE_CHARACTERS]
        return f"{type(error).__name__}: {said}"
    return None
