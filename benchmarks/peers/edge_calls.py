"""The same calls by libraries for each, as their guides show them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from cashews import cache
from fastapi import FastAPI
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator

from benchmarks.calls import Calls, answer, asking
from benchmarks.peers import hand_plus

cache.setup("mem://")


async def bare(caller: UUID, report_id: UUID) -> int:
    return report_id.version or 0


kept = cache(ttl="1h", key="report:{caller}:{report_id}")(bare)


def calls() -> Calls:
    caller, report_id = uuid4(), uuid4()
    limiter, rate = MovingWindowRateLimiter(MemoryStorage()), parse("1000/minute")
    return {
        "bare": lambda: bare(caller, report_id),
        "cache": lambda: kept(caller, report_id),
        "limit": lambda: limiter.hit(rate, "user:1"),
        **of_requests(),
    }


async def log() -> None:
    hand_plus.log.info(
        "request",
        request_id="0190c5a1e0f27c3b8a5d2f4e6b7c8d9e",
        method="GET",
        path="/agents/7",
        status=200,
        client="127.0.0.1",
        milliseconds=3.14,
    )


def of_requests() -> Calls:
    hand_plus.configure_logs()
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(nowhere), cache_logger_on_first_use=True
    )
    bare, counted, identified, whole = (service() for _ in range(4))
    count(counted)
    identified.add_middleware(CorrelationIdMiddleware)
    whole.middleware("http")(hand_plus.access_log)
    whole.add_middleware(CorrelationIdMiddleware)
    count(whole)
    without = asking(bare)
    return {
        "metrics": asking(counted),
        "metrics_without": without,
        "log": log,
        "request_id": asking(identified),
        "request_id_without": without,
        "request": asking(whole),
        "request_without": without,
    }


def count(app: FastAPI) -> None:
    Instrumentator(registry=CollectorRegistry()).instrument(app)


def service() -> FastAPI:
    app = FastAPI()

    @app.get("/agents/{agent_id}")
    async def agent(agent_id: int) -> Any:
        return agent_id

    return app


if __name__ == "__main__":
    answer(calls())
