"""What a service stands on, opened as its settings ask: database, Redis, broker, storage, mail.

Each is on ``app.state`` under its name and can be replaced by an object of your own after
``create_app``; each that a request may wait for has a check in ``app.state.checks``.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from fastapi import FastAPI
from sqlalchemy import make_url
from starlette.datastructures import State

from newel.broker import open_broker
from newel.cache_levels import LevelCache, Store
from newel.clock import Clock
from newel.db import Database
from newel.dispatch import Carrier, open_carrier
from newel.errors import InsufficientStorage, Unavailable
from newel.extras import import_driver
from newel.health import Check, Degraded
from newel.limits import MemoryLimiter, Rate, SharedLimiter, Tally
from newel.mail import open_mailer
from newel.passwords import Passwords
from newel.publisher import check_broker
from newel.revisions import ensure_current
from newel.room_delivery import Rooms
from newel.room_log import Presence, RoomLog
from newel.settings import Settings
from newel.storage import LocalStorage, open_storage
from newel.telemetry import Traces
from newel.tokens import AccessTokens, KeyRing
from newel.worker import WorkerLimits

__all__ = ["check_storage", "close_ports", "open_ports", "secrets_of"]

_ROOM_BYTES: Final = 1_048_576
_STORAGE_SECONDS: Final = 1.5
"""Less than what ``/ready`` waits for a check."""


def open_ports(
    app: FastAPI, settings: Settings, *, clock: Clock, traces: Traces | None = None
) -> None:
    """Put on ``app.state`` what ``settings`` ask for; nothing is connected to yet.

    Statements become spans of ``traces``.
    Raises ``ConfigurationError`` for a driver that is not installed and a URL that names none.
    """
    keys = KeyRing(settings.secret_key, previous=settings.secret_key_previous)
    redis = _open_redis(settings.redis_url, name=settings.service_name)
    database = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_recycle_seconds=settings.database_pool_recycle_seconds,
        pool_wait_seconds=settings.database_pool_wait_seconds,
        cache=LevelCache(redis),
        rooms=_open_rooms(redis, clock=clock),
    )
    state = app.state
    state.settings = settings
    state.traces = traces or Traces()
    state.traces.watch(database.engine.sync_engine, database.reading_engine.sync_engine)
    state.clock = clock
    state.keys = keys
    state.access_tokens = AccessTokens(
        keys,
        algorithm=settings.token_algorithm,
        issuer=settings.service_name,
        audience=settings.service_name,
        lifetime=timedelta(minutes=settings.access_token_expire_minutes),
        clock=clock,
    )
    state.database = database
    state.rooms = database.rooms
    checks: dict[str, Check] = {"database": _DatabaseCheck(database, settings.migrations)}
    state.checks = checks
    state.passwords = Passwords()
    state.redis = redis
    state.limiter = MemoryLimiter() if redis is None else SharedLimiter(redis)
    if redis is not None:
        state.checks["redis"] = partial(_check_redis, redis)
    state.api_rate = Rate.parse(settings.api_limit)
    state.metrics_token = settings.metrics_token
    state.login_rate = Rate.parse(settings.login_limit)
    state.trusted_proxies = settings.trusted_proxies
    state.cors_origins = settings.cors_origins
    state.auth_cookies = settings.auth_cookies
    _open_links(state, settings)
    state.storage = open_storage(settings.storage_url)
    state.mailer = open_mailer(settings.mail_url, shows_text=settings.environment != "production")
    state.mail_from = settings.mail_from
    state.site_url = settings.site_url
    state.draining = False
    state.runs_jobs = settings.role != "web"
    state.worker_limits = _worker_limits(settings)


def _open_links(state: State, settings: Settings) -> None:
    """Open what carries events and jobs to other processes."""
    state.broker = None if settings.broker_url is None else open_broker(settings.broker_url)
    if state.broker is not None:
        state.checks["broker"] = partial(check_broker, state.broker, state.database)
    state.carrier = open_carrier(
        settings.jobs_url, name=settings.service_name, is_sqlite=state.database.is_sqlite
    )
    if state.carrier is not None:
        state.checks["jobs"] = partial(_check_carrier, state.carrier)


def _worker_limits(settings: Settings) -> WorkerLimits:
    return WorkerLimits(
        concurrency=settings.job_concurrency,
        lease_seconds=settings.job_lease_seconds,
        keep_days=settings.job_keep_days,
        keep_dead_days=settings.job_keep_dead_days,
    )


async def close_ports(app: FastAPI) -> None:
    """Close what `open_ports` opened, the database last."""
    app.state.passwords.close()
    for port in (app.state.broker, app.state.carrier, app.state.redis):
        if port is not None:
            await port.close()
    await app.state.database.close()


def secrets_of(settings: Settings) -> Iterator[str]:
    """Yield what no log line may show, wherever it turns up."""
    for secret in (settings.secret_key, *settings.secret_key_previous):
        yield secret.get_secret_value()
    if settings.metrics_token is not None:
        yield settings.metrics_token.get_secret_value()
    for url in (settings.database_url, settings.redis_url):
        password = None if url is None else make_url(url).password
        if password:
            yield password
    if settings.sentry_dsn is not None:
        yield settings.sentry_dsn.get_secret_value()
    for url in (settings.mail_url, settings.broker_url, settings.jobs_url, settings.traces_url):
        if password := urlsplit(url or "").password:
            yield from {password, unquote(password)}


class _Redis(Store, Tally, Protocol):
    """The one link to Redis: what is cached, forgotten and counted for all processes."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


