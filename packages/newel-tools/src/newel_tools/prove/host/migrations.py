"""How the schema that the migrations made differs from the models, as Alembic itself compares."""

from __future__ import annotations

import importlib
from typing import Any

from .boot import BootError
from .record import Places

__all__ = ["differences"]

_SETTINGS = "alembic.ini"


def differences(places: Places) -> list[dict[str, str]]:
    """Return what differs, by the options of the project's own `env.py`; raises ``BootError``.

    The database has to be at the newest revision.
    """
    try:
        return _compared()
    except (Exception, SystemExit) as error:
        raise BootError("alembic check", error, places) from error


def _compared() -> list[dict[str, str]]:
    environment: Any = importlib.import_module("alembic.runtime.environment")
    compare: Any = importlib.import_module("alembic.autogenerate").compare_metadata
    config: Any = importlib.import_module("alembic.config").Config(_SETTINGS)
    script: Any = importlib.import_module("alembic.script").ScriptDirectory.from_config(config)
    newest = set(script.get_heads())
    if not newest:
        raise LookupError("there is no revision")
    found: list[dict[str, str]] = []

    def look(revision: Any, context: Any) -> list[Any]:
        if set(revision) != newest:
            raise LookupError("the migrations have left the database that env.py opens as it was")
        for change in compare(context, context.opts["target_metadata"]):
            # What Alembic would alter of one column is a list of its own.
            for one in [change] if isinstance(change[0], str) else change:
                found.extend(_told(one, context.connection))
        return []

    with environment.EnvironmentContext(config, script, fn=look):
        script.run_env()
    return found


def _told(change: Any, connection: Any) -> list[dict[str, str]]:
    """Return a change as the difference it is; nothing for what loses or misses nothing."""
    kind, *parts = change
    if kind == "add_table":
        table = parts[0]
        # A view of this name is what the model is of: Alembic lists tables alone.
        if connection.dialect.has_table(connection, table.name, schema=table.schema):
            return []
        return [_difference(kind, table.fullname, "", "in the models, not in the migrated schema")]
    if kind in ("add_column", "remove_column"):
        schema, table, column = parts
        said = "in the models, not in the migrated schema"
        if kind == "remove_column":
            said = "in the migrated schema, not in the models"
        return [_difference(kind, _full(schema, table), column.name, said)]
    if kind == "modify_nullable":
        schema, table, column, _, _, may_be = parts
        said = f"may be null {'in the models' if may_be else 'in the migrated schema'} only"
        return [_difference(kind, _full(schema, table), column, said)]
    # SQLite keeps a type's affinity, and takes whatever it is given.
    if kind == "modify_type" and connection.dialect.name != "sqlite":
        schema, table, column, _, there, wanted = parts
        said = f"{there!r} in the migrated schema, {wanted!r} in the models"
        return [_difference(kind, _full(schema, table), column, said)]
    return []


def _full(schema: str | None, table: str) -> str:
    return f"{schema}.{table}" if schema else table


def _difference(kind: str, table: str, column: str, said: str) -> dict[str, str]:
    name = f"column {table}.{column}" if column else f"table {table}"
    return {"kind": kind, "table": table, "said": f"{name}: {said}"}
