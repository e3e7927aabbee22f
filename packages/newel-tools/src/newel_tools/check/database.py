"""Which calls talk to a database, and which of them change something.

A receiver whose class is written down decides; else its name has to say that it is a session, a
connection or a collection.
"""

from __future__ import annotations

import ast
import re
from typing import Final

from newel_tools.facts.calls import Call

__all__ = ["is_commit", "is_query", "is_session_call", "receiver", "writes_rows"]

_LIBRARIES: Final = (
    "sqlalchemy.",
    "sqlmodel.",
    "tortoise.",
    "databases.",
    "asyncpg.",
    "psycopg.",
    "psycopg2.",
    "sqlite3.",
    "aiosqlite.",
    "motor.",
    "pymongo.",
    "beanie.",
    "peewee.",
    "piccolo.",
    "ormar.",
)
_NAMES: Final = re.compile(
    r"(^|_)(session|sess|db|database|conn|connection|cursor|cur|collection|uow|tx|transaction|work)$",
    re.IGNORECASE,
)
_REPOSITORIES: Final = re.compile(r"(Repository|Repo|Dao|DAO)\.\w+$")
_WRITES: Final = frozenset(
    {
        "add",
        "add_all",
        "bulk_create",
        "bulk_insert_mappings",
        "bulk_save_objects",
        "bulk_update",
        "bulk_update_mappings",
        "commit",
        "delete",
        "delete_many",
        "delete_one",
        "find_one_and_delete",
        "find_one_and_update",
        "insert",
        "insert_many",
        "insert_one",
        "merge",
        "replace_one",
        "save",
        "update_many",
        "update_one",
    }
)
_ORM_WRITES: Final = _WRITES | {"create", "get_or_create", "update_or_create", "update"}
_READS: Final = frozenset(
    {
        "all",
        "exec",
        "execute",
        "fetch",
        "fetch_all",
        "fetch_one",
        "fetchall",
        "fetchone",
        "fetchrow",
        "find",
        "first",
        "get",
        "get_one",
        "query",
        "refresh",
        "scalar",
        "scalar_one",
        "scalars",
        "stream",
        "stream_scalars",
    }
)
_CHANGING: Final = frozenset({"insert", "update", "delete"})
_SQL: Final = re.compile(
    r"^\s*(insert|update|delete|replace|merge|truncate|drop|alter)\b", re.IGNORECASE
)


def receiver(call: Call) -> str:
    """Return the last name of what a method is called on: `db` of `self.db.execute()`."""
    value = call.node.func.value if isinstance(call.node.func, ast.Attribute) else None
    if isinstance(value, ast.Attribute):
        return value.attr
    if isinstance(value, ast.Call):
        inner = value.func
        return inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
    return value.id if isinstance(value, ast.Name) else ""


def is_session_call(call: Call) -> bool:
    """Tell whether a method of a session, connection, cursor or collection is called."""
    if call.function is not None or not isinstance(call.node.func, ast.Attribute):
        return False
    if call.target is not None and call.target.startswith(_LIBRARIES):
        return True
    return _NAMES.search(receiver(call)) is not None


def writes_rows(call: Call) -> bool:
    """Tell whether a call changes what a database holds."""
    method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    if _of_repository(call):
        return method in _ORM_WRITES
    if not is_session_call(call):
        return method in ("bulk_create", "get_or_create", "update_or_create", "insert_one")
    if method in ("execute", "exec", "scalar", "scalars", "fetch_one", "fetchrow"):
        return any(_changes(argument) for argument in call.node.args[:1])
    known = call.target is not None and call.target.startswith(("tortoise.", "beanie.", "ormar."))
    return method in (_ORM_WRITES if known else _WRITES)


def _of_repository(call: Call) -> bool:
    """Tell whether a library's method of a repository is called: what it does is not read."""
    return call.function is None and _REPOSITORIES.search(call.target or "") is not None


def _changes(statement: ast.expr) -> bool:
    for node in ast.walk(statement):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _CHANGING:
                return True
            case ast.Constant(value=str(text)) if _SQL.match(text):
                return True
            case _:
                pass
    return False


def is_query(call: Call) -> bool:
    """Tell whether a call sends a statement to a database."""
    method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    return is_session_call(call) and method in _READS


def is_commit(call: Call) -> bool:
    """Tell whether a call commits."""
    method = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
    return method == "commit" and is_session_call(call)
