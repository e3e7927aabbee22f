"""Which revision the code wants and which one a database is at.

A service asks this at every start, so it must not need Alembic, whose import takes 0.4 s. It reads
``revision`` and ``down_revision`` out of the files in ``migrations/`` without executing them.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, MetaData, String, Table, inspect, select
from sqlalchemy.schema import Column

from newel.db import Database
from newel.errors import ConfigurationError

__all__ = [
    "Revision",
    "current_revision",
    "ensure_current",
    "heads",
    "read_revisions",
    "revision_at",
    "wanted",
]

# Alembic's table, read here and written by Alembic alone.
_VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One migration file: its ``id``, the ids it follows (none for the first), where it lies."""

    id: str
    follows: tuple[str, ...]
    path: Path


def read_revisions(directory: Path) -> Sequence[Revision]:
    """Return the revisions of a migrations folder, by file name.

    Raises ``ConfigurationError`` when there is no such folder, or two files have one id.
    """
    if not directory.is_dir():
        raise ConfigurationError(
            f"There is no migrations folder at {directory}",
            fix="run the command in the service's folder, or set MIGRATIONS to the folder's path",
        )
    found: dict[str, Revision] = {}
    for path in sorted(directory.glob("*.py")):
        revision = _read(path)
        if revision is None:
            continue
        other = found.setdefault(revision.id, revision)
        if other is not revision:
            raise ConfigurationError(
                f"{other.path.name} and {path.name} both are revision {revision.id}",
                fix=f"give {path.name} the next number, in its name, `revision`, `down_revision`",
            )
    return list(found.values())


def _read(path: Path) -> Revision | None:
    constants = _constants(path)
    identity, below = constants.get("revision"), constants.get("down_revision")
    if not isinstance(identity, str):
        return None
    names = cast("tuple[object, ...]", below) if isinstance(below, tuple) else (below,)
    follows = tuple(name for name in names if isinstance(name, str))
    return Revision(id=identity, follows=follows, path=path)


def _constants(path: Path) -> dict[str, object]:
    """Return the literal values that a file assigns at its top level."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise ConfigurationError(
            f"{path.name} is not valid Python: {error.msg} in line {error.lineno}",
            fix=f"correct {path}",
        ) from None
    values: dict[str, object] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        if isinstance(value, ast.Constant | ast.Tuple):
            values[name] = ast.literal_eval(value)
    return values


def heads(directory: Path) -> tuple[str, ...]:
    """Return the revisions that no other one follows: one, or none in an empty folder.

    More than one means that two branches of work each added a migration.
    """
    revisions = read_revisions(directory)
    followed = {name for revision in revisions for name in revision.follows}
    return tuple(revision.id for revision in revisions if revision.id not in followed)


def wanted(directory: Path) -> str | None:
    """Return the one head, ``None`` for an empty folder; several raise ``ConfigurationError``."""
    found = heads(directory)
    if len(found) > 1:
        raise ConfigurationError(
            f"The migrations have several ends: {', '.join(found)}",
            fix=f"set down_revision of the one that came last to {found[0]!r} and renumber it",
        )
    return found[0] if found else None


async def current_revision(database: Database) -> str | None:
    """Return the revision ``database`` is at, ``None`` for one that was never migrated."""
    async with database.read(None) as work:
        connection = await work.session.connection()
        return await connection.run_sync(revision_at)


def revision_at(connection: Connection) -> str | None:
    """Return the revision at the other end of ``connection``, or several of one that branched."""
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    found = connection.scalars(select(_VERSIONS.c.version_num)).all()
    return ", ".join(sorted(found)) or None


async def ensure_current(database: Database, directory: Path) -> None:
    """Raise ``ConfigurationError`` unless ``database`` is at the revision the code wants."""
    want, at = wanted(directory), await current_revision(database)
    if want == at:
        return
    known = {revision.id for revision in read_revisions(directory)}
    if at is not None and at not in known:
        raise ConfigurationError(
            f"The database is at revision {at}, which this code does not know; it wants {want}",
            fix="start the release that brought it, or take it back with that release's "
            f"`newel migrate down {want or 'base'}`",
        )
    where = "has no tables yet" if at is None else f"is at revision {at}"
    raise ConfigurationError(
        f"The database {where}, the code wants {want}", fix="run `newel migrate up`"
    )
