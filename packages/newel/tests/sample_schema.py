"""What a database's schema is, and a row in each of its tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, Table, inspect
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

SAME = UUID("01900000-0000-7000-8000-000000000001")  # of every row: so each refers to one there is
VALUES: dict[type, Any] = {
    UUID: SAME,
    bool: True,
    int: 1,
    float: 1.0,
    bytes: b"x",
    datetime: datetime(2030, 1, 1, tzinfo=UTC),
    dict: {},
    list: [],
}


async def schema(url: str) -> dict[str, Any]:
    """Return all there is to see of a database's schema, in a comparable form."""

    def read(connection: Connection) -> dict[str, Any]:
        found = inspect(connection)
        return {
            name: {
                "columns": sorted((c["name"], str(c["type"]), c["nullable"], c["default"])
                                  for c in found.get_columns(name)),
                "primary key": found.get_pk_constraint(name),
                "foreign keys": sorted(map(str, found.get_foreign_keys(name))),
                "indexes": sorted(map(_described, found.get_indexes(name))),
                "checks": sorted(map(str, found.get_check_constraints(name))),
            }
            for name in found.get_table_names()
        }  # fmt: skip

    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        found = await connection.run_sync(read)
    await engine.dispose()
    found.pop("alembic_version", None)
    return found


def _described(index: ReflectedIndex) -> str:
    """Return an index as text, with the condition of a partial one."""
    options = {key: str(value) for key, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


async def fill(url: str, tables: list[Table]) -> None:
    """Put a row into each table, every column of it filled."""
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        for table in tables:
            given = [column for column in table.columns if column.identity is None]
            row = {column.name: _value(column) for column in given}
            await connection.execute(table.insert().values(row))
    await engine.dispose()


def _value(column: Column[Any]) -> Any:
    kind = column.type.python_type
    return VALUES.get(kind) if kind in VALUES else "x"
