"""What a process counts about itself, and ``GET /metrics``, where Prometheus reads it.

    app.include_router(metrics.router)
    app.state.metrics = RequestMetrics()    # what the middleware counts into

Series are bounded: a route is its template, never a path, and what a client may invent (methods,
unknown paths) is one series. An observation costs a look-up and three additions, no lock: it
belongs to the event loop's thread.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from newel.db import Database
from newel.errors import NotFound, Unauthorized, Unavailable
from newel.job_queue import count_all_open

__all__ = ["BUCKETS", "RequestMetrics", "Series", "router"]

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of the durations that are counted together; the last has none."""

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"}
)


@dataclass(slots=True)
class Series:
    """The requests of one method, route and status: how many in each bucket, how long in all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0


class RequestMetrics:
    """Durations of requests by method, route and status, and how many are being answered."""

    def __init__(self) -> None:
        self.in_flight: int = 0
        self.series: dict[tuple[str, str, int], Series] = {}

    def observe(self, *, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request that took so long; ``route`` is its template, ``None`` if none matched.

        A websocket's method is ``WEBSOCKET`` and its duration the connection's.
        """
        key = (method if method in _METHODS else "OTHER", route or "unmatched", status)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
        series.counts[bisect_left(BUCKETS, seconds)] += 1
        series.seconds += seconds


class _Scraper:
    """Lets whoever sends ``METRICS_TOKEN`` read; without one set, anyone outside of production."""

    __newel_access__: tuple[str, ...] = ("METRICS_TOKEN",)

    async def __call__(self, request: Request) -> None:
        token: SecretStr | None = request.app.state.metrics_token
        if token is None:
            if request.app.state.settings.environment == "production":
                raise NotFound
            return
        scheme, _, offered = request.headers.get("authorization", "").partition(" ")
        expected = token.get_secret_value().encode()
        if scheme.lower() != "bearer" or not secrets.compare_digest(offered.encode(), expected):
            raise Unauthorized("Send the METRICS_TOKEN as 'Authorization: Bearer <token>'.")


router: APIRouter = APIRouter(tags=["health"], dependencies=[Depends(_Scraper())])


@router.get("/metrics", summary="Show what this process has counted", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format; not limited, as scrapes come often from one address."""
    from newel.drivers import prometheus  # noqa: PLC0415 - a tenth of a second of every start

    state = request.app.state
    database: Database = state.database
    gauges: dict[str, Mapping[Any, int]] = {"newel_database_connections": database.connections()}
    with suppress(Unavailable, DBAPIError):  # away, or of another schema: then the rest is wanted
        gauges["newel_jobs"] = await count_all_open(database)
    export = state.traces.export
    text, media_type = prometheus.render(
        state.metrics.series,
        buckets=BUCKETS,
        in_flight=state.metrics.in_flight,
        gauges=gauges,
        counters={} if export is None else {"newel_spans": export.counts()},
        accept=request.headers.get("accept", ""),
    )
    return Response(text, media_type=media_type)
