"""``GET /health`` (the process runs) and ``GET /ready`` (it can do its work).

    app.include_router(health.router)
    app.state.checks = {"database": database.ping}

An orchestrator restarts what is not healthy and sends no traffic to what is not ready, so a
database that is away makes a service not ready, never unhealthy. What a service can do without for
a while (its check raises ``Degraded``) leaves it ready, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from newel.errors import Unavailable

__all__ = [
    "CHECK_TIMEOUT_SECONDS",
    "Check",
    "CheckState",
    "Degraded",
    "Health",
    "Readiness",
    "router",
]

Check = Callable[[], Awaitable[None]]
"""Returns when a dependency works, raises when it does not: ``Degraded`` if we go on without."""

CHECK_TIMEOUT_SECONDS: Final = 2.0

_log = structlog.get_logger("newel.health")


class Degraded(Exception):
    """A dependency does not work, and the service does its work without it, less well."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckState(BaseModel):
    """What one check found, and how long it took."""

    status: Literal["ok", "degraded", "failed", "timeout"]
    ms: float = Field(ge=0)


class Readiness(BaseModel):
    """Every dependency that the service needs works; ``degraded``: one that it can do without."""

    status: Literal["ok", "degraded"] = "ok"
    checks: dict[str, CheckState]


class _Open:
    """Marks the routes as public without the API limit: probes come often, from few addresses."""

    __newel_access__: tuple[str, ...] = ()

    async def __call__(self) -> None: ...


router: APIRouter = APIRouter(tags=["health"], dependencies=[Depends(_Open())])


@router.get("/health", summary="Tell whether the process runs")
async def health() -> Health:
    """Answer 200 as long as the process can answer at all."""
    return Health()


@router.get(
    "/ready",
    summary="Tell whether the service can do its work",
    responses={503: {"description": "A dependency, named in `checks`, fails, or we are stopping"}},
)
async def ready(request: Request) -> Readiness:
    """Run every check, at most two seconds each; a 503 names those that failed.

    200 with the status `degraded` when only such dependencies fail as we can do without.
    """
    if getattr(request.app.state, "draining", False):
        raise Unavailable("The service is stopping.")
    checks: Mapping[str, Check] = request.app.state.checks
    states = await _run(checks)
    found = {state.status for state in states.values()}
    failed = sorted(n for n, state in states.items() if state.status in {"failed", "timeout"})
    if failed:
        error = Unavailable(f"Not ready: {', '.join(failed)}.")
        error.extra["checks"] = {name: state.model_dump() for name, state in states.items()}
        raise error
    return Readiness(status="degraded" if "degraded" in found else "ok", checks=states)


async def _run(checks: Mapping[str, Check]) -> dict[str, CheckState]:
    """Run the checks at once; one that ignores its cancellation is left behind, not waited for."""
    tasks = {name: asyncio.create_task(_examine(name, check)) for name, check in checks.items()}
    if not tasks:
        return {}
    try:
        await asyncio.wait(tasks.values(), timeout=CHECK_TIMEOUT_SECONDS)
        return {name: _state(name, task) for name, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()


async def _examine(name: str, check: Check) -> CheckState:
    began = time.perf_counter()
    status: Literal["ok", "degraded", "failed"] = "ok"
    try:
        await check()
    except Degraded as error:
        _log.warning("check_degraded", check=name, exc_info=error)
        status = "degraded"
    except Exception as error:  # noqa: BLE001 - whatever it is, the dependency does not work
        _log.warning("check_failed", check=name, exc_info=error)
        status = "failed"
    return CheckState(status=status, ms=round((time.perf_counter() - began) * 1000, 2))


def _state(name: str, task: asyncio.Task[CheckState]) -> CheckState:
    if task.done() and not task.cancelled():
        return task.result()
    _log.warning("check_timed_out", check=name)
    return CheckState(status="timeout", ms=CHECK_TIMEOUT_SECONDS * 1000)
