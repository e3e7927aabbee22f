"""The floor's SQL, on asyncpg and on sqlite3: two statements a request, one for the caller."""

from __future__ import annotations

import importlib
import sqlite3
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic_core import from_json, to_json

asyncpg: Any = importlib.import_module("asyncpg")  # it has no types

Row = dict[str, Any]

NAMES = (
    "id, created_at, updated_at, version, owner_id, name, description, model_name, system_prompt, "
    "config, is_active"
)
LIVE = """
    SELECT u.id FROM users u JOIN auth_sessions s ON s.user_id = u.id
    WHERE s.id = $1 AND u.id = $2 AND u.is_active AND s.revoked_at IS NULL
      AND s.epoch = u.epoch AND s.expires_at > $3
"""
GET = f"SELECT {NAMES} FROM agents WHERE id = $1 AND owner_id = $2 AND deleted_at IS NULL"
PAGE = f"""
    SELECT {NAMES}, (
        SELECT count(*) FROM agents WHERE owner_id = $1 AND deleted_at IS NULL
    ) AS total
    FROM agents WHERE owner_id = $1 AND deleted_at IS NULL
    ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3
"""
COUNT = "SELECT count(*) FROM agents WHERE owner_id = $1 AND deleted_at IS NULL"
INSERT = f"""
    INSERT INTO agents ({NAMES}) VALUES ($1, $2, $2, 1, $3, $4, $5, $6, $7, $8, $9)
    RETURNING {NAMES}
"""
UPDATABLE = ("name", "description", "model_name", "system_prompt", "config", "is_active")
DELETE = """
    UPDATE agents SET deleted_at = $3, updated_at = $3, version = version + 1
    WHERE id = $1 AND owner_id = $2 AND deleted_at IS NULL RETURNING id
"""


def _update(changed: list[str]) -> str:
    sets = "".join(f", {name} = ${number}" for number, name in enumerate(changed, start=4))
    return f"""
        UPDATE agents SET updated_at = $3, version = version + 1{sets}
        WHERE id = $1 AND owner_id = $2 AND deleted_at IS NULL RETURNING {NAMES}
    """


def _now() -> datetime:
    return datetime.now(UTC)


