"""Clients of servers, led to throw-away ones whatever address the project's settings name."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import socket
from typing import Any

__all__ = ["lead_postgres", "lead_redis", "replace_mysql"]


def lead_redis(path: str) -> None:
    """Let every connection of the `redis` package go to the server on a UNIX socket.

    Databases keep their numbers; user and password are left out, the server knows none.
    """
    if _is_there("redis"):
        _lead_sync(importlib.import_module("redis.connection"), path)
        _lead_async(importlib.import_module("redis.asyncio.connection"), path)


def _lead_sync(module: Any, path: str) -> None:
    def connect(connection: Any) -> Any:
        _forget_user(connection)
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(connection.socket_connect_timeout)
        line.connect(path)
        line.settimeout(connection.socket_timeout)
        return line

    module.Connection._connect = connect  # noqa: SLF001 - the one place where all its clients dial


def _lead_async(module: Any, path: str) -> None:
    async def connect(connection: Any) -> None:
        _forget_user(connection)
        reader, writer = await asyncio.open_unix_connection(path=path)
        connection._reader, connection._writer = reader, writer  # noqa: SLF001 - as its own does

    module.Connection._connect = connect  # noqa: SLF001 - as above


def _forget_user(connection: Any) -> None:
    connection.username = connection.password = connection.credential_provider = None


def lead_postgres(server: dict[str, Any]) -> None:
    """Let the PostgreSQL drivers connect to ``server``, used through SQLAlchemy or alone."""
    if _is_there("asyncpg"):
        _lead_asyncpg(importlib.import_module("asyncpg.connect_utils"), server)
    if _is_there("psycopg2"):
        _lead_psycopg2(importlib.import_module("psycopg2"), server)
    if _is_there("psycopg"):
        _lead_psycopg(importlib.import_module("psycopg"), server)


def _lead_asyncpg(module: Any, server: dict[str, Any]) -> None:
    original = module._parse_connect_dsn_and_args  # noqa: SLF001 - the one place that all its entries share

    def parse(**options: Any) -> Any:
        places = ("host", "port", "user", "password", "database")
        wanted: dict[str, Any] = {key: server[key] for key in places}
        wanted |= dict.fromkeys(("dsn", "passfile", "service", "servicefile", "ssl"))
        return original(**{name: wanted.get(name, value) for name, value in options.items()})

    module._parse_connect_dsn_and_args = parse  # noqa: SLF001 - as above


def _lead_psycopg2(module: Any, server: dict[str, Any]) -> None:
    original = module.connect

    def connect(_dsn: Any = None, *arguments: Any, **options: Any) -> Any:
        return original(None, *arguments, **_of_libpq(options, server))

    module.connect = connect


def _lead_psycopg(module: Any, server: dict[str, Any]) -> None:
    for kind in (module.Connection, module.AsyncConnection):
        original = kind.connect.__func__

        def connect(
            cls: Any, _conninfo: str = "", *, _original: Any = original, **options: Any
        ) -> Any:
            return _original(cls, "", **_of_libpq(options, server))

        kind.connect = classmethod(connect)
    module.connect = module.Connection.connect


def replace_mysql(file: str) -> None:
    """Let SQLAlchemy open an SQLite file where it is asked for MySQL: there is none to throw away.

    Types that only MySQL has become text; options that only its drivers know are left out.
    """
    if not _is_there("sqlalchemy"):
        return
    module: Any = importlib.import_module("sqlalchemy.engine.url")
    original = module.make_url

    def make_url(name: Any) -> Any:
        url = original(name)
        if url.get_backend_name() not in ("mysql", "mariadb"):
            return url
        _write_mysql_types_plainly()
        is_async = url.get_driver_name() in ("aiomysql", "asyncmy")
        return original(f"sqlite{'+aiosqlite' if is_async else ''}:///{file}")

    module.make_url = make_url


def _write_mysql_types_plainly() -> None:
    """Let SQLite understand the types; a big integer as a key counts by itself on MySQL alone."""
    types: Any = importlib.import_module("sqlalchemy.dialects.mysql")
    compiles: Any = importlib.import_module("sqlalchemy.ext.compiler").compiles
    base: Any = importlib.import_module("sqlalchemy.types").TypeEngine
    compiles(importlib.import_module("sqlalchemy.types").BigInteger, "sqlite")(_writer("INTEGER"))
    for name in types.__all__:
        kind = getattr(types, name)
        if isinstance(kind, type) and issubclass(kind, base) and "mysql" in kind.__module__:
            number = "INT" in name or name == "YEAR"
            compiles(kind, "sqlite")(_writer("INTEGER" if number else "TEXT"))


def _writer(text: str) -> Any:
    def write(_kind: Any, _compiler: Any, **_options: Any) -> str:
        return text

    return write


def _of_libpq(options: dict[str, Any], server: dict[str, Any]) -> dict[str, Any]:
    places = ("host", "hostaddr", "port", "user", "password", "dbname", "database", "service")
    kept = {k: v for k, v in options.items() if k not in places and not k.startswith("ssl")}
    wanted = {key: server[key] for key in ("host", "port", "user", "password")}
    return {**kept, **wanted, "dbname": server["database"]}


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
