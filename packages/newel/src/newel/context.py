"""What belongs to one request and must reach far places: its id, its trace and its deadline.

Context variables, because log lines and outgoing calls need them without being passed them.
Who is calling is *not* here: that is a value, ``Principal``, and an argument.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from opentelemetry.trace import INVALID_SPAN, get_current_span
from starlette.datastructures import Headers
from starlette.types import Scope

from newel.ids import uuid7

__all__ = [
    "PATH_SAFE",
    "accepted_request_id",
    "client_ip",
    "deadline",
    "remaining_seconds",
    "request_id",
    "route_template",
    "trace_ids",
    "traceparent",
]

request_id: ContextVar[str | None] = ContextVar("newel_request_id", default=None)
"""The id of the present request or job run, or ``None`` outside of one."""

deadline: ContextVar[float | None] = ContextVar("newel_deadline", default=None)
"""When the present request must be over, in seconds of ``time.monotonic()``."""

PATH_SAFE = "/:@!$&'()*+,;=~-._"
"""What stands for itself in the path of a URL. Source: RFC 3986, section 3.3."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")


def accepted_request_id(offered: str | None) -> str:
    """Return the client's request id if it is harmless in a log line, else a new one."""
    if offered is not None and _SAFE_ID.fullmatch(offered):
        return offered
    return uuid7().hex


def remaining_seconds() -> float | None:
    """Return the seconds until the deadline (never negative), or ``None`` without one."""
    end = deadline.get()
    return None if end is None else max(0.0, end - time.monotonic())


def trace_ids() -> dict[str, str]:
    """Return ``trace_id`` and ``span_id`` as a trace shows them; nothing when it is not sampled."""
    current = get_current_span()
    if current is INVALID_SPAN:  # the usual case, in each line of the log
        return {}
    span = current.get_span_context()
    if not span.trace_flags.sampled:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def traceparent() -> str | None:
    """Return what names the present span to other processes (W3C), sampled or not."""
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def route_template(scope: Scope) -> str | None:
    """Return the path of the matched route, ``/api/v1/agents/{agent_id}``; ``None`` without one.

    ``scope["route"]`` alone lacks the prefixes of the routers that the route is included by.
    """
    # FastAPI has no public name for these two keys; a test holds them.
    effective = scope.get("fastapi", {}).get("effective_route_context")
    for route in (getattr(effective, "starlette_route", None), effective, scope.get("route")):
        template: str | None = getattr(route, "path_format", None)
        if template:
            return template
    return None


def client_ip(scope: Scope, trusted_proxies: Sequence[str]) -> str:
    """Return the address of the client, an IPv6 one as its /64; ``"unknown"`` on a unix socket.

    ``X-Forwarded-For`` is read from the right and only as far as the addresses that wrote it are in
    ``trusted_proxies`` (CIDRs): everything further left is the client's own claim.
    """
    client = scope.get("client")
    if client is None:
        return "unknown"
    if not trusted_proxies:
        return _network(client[0])
    hops = [
        hop.strip()
        for line in Headers(scope=scope).getlist("x-forwarded-for")
        for hop in line.split(",")
    ]
    address = client[0]
    while hops and _is_trusted(address, tuple(trusted_proxies)):
        address = _without_port(hops.pop())
    return _network(address)


def _without_port(hop: str) -> str:
    """Some load balancers write ``203.0.113.9:4711`` and ``[2001:db8::1]:4711``."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    address, colon, _ = hop.partition(":")
    return address if colon and hop.count(":") == 1 else hop


@lru_cache(maxsize=1024)
def _is_trusted(address: str, trusted_proxies: tuple[str, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in ip_network(proxy) for proxy in trusted_proxies)


@lru_cache(maxsize=1024)
def _network(address: str) -> str:
    # One customer has a whole /64, so limiting single IPv6 addresses limits nobody.
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return "unknown" if parsed is None else str(parsed)  # of an IPv4 one in IPv6, what it is


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
