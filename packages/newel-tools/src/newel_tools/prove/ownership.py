"""Whose a thing is: by its row's foreign keys, or by what the application answers about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from newel_tools.prove.callers import Caller
from newel_tools.prove.documents import object_of
from newel_tools.prove.lab import Lab
from newel_tools.prove.service import Column, Table
from newel_tools.prove.world import Made

__all__ = ["belongs_to", "owner_columns", "row_of", "table_of"]

_OWNERS: Final = re.compile(
    r"^(owner|user|author|creator|created_by|account|customer|member)(_?(id|name))?$", re.IGNORECASE
)
_DEPTH: Final = 3


def table_of(lab: Lab, made: Made) -> Table | None:
    """Return the table that the thing is a row of: the one that has its key."""
    for name in made.tables:
        table = lab.service.tables.get(name)
        if table is not None and table.key is not None and _row(lab, table, made.key) is not None:
            return table
    return None


def row_of(lab: Lab, made: Made) -> Mapping[str, Any] | None:
    """Return the thing's row as it is now; ``None`` if it has none."""
    for name in made.tables:
        table = lab.service.tables.get(name)
        row = _row(lab, table, made.key) if table is not None else None
        if row is not None:
            return row
    return None


def _row(lab: Lab, table: Table, key: Any) -> Mapping[str, Any] | None:
    names = [table.key] if table.key is not None else []
    names += [name for name in ("slug", "uuid", "name", "code") if table.column(name) is not None]
    for name in names:
        found = lab.service.rows(table.name, **{name: key}) if key is not None else []
        if found:
            return found[0]
    return None


def owner_columns(lab: Lab, table: Table) -> tuple[Column, ...]:
    """Return the columns that say which account a row belongs to."""
    users = lab.entrance.users
    if users is None or table.name == users.name:
        return ()
    return tuple(
        column
        for column in table.columns
        if any(reference.rpartition(".")[0] == users.name for reference in column.references)
    )


def belongs_to(lab: Lab, made: Made) -> bool:
    """Tell whether the thing is its maker's: itself, or through what it is a part of."""
    table, row = table_of(lab, made), row_of(lab, made)
    if table is not None and row is not None:
        return _row_belongs(lab, table, row, made.caller, depth=0)
    return any(
        _OWNERS.match(name) and _is_caller(value, made.caller) for name, value in made.json.items()
    )


def _is_caller(value: Any, caller: Caller) -> bool:
    if isinstance(value, dict):
        return any(_is_caller(inner, caller) for inner in object_of(value).values())
    return value is not None and str(value) in (caller.id, caller.username)


def _row_belongs(
    lab: Lab, table: Table, row: Mapping[str, Any], caller: Caller, *, depth: int
) -> bool:
    owners = owner_columns(lab, table)
    if owners:
        return any(str(row.get(column.name)) == caller.id for column in owners)
    if depth == _DEPTH:
        return False
    for column in table.columns:
        for reference in column.references:
            name, _, key = reference.rpartition(".")
            parent = lab.service.tables.get(name)
            if parent is None or parent is table or row.get(column.name) is None:
                continue
            rows = lab.service.rows(name, **{key: row[column.name]})
            if rows and _row_belongs(lab, parent, rows[0], caller, depth=depth + 1):
                return True
    return False
