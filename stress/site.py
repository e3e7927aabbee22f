"""The depot as processes of its own, with a proxy before each thing that it depends on."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from newel.embedded import embedded_postgres
from newel.entity import Entity
from newel.job_rows import JOBS
from stress.depot.application import Crate, Trace
from stress.fleet import ROOT, Api, Member, newel_command
from stress.machine import Clock, Disk, told
from stress.proxy import Mode, Proxy
from stress.servers import S3_KEY, S3_SECRET, MailSink, buckets, free_ports, nats, upstream, valkey

__all__ = ["LEASE_SECONDS", "Part", "Site", "opened_site", "opened_small_site"]

DEPOT: Final = ROOT / "stress/depot"
LEASE_SECONDS: Final = 2.0
POOL: Final = 5
_SECRET: Final = "kX3vR8qTz1mWb7LpYc5NdJf2HsGe9Ua4"  # noqa: S105 - of a service that lives for minutes


class Part(Protocol):
    """Something that can be made to fail: a ``Proxy``, or a ``Disk``."""

    @property
    def open(self) -> int:
        """How many connections there are to it."""
        ...

    async def switch(self, mode: Mode) -> None:
        """Fail in this way from now on; ``pass``: not any more."""
        ...


@dataclass(slots=True, kw_only=True)
class Site:
    """The processes, what they depend on, and a connection of our own that no proxy is before."""

    api: Api
    worker: Member
    spare: Member
    parts: Mapping[str, Part]
    mails: MailSink
    engine: AsyncEngine

    @property
    def members(self) -> list[Member]:
        """The processes that run now."""
        return [one for one in (self.api, self.worker, self.spare) if one.is_alive]


def depot_environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return the variables that a process of the depot is started with."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        **kept,
        "PYTHONPATH": path,
        "SERVICE_NAME": "depot",
        "SECRET_KEY": _SECRET,
        "MIGRATIONS": str(folder / "migrations"),
        "API_LIMIT": "1000000/minute",
        "ROLE": "web",
        "DATABASE_POOL_SIZE": str(POOL),
        "DATABASE_MAX_OVERFLOW": "0",
        "JOB_CONCURRENCY": "4",
        "JOB_LEASE_SECONDS": str(LEASE_SECONDS),
        **settings,
    }


def members(folder: Path, environment: Mapping[str, str]) -> tuple[Api, Member, Member]:
    """Return the places of a process that serves and of two that work; nobody has them yet."""
    [port] = free_ports(1)
    serve = newel_command("serve", "--port", str(port))
    api = Api("api", serve, environment=environment, log=folder / "api.log", service=DEPOT)
    api.url = f"http://127.0.0.1:{port}"
    one, other = (
        Member(
            name,
            newel_command("worker"),
            environment=environment,
            log=folder / f"{name}.log",
            service=DEPOT,
        )
        for name in ("worker", "spare")
    )
    return api, one, other


async def create_tables(engine: AsyncEngine, folder: Path) -> None:
    """Make the tables of the depot and the kernel, without those that need users."""
    (folder / "migrations").mkdir()  # empty: what a service makes them of
    known = Entity.metadata.tables
    unneeded = {name for name in known if name.partition("_")[0] in {"orders", "purses"}}
    wanted = [
        table
        for name, table in known.items()
        if name not in unneeded
        and all(key.target_fullname.partition(".")[0] in known for key in table.foreign_keys)
    ]
    assert {Crate.__tablename__, Trace.__tablename__, JOBS.name} <= {one.name for one in wanted}
    async with engine.begin() as connection:
        await connection.run_sync(Entity.metadata.create_all, wanted)


@asynccontextmanager
async def opened_site(
    folder: Path,
    *,
    sabotage: str | None = None,
    clock: Clock | None = None,
    database_clock: Clock | None = None,
) -> AsyncGenerator[Site]:
    """Have the depot on PostgreSQL, Valkey, NATS, S3, SMTP and an upstream, behind proxies.

    ``clock`` is that of the depot's processes, ``database_clock`` PostgreSQL's.
    """
    async with AsyncExitStack() as stack:
        with told(database_clock):
            database = stack.enter_context(embedded_postgres())
        mails = MailSink()
        targets = {
            "database": database.directory / ".s.PGSQL.5432",
            "redis": stack.enter_context(valkey(folder / "valkey")),
            "broker": stack.enter_context(nats(folder / "nats")),
            "storage": stack.enter_context(buckets(folder / "buckets")),
            "mail": await stack.enter_async_context(mails.serving()),
            "upstream": await stack.enter_async_context(upstream()),
        }
        proxies = {
            name: await stack.enter_async_context(Proxy(target)) for name, target in targets.items()
        }
        ports = {name: proxy.port for name, proxy in proxies.items()}
        endpoint = quote(f"http://127.0.0.1:{ports['storage']}", safe="")
        bucket = f"s3://papers/depot?endpoint={endpoint}&region=us-east-1"
        environment = depot_environment(
            folder,
            DATABASE_URL=f"postgresql+asyncpg://postgres@127.0.0.1:{ports['database']}/postgres",
            REDIS_URL=f"redis://127.0.0.1:{ports['redis']}/0",
            BROKER_URL=f"nats://127.0.0.1:{ports['broker']}",
            # S3 refuses whoever's clock is a quarter of an hour off, and is right.
            STORAGE_URL=bucket if clock is None else f"file:{folder}/files",
            AWS_ACCESS_KEY_ID=S3_KEY,
            AWS_SECRET_ACCESS_KEY=S3_SECRET,
            MAIL_URL=f"smtp://127.0.0.1:{ports['mail']}?tls=none",
            UPSTREAM_URL=f"http://127.0.0.1:{ports['upstream']}/",
            SABOTAGE=sabotage or "",
            **({} if clock is None else clock.environment),
        )
        engine = create_async_engine(database.url(), poolclass=NullPool)
        async with _manned(folder, environment, engine) as (api, worker, spare):
            yield Site(
                api=api,
                worker=worker,
                spare=spare,
                parts=proxies,
                mails=mails,
                engine=engine,
            )


@asynccontextmanager
async def opened_small_site(
    folder: Path, disk: Disk, *, sabotage: str | None = None
) -> AsyncGenerator[Site]:
    """Have the depot on SQLite and a folder of files, both on ``disk``."""
    async with AsyncExitStack() as stack:
        mails = MailSink()
        host, port = await stack.enter_async_context(mails.serving())
        other, its = await stack.enter_async_context(upstream())
        url = f"sqlite+aiosqlite:///{disk.folder}/depot.db"
        environment = depot_environment(
            folder,
            DATABASE_URL=url,
            STORAGE_URL=f"file:{disk.folder}/files",
            BROKER_URL="memory:",
            MAIL_URL=f"smtp://{host}:{port}?tls=none",
            UPSTREAM_URL=f"http://{other}:{its}/",
            SABOTAGE=sabotage or "",
        )
        engine = create_async_engine(url, poolclass=NullPool)
        async with _manned(folder, environment, engine) as (api, worker, spare):
            yield Site(
                api=api,
                worker=worker,
                spare=spare,
                parts={"disk": disk},
                mails=mails,
                engine=engine,
            )


@asynccontextmanager
async def _manned(
    folder: Path, environment: Mapping[str, str], engine: AsyncEngine
) -> AsyncGenerator[tuple[Api, Member, Member]]:
    """Make the tables, yield the places, and leave no process behind."""
    await create_tables(engine, folder)
    found = members(folder, environment)
    try:
        yield found
    finally:
        for one in found:
            if one.is_alive:
                await one.kill()
        await engine.dispose()
