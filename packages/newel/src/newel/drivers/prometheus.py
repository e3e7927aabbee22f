"""Writes what a process has counted as Prometheus reads it, by Prometheus' own client.

Imported with the first scrape: the client brings an HTTP server of its own, which would cost a
tenth of a second of every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

__all__ = ["Durations", "render"]

Labels = tuple[str, str, int]
"""Method, route, status."""


class Durations(Protocol):
    """How many durations were in each bucket, not added up, and how long they are in all."""

    counts: list[int]
    seconds: float


def render(
    durations: Mapping[Labels, Durations],
    *,
    buckets: Sequence[float],
    in_flight: int,
    gauges: Mapping[str, Mapping[Any, float]],
    counters: Mapping[str, Mapping[Any, float]],
    accept: str,
) -> tuple[bytes, str]:
    """Return the text and its media type for a client that accepts ``accept``.

    ``gauges`` and ``counters`` are values by their state, by the metric's name. The process's own
    CPU, memory, file descriptors and garbage collections are added.
    """
    families: list[Metric] = [_histogram(durations, buckets)]
    says = "Requests and websockets that are being answered."
    families.append(GaugeMetricFamily("http_requests_in_flight", says, value=in_flight))
    says = "How many there are, by state."
    for name, by_state in gauges.items():
        families.append(_by_state(GaugeMetricFamily(name, says, labels=["state"]), by_state))
    says = "How many there were, by what became of them."
    for name, by_state in counters.items():
        families.append(_by_state(CounterMetricFamily(name, says, labels=["state"]), by_state))
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _histogram(
    durations: Mapping[Labels, Durations], buckets: Sequence[float]
) -> HistogramMetricFamily:
    says = "How long requests took, by the route's template."
    labels = ["method", "route", "status"]
    family = HistogramMetricFamily("http_request_duration_seconds", says, labels=labels)
    bounds = [*map(str, buckets), "+Inf"]
    for (method, route, status), series in durations.items():
        up_to = zip(bounds, accumulate(series.counts), strict=True)
        family.add_metric([method, route, str(status)], list(up_to), series.seconds)
    return family


def _by_state(
    family: GaugeMetricFamily | CounterMetricFamily, by_state: Mapping[str, float]
) -> Metric:
    for state, value in by_state.items():
        family.add_metric([state], value)
    return family