def _open_redis(url: str | None, *, name: str) -> _Redis | None:
    """Return what ``REDIS_URL`` asks for; connects to nothing yet."""
    if url is None:
        return None
    driver = import_driver("redis", extra="redis", asked="REDIS_URL asks for Redis")
    redis: _Redis = driver.RedisLink(url, name=name)
    return redis


class _RoomLog(RoomLog, Presence, Protocol):
    """What processes share of rooms."""


def _open_rooms(redis: _Redis | None, *, clock: Clock) -> Rooms:
    if redis is None:
        return Rooms(clock=clock)
    driver = import_driver("redis_rooms", extra="redis", asked="REDIS_URL asks for Redis")
    log: _RoomLog = driver.RedisRooms(redis)
    return Rooms(log, log, clock=clock)


async def _check_redis(redis: _Redis) -> None:
    """Without Redis the source is asked each time, and each process counts by itself."""
    try:
        await redis.ping()
    except Unavailable as error:
        raise Degraded(error.detail) from error


async def _check_carrier(carrier: Carrier) -> None:
    try:
        await carrier.ping()
    except Unavailable as error:
        raise Degraded("JetStream does not answer: workers look in the table.") from error


async def check_storage(state: State) -> None:
    """Raise ``Unavailable`` for a folder that cannot be written to, as on a full disk.

    ``Degraded`` for a bucket that does not answer: only routes that want a file do without it.
    """
    try:
        async with asyncio.timeout(_STORAGE_SECONDS):
            await state.storage.ping()
    except (Unavailable, TimeoutError) as error:
        if isinstance(state.storage, LocalStorage):
            raise
        raise Degraded("The storage of files does not answer.") from error


class _DatabaseCheck:
    """Ready when the database answers and, once, has been seen with the schema of this code."""

    def __init__(self, database: Database, migrations: Path) -> None:
        self._database = database
        self._migrations = migrations
        self._is_current = False

    async def __call__(self) -> None:
        if not self._is_current:
            await ensure_current(self._database, self._migrations)
            self._is_current = True
        await self._database.ping()
        if self._database.is_sqlite:
            self._see_room()

    def _see_room(self) -> None:
        """Raise ``InsufficientStorage`` when the next write may be the one that does not fit."""
        path = Path(make_url(self._database.url).database or ".")
        if shutil.disk_usage(path.parent).free < _ROOM_BYTES:
            raise InsufficientStorage
