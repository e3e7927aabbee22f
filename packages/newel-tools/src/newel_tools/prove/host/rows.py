"""The application's own tables, seen past the application: what is in them after a request."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import gc
import importlib
import json
import sys
import uuid
from typing import Any

from .record import Places

__all__ = ["Rows"]

_ROWS = 200


class Rows:
    """Reads and changes rows through SQLAlchemy's tables and the engine of the application."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._tables: dict[str, Any] = {}

    def look(self, places: Places) -> None:
        """Find the engines and tables that exist by now; the application made them somewhere."""
        if "sqlalchemy" not in sys.modules:
            return
        engine_type: Any = importlib.import_module("sqlalchemy.engine").Engine
        metadata_type: Any = importlib.import_module("sqlalchemy").MetaData
        own = list(_of_modules(places))
        for metadata in _of_type(metadata_type, own) or _of_type(metadata_type, gc.get_objects()):
            self._tables.update(metadata.tables)
        engines = _of_type(engine_type, own) or _of_type(engine_type, gc.get_objects())
        # An engine in memory is rarely the application's; a derived one shares the pool anyway.
        # One that commits by itself is often for reading, and may refuse to write.
        engines.sort(
            key=lambda engine: (
                engine.url.database in (None, "", ":memory:"),
                getattr(engine.dialect, "_on_connect_isolation_level", None) == "AUTOCOMMIT",
            )
        )
        self._engine = engines[0] if engines else None

    async def create_missing(self) -> list[str]:
        """Create the tables that migrations and start-up have not made; return their names."""
        if self._engine is None:
            return await _create_tortoise()
        sqlalchemy: Any = importlib.import_module("sqlalchemy")

        def create(connection: Any) -> list[str]:
            made: list[str] = []
            for metadata in {id(t.metadata): t.metadata for t in self._tables.values()}.values():
                there = {*sqlalchemy.inspect(connection).get_table_names()}
                missing = [table for table in metadata.sorted_tables if table.name not in there]
                if missing:
                    metadata.create_all(connection, tables=missing)
                    made += [table.name for table in missing]
            return made

        return await self._run(create)

    def describe(self) -> dict[str, Any]:
        """Return every table with its columns."""
        return {
            "dialect": None if self._engine is None else self._engine.dialect.name,
            "tables": [_table(name, table) for name, table in sorted(self._tables.items())],
        }

    async def select(self, table: str, where: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rows whose columns have the given values, as JSON has them."""
        chosen = self._tables[table]
        query = chosen.select().where(*_conditions(chosen, where)).limit(_ROWS)

        def read(connection: Any) -> list[dict[str, Any]]:
            return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's public name

        return json.loads(json.dumps(await self._run(read), default=_plain))

    async def update(self, table: str, where: dict[str, Any], values: dict[str, Any]) -> int:
        """Change rows, and return how many."""
        chosen = self._tables[table]
        typed = {name: _typed(chosen.c[name], value) for name, value in values.items()}
        query = chosen.update().where(*_conditions(chosen, where)).values(typed)

        def change(connection: Any) -> int:
            return connection.execute(query).rowcount

        return await self._run(change)

    async def _run(self, work: Any) -> Any:
        def transaction() -> Any:
            with self._engine.begin() as connection:
                return work(connection)

        if self._engine.dialect.is_async:
            spawn: Any = importlib.import_module("sqlalchemy.util").greenlet_spawn
            return await spawn(transaction)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, transaction)


def _of_modules(places: Places) -> Any:
    """Yield what the project's modules hold, and the tables' and engines' owners among it."""
    for module in list(sys.modules.values()):
        if places.relative(getattr(module, "__file__", None) or "<>") is None:
            continue
        for value in list(vars(module).values()):
            yield value
            if isinstance(value, type):
                yield getattr(value, "metadata", None)
            elif type(value).__name__ == "AsyncEngine":
                yield value.sync_engine


def _of_type(kind: Any, objects: Any) -> list[Any]:
    found = {id(item): item for item in objects if issubclass(type(item), kind)}
    return list(found.values())


async def _create_tortoise() -> list[str]:
    tortoise = sys.modules.get("tortoise")
    if tortoise is None or not getattr(tortoise.Tortoise, "apps", None):
        return []
    await tortoise.Tortoise.generate_schemas(safe=True)
    return ["Tortoise's models"]


def _table(name: str, table: Any) -> dict[str, Any]:
    return {
        "name": name,
        "unique": [
            [column.name for column in constraint.columns]
            for constraint in table.constraints
            if type(constraint).__name__ == "UniqueConstraint"
        ]
        + [[column.name for column in index.columns] for index in table.indexes if index.unique]
        + [[column.name] for column in table.columns if column.unique],
        "columns": [_column(column) for column in table.columns],
    }


def _column(column: Any) -> dict[str, Any]:
    try:
        kind = column.type.python_type.__name__
    except (NotImplementedError, AttributeError):
        kind = type(column.type).__name__
    return {
        "name": column.name,
        "type": kind,
        "length": getattr(column.type, "length", None),
        "values": [str(value) for value in getattr(column.type, "enums", None) or ()],
        "nullable": bool(column.nullable),
        "primary_key": bool(column.primary_key),
        "has_default": column.default is not None or column.server_default is not None,
        "references": [key.target_fullname for key in column.foreign_keys],
    }


def _conditions(table: Any, where: dict[str, Any]) -> list[Any]:
    return [table.c[name] == _typed(table.c[name], value) for name, value in where.items()]


def _typed(column: Any, value: Any) -> Any:
    """Return a JSON value as the column's Python type has it."""
    try:
        kind = column.type.python_type
    except (NotImplementedError, AttributeError):
        return value
    if not isinstance(value, str) or kind is str:
        return value
    if issubclass(kind, enum.Enum):
        return next((item for item in kind if value in (item.name, item.value)), value)
    if kind in (int, float, uuid.UUID, decimal.Decimal):
        return kind(value)
    return kind.fromisoformat(value) if kind in (dt.datetime, dt.date) else value


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    return str(value)[:2_000]
