"""The databases: the schema of the newel service with 10 users of 1,000 agents each."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sysconfig
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import NullPool, insert
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from benchmarks.servers import VARIANTS, BenchmarkError, inherited
from benchmarks.variants.environment import Environment
from benchmarks.variants.models import Agent, AuthSession, User
from newel.embedded import embedded_postgres
from newel.ids import uuid7
from newel.tokens import AccessTokens, KeyRing

USERS = 10
AGENTS_OF_A_USER = 1_000
ISSUER = "agent_management"  # the generated service's name
TOKEN_MINUTES = 240  # a run takes less
SECRET = "b7e1c2f0a9d84e6f93a5d1c07b2e4f68a1c3e5d7f9b0a2c4"  # noqa: S105 - opens this data only
BODY = {
    "name": "agent",
    "description": "Answers what customers ask about their orders.",
    "model_name": "large-2026-10",
    "system_prompt": "You are a patient assistant of a shop. Answer in two sentences. " * 3,
    "config": {"temperature": 0.2, "tools": ["search", "orders"], "limits": {"tokens": 2048}},
    "is_active": True,
}

Backend = Literal["postgresql", "sqlite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A database that is filled, and the file that tells the load what is in it."""

    backend: Backend
    url: str
    workload: Path
    log: Path | None

    def environment(self, user: str = "postgres") -> dict[str, str]:
        """Return the variables that every variant gets; newel's settings are among them.

        ``user`` is whom PostgreSQL's log names beside each of its statements.
        """
        key = KeyRing(SECRET).derive("access")
        url = self.url.replace("//postgres@", f"//{user}@")
        shared = Environment(database_url=url, token_key=key, issuer=ISSUER)
        return shared.as_variables() | {
            "SECRET_KEY": SECRET,
            "ENVIRONMENT": "production",
            "LOG_FORMAT": "json",
            "ACCESS_TOKEN_EXPIRE_MINUTES": str(TOKEN_MINUTES),
            "API_LIMIT": "100000000/minute",  # counted for every request, and never reached
        }

    def reset(self) -> None:
        """Put the agents back as they were: every cell of the table starts on the same rows."""
        if self.backend == "postgresql":
            asyncio.run(self._reset_postgresql())
            return
        with sqlite3.connect(self._path, isolation_level=None, timeout=30) as connection:
            for statement in ("BEGIN IMMEDIATE", "DELETE FROM outbox", "DELETE FROM agents"):
                connection.execute(statement)
            connection.execute("INSERT INTO agents SELECT * FROM agents_seed")
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    async def _reset_postgresql(self) -> None:
        async with self.session() as session:
            await session.exec_driver_sql("TRUNCATE agents, outbox")
            await session.exec_driver_sql("INSERT INTO agents SELECT * FROM agents_seed")
            await session.exec_driver_sql("VACUUM ANALYZE agents")

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncConnection]:
        """Open a connection on which each statement is a transaction."""
        engine = create_async_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        async with engine.connect() as connection:
            yield connection

    @property
    def _path(self) -> str:
        return self.url.partition(":///")[2]


@contextmanager
def prepared(backend: Backend, *, service: Path, directory: Path) -> Generator[Prepared]:
    """Fill a database for as long as the block lasts; PostgreSQL comes out of its wheel."""
    workload = directory / f"{backend}.json"
    if backend == "sqlite":
        path = directory / "bench.db"
        url = f"sqlite+aiosqlite:///{path}"
        yield _filled(Prepared(backend=backend, url=url, workload=workload, log=None), service)
        return
    with embedded_postgres() as server:
        log = server.directory.parent / "log"
        url = server.url()
        yield _filled(Prepared(backend=backend, url=url, workload=workload, log=log), service)


def _filled(database: Prepared, service: Path) -> Prepared:
    newel = Path(sysconfig.get_path("scripts"), "newel")
    done = subprocess.run(
        [newel, "migrate", "up"],
        cwd=service,
        env={**inherited(), **database.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(
            f"The schema could not be made: {done.stderr.strip()}",
            f"run `newel migrate up` in {service}",
        )
    workload = asyncio.run(_fill(database.url))
    database.workload.write_text(json.dumps(workload))
    return database


async def _fill(url: str) -> dict[str, Any]:
    engine = create_async_engine(url)
    now = datetime.now(UTC)
    users, agents = _users(now), list[dict[str, Any]]()
    for user in users:
        agents += _agents(user["id"], now)
    # In random order, as after some time of use: neighbours of a page lie in different blocks.
    random.Random("rows").shuffle(agents)  # noqa: S311 - to repeat, not to hide
    sessions = [_session(user["id"], now) for user in users]
    ended = {**_session(users[0]["id"], now), "revoked_at": now}
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            for variant in VARIANTS:
                await connection.exec_driver_sql(f'CREATE ROLE "{variant.name}" SUPERUSER LOGIN')
        for entity, rows in ((User, users), (AuthSession, [*sessions, ended]), (Agent, agents)):
            await connection.execute(insert(entity), rows)
        await connection.exec_driver_sql("CREATE TABLE agents_seed AS SELECT * FROM agents")
        await connection.exec_driver_sql("ANALYZE")
    await engine.dispose()
    return _workload(sessions, ended, agents)


def _stamps(now: datetime) -> dict[str, Any]:
    return {"id": uuid7(), "created_at": now, "updated_at": now, "version": 1}


def _users(now: datetime) -> list[dict[str, Any]]:
    return [
        _stamps(now)
        | {
            "email": f"user{number}@example.com",
            "full_name": f"User {number}",
            "password_hash": "none: nobody logs in here",
            "roles": ["user"],
            "is_active": True,
            "epoch": 0,
        }
        for number in range(USERS)
    ]


def _session(user_id: UUID, now: datetime) -> dict[str, Any]:
    return _stamps(now) | {
        "user_id": user_id,
        "epoch": 0,
        "ip": "127.0.0.1",
        "user_agent": "benchmark",
        "last_used_at": now,
        "rotated_at": now,
        "expires_at": now + timedelta(days=30),
        "refresh_counter": 0,
        "revoked_at": None,
    }


def _agents(owner_id: UUID, now: datetime) -> list[dict[str, Any]]:
    return [
        _stamps(now - timedelta(minutes=number))
        | BODY
        | {"name": f"agent {number:04d}", "owner_id": owner_id, "deleted_at": None}
        for number in range(AGENTS_OF_A_USER)
    ]


def _workload(
    sessions: list[dict[str, Any]], ended: Mapping[str, Any], agents: list[dict[str, Any]]
) -> dict[str, Any]:
    tokens = AccessTokens(
        KeyRing(SECRET),
        issuer=ISSUER,
        audience=ISSUER,
        lifetime=timedelta(minutes=TOKEN_MINUTES),
    )
    ids: dict[UUID, list[str]] = {session["user_id"]: [] for session in sessions}
    for agent in agents:
        ids[agent["owner_id"]].append(str(agent["id"]))
    return {
        "body": BODY,
        "ended_token": tokens.issue(ended["user_id"], sid=ended["id"], epoch=0),
        "users": [
            {
                "id": str(session["user_id"]),
                "token": tokens.issue(session["user_id"], sid=session["id"], epoch=0),
                "agents": ids[session["user_id"]],
            }
            for session in sessions
        ],
    }