class PostgresStore:
    """The statements on asyncpg's pool."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._options: dict[str, Any] = {
            "user": parts.username,
            "database": parts.path.lstrip("/"),
            "host": parse_qs(parts.query)["host"][0],
        }

    async def open(self) -> None:
        """Connect."""
        self._pool: Any = await asyncpg.create_pool(
            **self._options, min_size=1, max_size=20, init=_set_codecs, reset=_keep
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def is_live(self, user_id: uuid.UUID, session_id: uuid.UUID) -> bool:
        """Tell whether the user may act in the session now."""
        return await self._pool.fetchval(LIVE, session_id, user_id, _now()) is not None

    async def get(self, user_id: uuid.UUID, agent_id: uuid.UUID) -> Row | None:
        """Return one agent."""
        return _row(await self._pool.fetchrow(GET, agent_id, user_id))

    async def page(self, user_id: uuid.UUID, size: int, offset: int) -> tuple[list[Row], int]:
        """Return a page of agents, newest first, and how many there are in all."""
        rows = [dict(row) for row in await self._pool.fetch(PAGE, user_id, size, offset)]
        if not rows:
            return [], await self._pool.fetchval(COUNT, user_id)
        totals = [row.pop("total") for row in rows]
        return rows, totals[0]

    async def insert(self, user_id: uuid.UUID, data: Row) -> Row | None:
        """Add an agent."""
        values = (data[name] for name in UPDATABLE)
        return _row(await self._pool.fetchrow(INSERT, uuid.uuid4(), _now(), user_id, *values))

    async def update(self, user_id: uuid.UUID, agent_id: uuid.UUID, data: Row) -> Row | None:
        """Change an agent."""
        statement = _update(list(data))
        changed = await self._pool.fetchrow(statement, agent_id, user_id, _now(), *data.values())
        return _row(changed)

    async def delete(self, user_id: uuid.UUID, agent_id: uuid.UUID) -> Any:
        """Hide an agent."""
        return await self._pool.fetchval(DELETE, agent_id, user_id, _now())


async def _set_codecs(connection: Any) -> None:
    """Read JSON as values, and UUIDs as text, which is what becomes of them in the answer."""
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str)
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=_json_text, decoder=from_json
    )


async def _keep(_connection: Any) -> None:
    """Reset nothing when a connection goes back: no statement here changes its state."""


def _json_text(value: Any) -> str:
    return to_json(value).decode()


def _row(record: Any) -> Row | None:
    return None if record is None else dict(record)


class SQLiteStore:
    """The statements on sqlite3, on the event loop: a query takes less than a thread's switch."""

    def __init__(self, url: str) -> None:
        self._path = url.partition(":///")[2]

    async def open(self) -> None:
        """Connect, with the guarantees that the other variants give."""
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("busy_timeout = 5000", "journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")

    async def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    async def is_live(self, user_id: uuid.UUID, session_id: uuid.UUID) -> bool:
        """Tell whether the user may act in the session now."""
        return self._first(LIVE, session_id.hex, user_id.hex, _stored(_now())) is not None

    async def get(self, user_id: uuid.UUID, agent_id: uuid.UUID) -> Row | None:
        """Return one agent."""
        return _plain(self._first(GET, agent_id.hex, user_id.hex))

    async def page(self, user_id: uuid.UUID, size: int, offset: int) -> tuple[list[Row], int]:
        """Return a page of agents, newest first, and how many there are in all."""
        found = self._connection.execute(_numbered(PAGE), (user_id.hex, size, offset)).fetchall()
        rows = [row for row in map(_plain, found) if row is not None]
        if not rows:
            return [], self._first(COUNT, user_id.hex)[0]
        totals = [row.pop("total") for row in rows]
        return rows, totals[0]

    async def insert(self, user_id: uuid.UUID, data: Row) -> Row | None:
        """Add an agent."""
        values = [_bound(data[name]) for name in UPDATABLE]
        identity = (uuid.uuid4().hex, _stored(_now()), user_id.hex)
        return _plain(self._first(INSERT, *identity, *values))

    async def update(self, user_id: uuid.UUID, agent_id: uuid.UUID, data: Row) -> Row | None:
        """Change an agent."""
        values = [_bound(value) for value in data.values()]
        identity = (agent_id.hex, user_id.hex, _stored(_now()))
        return _plain(self._first(_update(list(data)), *identity, *values))

    async def delete(self, user_id: uuid.UUID, agent_id: uuid.UUID) -> Any:
        """Hide an agent."""
        return self._first(DELETE, agent_id.hex, user_id.hex, _stored(_now()))

    def _first(self, statement: str, *values: Any) -> Any:
        # All rows: a statement that writes ends, and so commits, with its last one.
        rows = self._connection.execute(_numbered(statement), values).fetchall()
        return rows[0] if rows else None


def _numbered(statement: str) -> str:
    """Return SQLite's spelling of a statement: ``?1`` for ``$1``."""
    return statement.replace("$", "?")


def _stored(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.%f")


def _bound(value: Any) -> Any:
    return _json_text(value) if isinstance(value, dict) else value


def _plain(row: Any) -> Row | None:
    """Return a row as it goes over the wire."""
    if row is None:
        return None
    plain = dict(row)
    for name in ("id", "owner_id"):
        plain[name] = uuid.UUID(plain[name])
    for name in ("created_at", "updated_at"):
        plain[name] = plain[name].replace(" ", "T") + "Z"
    plain["config"] = from_json(plain["config"])
    plain["is_active"] = bool(plain["is_active"])
    return plain
