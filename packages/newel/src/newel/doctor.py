"""``newel doctor``: each thing that must be right for a service to run, and how to mend it.

for finding in await examine(Path.cwd()):
    print(finding.status, finding.name, finding.detail, finding.fix)
"""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer
from fastapi import FastAPI

from newel.errors import AppError, ConfigurationError
from newel.health import Check, Degraded
from newel.ports import close_ports
from newel.project import Project
from newel.revisions import ensure_current, wanted
from newel.settings import Settings, unsafe_settings

__all__ = ["Finding", "doctor", "examine"]

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; ``fix`` is empty when there is nothing to mend."""

    name: str
    status: Status
    detail: str
    fix: str = ""


async def examine(root: Path) -> list[Finding]:
    """Check the service in ``root``; what cannot be checked because of a failure is left out."""
    return [finding async for finding in _findings(root)]


async def _findings(root: Path) -> AsyncGenerator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding(name="python", status="ok", detail=f"Python {version}")
    yield _env_file(root)
    try:
        project = Project.find(root)
        app = project.load_app()
    except ConfigurationError as error:
        yield _failed("application", error)
        return
    yield Finding(name="application", status="ok", detail=f"{project.module}:{project.name}")
    settings: Settings = app.state.settings
    for finding in (*_settings(settings), _mail(settings), _migrations(settings)):
        yield finding
    if settings.environment == "production":
        yield _proxies(settings)
    try:
        async for finding in _ports(app, settings):
            yield finding
    finally:
        await close_ports(app)


async def _ports(app: FastAPI, settings: Settings) -> AsyncGenerator[Finding]:
    if app.state.traces.export is not None:
        yield await _traces(app)
    if app.state.redis is None and settings.environment == "production":
        yield _no_redis()
    scheme = (settings.broker_url or "").partition(":")[0]
    asked = {
        "broker": (f"answers ({scheme})", "start the broker, or correct BROKER_URL"),
        "jobs": (
            "JetStream answers",
            "start NATS with JetStream (nats-server -js), or correct JOBS_URL",
        ),
        "redis": (
            "answers",
            "start Redis, or correct REDIS_URL; until then each process is by itself",
        ),
        "storage": ("takes files", "make room for it, start it, or correct STORAGE_URL"),
    }
    for name, (said, fix) in asked.items():
        if (check := app.state.checks.get(name)) is not None:
            yield await _checked(name, check, said=said, fix=fix)
    async for finding in _database(app, settings):
        yield finding


def _failed(name: str, error: AppError) -> Finding:
    fix = error.fix if isinstance(error, ConfigurationError) else error.advice
    return Finding(name=name, status="fail", detail=error.detail, fix=fix)


def _env_file(root: Path) -> Finding:
    path = root / ".env"
    if not path.exists():
        return Finding(name=".env", status="ok", detail="none: the settings are the environment's")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(
            name=".env",
            status="warn",
            detail="other users of this machine may read the secrets in .env",
            fix="chmod 600 .env",
        )
    return Finding(name=".env", status="ok", detail="readable by its owner only")


def _settings(settings: Settings) -> list[Finding]:
    found = [_failed("settings", error) for error in unsafe_settings(settings)]
    if settings.environment == "production" and settings.database_url.startswith("sqlite"):
        found.append(
            Finding(
                name="settings",
                status="warn",
                detail="production on SQLite: one process on one machine, backups are yours",
                fix="set DATABASE_URL to postgresql+asyncpg://... when that is too little",
            )
        )
    kind = settings.environment
    safe = Finding(name="settings", status="ok", detail=f"safe for {kind}; the secret is long")
    return found or [safe]


def _mail(settings: Settings) -> Finding:
    scheme = settings.mail_url.partition(":")[0]
    if settings.environment == "production" and scheme == "log":
        return Finding(
            name="mail",
            status="warn",
            detail="mails are logged and not sent: nobody can reset a password",
            fix="set MAIL_URL to smtp://user:password@host, and MAIL_FROM and SITE_URL",
        )
    if settings.environment == "production" and urlsplit(settings.site_url).hostname == "localhost":
        return Finding(
            name="mail",
            status="warn",
            detail=f"the links in mails lead to {settings.site_url}",
            fix="set SITE_URL to the address of your front end",
        )
    return Finding(name="mail", status="ok", detail=f"by {scheme}")


def _proxies(settings: Settings) -> Finding:
    """Say whose `X-Forwarded-For` is believed: TLS ends somewhere in front of us."""
    if not settings.trusted_proxies:
        return Finding(
            name="proxies",
            status="warn",
            detail="none is trusted: behind one, all callers have its address and share its limits",
            fix="list the networks of your proxies in TRUSTED_PROXIES",
        )
    trusted = ", ".join(settings.trusted_proxies)
    return Finding(name="proxies", status="ok", detail=f"trusted: {trusted}")


async def _traces(app: FastAPI) -> Finding:
    try:
        await app.state.traces.export.ping()
    except AppError as error:
        fix = "start the collector, or correct TRACES_URL; until then spans are lost"
        return Finding(name="traces", status="warn", detail=error.detail, fix=fix)
    return Finding(name="traces", status="ok", detail="the collector answers")


def _no_redis() -> Finding:
    return Finding(
        name="redis",
        status="warn",
        detail="limits are counted, and log-outs heard of, in each process by itself",
        fix="set REDIS_URL=redis://... when there is more than one process, here or elsewhere",
    )


async def _checked(name: str, check: Check, *, said: str, fix: str) -> Finding:
    """Ask what ``/ready`` asks."""
    try:
        await check()
    except Degraded as error:
        return Finding(name=name, status="warn", detail=str(error), fix=fix)
    except (AppError, TimeoutError) as error:
        detail = str(error) or f"The {name} does not answer."
        return Finding(name=name, status="fail", detail=detail, fix=fix)
    return Finding(name=name, status="ok", detail=said)


def _migrations(settings: Settings) -> Finding:
    try:
        head = wanted(settings.migrations)
    except ConfigurationError as error:
        return _failed("migrations", error)
    if head is None:
        return Finding(
            name="migrations",
            status="warn",
            detail=f"{settings.migrations} is empty",
            fix='run `newel migrate new "initial"`',
        )
    return Finding(name="migrations", status="ok", detail=f"{settings.migrations}, up to {head}")


async def _database(app: FastAPI, settings: Settings) -> AsyncGenerator[Finding]:
    database = app.state.database
    try:
        await database.ping()
    except AppError as error:
        yield Finding(
            name="database",
            status="fail",
            detail=error.detail,
            fix="start the database, or correct DATABASE_URL",
        )
        return
    yield Finding(name="database", status="ok", detail="answers")
    try:
        await ensure_current(database, settings.migrations)
        yield Finding(name="schema", status="ok", detail="is what the code wants")
    except ConfigurationError as error:
        yield _failed("schema", error)


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check settings, database, schema and entrypoint; exit code 1 when one of them fails."""
    found = asyncio.run(examine(Path.cwd()))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            typer.echo(f"{finding.status:<4}  {finding.name:<11}  {finding.detail}")
            if finding.fix:
                typer.echo(f"{'':<19}fix: {finding.fix}")
    if any(finding.status == "fail" for finding in found):
        raise typer.Exit(1)
