"""POOL001: connections that died are handed out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

_SERVERS: Final = frozenset({"postgresql", "mysql", "mariadb", "mssql", "oracle"})
_POOLS: Final = frozenset({"QueuePool", "AsyncAdaptedQueuePool"})
_MAKERS: Final = ("create_engine", "create_async_engine")


def find(review: Review) -> Iterator[Finding]:
    """Find pools of database servers that neither test nor renew their connections."""
    for engine in review.facts.engines:
        renews = engine.pre_ping or (engine.recycle_seconds or -1) > 0
        if engine.dialect in _SERVERS and engine.pool in _POOLS and not renews:
            file, line = _place(review)
            yield RULE.found(
                f"the pool of {engine.dialect} hands out connections that may be dead",
                file=file,
                line=line,
            )


def _place(review: Review) -> tuple[str | None, int]:
    """Return where an engine is made: the first call."""
    for module in review.source.own_modules():
        for node in module.nodes if "_engine" in module.text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(_MAKERS):
                return module.file, node.lineno
    return None, 0


RULE = Rule(
    id="POOL001",
    title="The pool hands out dead connections",
    severity="note",
    how="import",
    why="After a restart or a fail-over of the database, or behind a firewall that drops idle "
    "connections, the first requests fail with 500.",
    fix="`create_async_engine(url, pool_pre_ping=True, pool_recycle=1800)`",
    seed="connection pooling",
    expected="SQLite, NullPool (an external pooler), engines that are made later than on import.",
    bad="""
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://user@localhost/app")  # finding
app = FastAPI()
""",
    good="""
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

URL = "postgresql+asyncpg://user@localhost/app"
tested = create_async_engine(URL, pool_pre_ping=True)
renewed = create_async_engine(URL, pool_recycle=1800)
external = create_async_engine(URL, poolclass=NullPool)
local = create_engine("sqlite://")
app = FastAPI()
""",
    find=find,
)
