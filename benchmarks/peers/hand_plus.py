"""The hand-written service with the libraries that are usually put around one."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from prometheus_fastapi_instrumentator import Instrumentator
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

from benchmarks.variants import hand
from benchmarks.variants.hand import CurrentUser, Session
from benchmarks.variants.schemas import AgentCreate, AgentPage, AgentRead, AgentUpdate

RATE = "100000000/minute"  # counted for every request, and never reached

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
limiter = Limiter(key_func=get_remote_address)
log = structlog.get_logger("access")


@router.get("", response_model=AgentPage)
@limiter.limit(RATE)
async def list_agents(
    request: Request,
    user: CurrentUser,
    session: Session,
    page: Annotated[int, Query(ge=1)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    return await hand.list_agents(user, session, page, page_size)


@router.post("", status_code=201, response_model=AgentRead)
@limiter.limit(RATE)
async def create_agent(
    request: Request, data: AgentCreate, user: CurrentUser, session: Session, response: Response
) -> Any:
    return await hand.create_agent(data, user, session, response)


@router.get("/{agent_id}", response_model=AgentRead)
@limiter.limit(RATE)
async def get_agent(
    request: Request, agent_id: uuid.UUID, user: CurrentUser, session: Session
) -> Any:
    return await hand.get_agent(agent_id, user, session)


@router.patch("/{agent_id}", response_model=AgentRead)
@limiter.limit(RATE)
async def update_agent(
    request: Request, agent_id: uuid.UUID, data: AgentUpdate, user: CurrentUser, session: Session
) -> Any:
    return await hand.update_agent(agent_id, data, user, session)


@router.delete("/{agent_id}", status_code=204)
@limiter.limit(RATE)
async def delete_agent(
    request: Request, agent_id: uuid.UUID, user: CurrentUser, session: Session
) -> None:
    await hand.delete_agent(agent_id, user, session)


async def access_log(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    start = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=correlation_id.get())
    response = await call_next(request)
    log.info(
        "request",
        method=request.method,
        path=request.url.path,
        status=response.status_code,
        client=request.client.host if request.client else None,
        milliseconds=round((time.perf_counter() - start) * 1000, 2),
    )
    return response


def configure_logs() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )


def build() -> FastAPI:
    configure_logs()
    app = FastAPI(title="agents", lifespan=hand.lifespan)
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    app.include_router(router)
    app.middleware("http")(access_log)
    app.add_middleware(CORSMiddleware, allow_origins=["https://app.example.com"])
    app.add_middleware(CorrelationIdMiddleware)
    Instrumentator().instrument(app).expose(app)
    return app
