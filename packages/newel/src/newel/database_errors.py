"""What drivers raise, as the errors of ``errors``: the field that is taken, the database away.

Registered on the engine, so that services, jobs and the commit itself raise ``Duplicate`` or
``Unavailable`` and never a driver's exception whose text would show a statement.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.elements import conv

from newel.entity import Entity
from newel.errors import AppError, Conflict, Duplicate, InsufficientStorage, Invalid, Unavailable

__all__ = ["ConnectionLost", "as_app_error", "translate", "translate_connect_error"]

_AWAY = "The database does not answer."
_SQLITE_UNIQUE = re.compile(r"UNIQUE constraint failed: (?:index '(?P<index>\w+)'|(?P<columns>.+))")
_BUSY = re.compile(r"database (table )?is locked|database is busy")
_STALE = re.compile(r"cached (statement )?plan")
_FULL = re.compile(r"database or disk is full")

# SQLSTATE classes, https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY_STATES = ("08", "57P", "53", "58")
_FULL_STATE = "53100"
_NOT_SUPPORTED = "0A000"
_REFERENCE_STATES = ("23001", "23503")  # ON DELETE RESTRICT has its own since PostgreSQL 18
_RETRY_STATES = ("40001", "40P01", "55P03")


class ConnectionLost(Unavailable):
    """The connection is dead, or knows the tables as they were: a read may be sent again."""


def translate(context: ExceptionContext) -> None:
    """Replace a driver's error (SQLAlchemy's ``handle_error`` event)."""
    error = context.sqlalchemy_exception
    if isinstance(error, DBAPIError) and not context.is_pre_ping:  # that one the pool mends itself
        known = as_app_error(error, lost=context.is_disconnect, dialect=context.dialect)
        cause: Any = getattr(error.orig, "__cause__", None)
        if getattr(cause, "detail", None):  # "Failing row contains (...)": in every trace of it
            cause.detail = None
        if known is not None:
            raise known from error


def translate_connect_error(
    dialect: Dialect, _entry: ConnectionPoolEntry, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> DBAPIConnection:
    """Connect; a refused or timed-out connection raises ``Unavailable`` (``do_connect`` event)."""
    try:
        return dialect.connect(*args, **kwargs)
    except OSError as error:  # not a driver error, so SQLAlchemy would let it through
        raise Unavailable(_AWAY) from error


def as_app_error(
    error: DBAPIError, *, lost: bool = False, dialect: Dialect | None = None
) -> AppError | None:
    """Return what ``error`` means to a caller, or ``None`` when it is a fault of ours.

    ``lost`` says that the connection is gone; ``dialect`` knows how the database shortens names.
    """
    state = str(getattr(error.orig, "sqlstate", "") or "")
    # Where there is a state the text is not asked: it may quote what a client has sent.
    message = str(error.orig) if state in {"", _NOT_SUPPORTED} else ""
    if state == _FULL_STATE or _FULL.search(message):
        return InsufficientStorage()
    if lost or _STALE.search(message):  # what is stale is prepared anew from now on
        return ConnectionLost(_AWAY if lost else "The tables have just been changed.")
    is_away = state.startswith(_AWAY_STATES)
    if is_away or state in _RETRY_STATES or _BUSY.search(message):
        busy = "Too many changes at the same time."
        return Unavailable(_AWAY) if is_away else Unavailable(busy, retry_after_seconds=1)
    if isinstance(error, IntegrityError):
        return _integrity_error(error, state, message, dialect)
    if isinstance(error, DataError) or state.startswith("22"):
        return Invalid("A value does not fit the column it is stored in.")
    return None


def _integrity_error(
    error: IntegrityError, state: str, message: str, dialect: Dialect | None
) -> AppError | None:
    if state == "23505" or "UNIQUE constraint failed" in message:
        found = _sqlite_unique(message) or _postgresql_unique(error, dialect)
        return Duplicate(*found) if found else Conflict("Another row has the same value already.")
    if state in _REFERENCE_STATES or "FOREIGN KEY constraint failed" in message:
        return Conflict("It refers to something that does not exist, or is still referred to.")
    return None  # NOT NULL and CHECK: the schema should have refused it, so it is a 500 to mend


def _sqlite_unique(message: str) -> tuple[str, str] | None:
    match = _SQLITE_UNIQUE.search(message)
    if match is None:
        return None
    if match["index"]:
        return _by_constraint(match["index"])
    table, _, column = match["columns"].split(", ")[-1].partition(".")
    return _resource(table), column


def _postgresql_unique(error: IntegrityError, dialect: Dialect | None) -> tuple[str, str] | None:
    cause = getattr(error.orig, "__cause__", None)
    diagnostics = getattr(error.orig, "diag", cause)
    return _by_constraint(str(getattr(diagnostics, "constraint_name", "")), dialect)


def _by_constraint(name: str, dialect: Dialect | None = None) -> tuple[str, str] | None:
    for table in Entity.metadata.tables.values():
        constraints = [found for found in table.constraints if isinstance(found, UniqueConstraint)]
        indexes = [index for index in table.indexes if index.unique]
        for found in (*constraints, *indexes):
            if name in {found.name, _stored_name(found, dialect)}:
                return _resource(table.name), [column.name for column in found.columns][-1]
    return None


def _stored_name(found: UniqueConstraint | Index, dialect: Dialect | None) -> str | None:
    """Return what the database calls it: PostgreSQL's names end after 63 bytes."""
    if dialect is None or not isinstance(found.name, conv):
        return None
    shown = dialect.identifier_preparer.format_constraint(found)
    return None if shown is None else shown.strip('"')


def _resource(table: str) -> str:
    for mapper in Entity.registry.mappers:
        if mapper.local_table is Entity.metadata.tables.get(table):
            return mapper.class_.resource_name()
    return table
