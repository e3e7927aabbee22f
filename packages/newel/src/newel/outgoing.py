"""Calls to other services, which cannot be turned against our own network (SSRF).

    async with outgoing_client(public(hosts={"api.github.com"})) as client:
        answer = await client.get("https://api.github.com/zen")

A name is resolved once, every address that it has is judged, and what was judged is what is
dialled: a name that changes its mind between two look-ups (rebinding) gains nothing. Certificates
and the Host header are the name's. Each redirect passes through the same gate.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Container,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from collections.abc import Set as AbstractSet
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM
from typing import Any, Final, Literal, cast

import httpcore2
import httpx2
from opentelemetry.trace import SpanKind

from newel.context import remaining_seconds, traceparent
from newel.errors import GatewayTimeout, UpstreamError
from newel.telemetry import note, traced

__all__ = [
    "Destinations",
    "OutgoingError",
    "OutgoingTimeout",
    "Reason",
    "Resolve",
    "check_destination",
    "lan",
    "outgoing_client",
    "public",
    "resolve_name",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

Reason = Literal[
    "scheme",
    "port",
    "host",
    "address",
    "unresolved",
    "timeout",
    "unreachable",
    "too_large",
    "broken",
]
"""Why a call failed. The first four mean that nothing was dialled, because it is not allowed."""

_DEADLINE: Final = "newel_deadline"


class OutgoingError(UpstreamError):
    """A call that failed, by its class: what the other side or the network said stays in the log.

    ``reason`` is a word for programs and one of the members of the problem.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__("outgoing", f"The call of the other service failed: {reason}.")
        self.reason: Reason = reason
        self.extra["reason"] = reason

    @property
    def is_refused(self) -> bool:
        """Whether it was our own rule that forbade the call: the address is the caller's fault."""
        return self.reason in {"scheme", "port", "host", "address"}


class OutgoingTimeout(OutgoingError, GatewayTimeout):
    """A call that took too long (504); whether the other side did the work is unknown."""

    def __init__(self) -> None:
        super().__init__("timeout")


# ----------------------------------------------------------------------------------- destinations


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_LOOPBACK: Final = _networks("127.0.0.0/8", "::1/128")

_NEVER: Final = _networks(
    *("0.0.0.0/8", "255.255.255.255/32", "224.0.0.0/4", "::/128", "ff00::/8"),  # no host's address
    *("169.254.0.0/16", "fe80::/10"),  # link-local: most clouds' metadata
    *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),  # the others'
    *("fd00:ec2::/32", "fd20:ce::254/128", "fd00:42::42/128"),
    "64:ff9b:1::/48",  # a translator of the local network's (RFC 8215): nobody knows to where
)
"""Refused whatever an administrator lists."""

_SPECIAL: Final = _networks(
    *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
    *("203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
)
"""IANA's special-purpose addresses; Python's own list differs from release to release."""

_GLOBAL_V6: Final = ip_network("2000::/3")

# Where an IPv6 address has an IPv4 one inside, and how far from its end in bits.
_EMBEDDED: Final = (
    (ip_network("::ffff:0:0/96"), (0,)),  # v4-mapped
    (ip_network("::ffff:0:0:0/96"), (0,)),  # translated (RFC 2765)
    (ip_network("64:ff9b::/96"), (0,)),  # NAT64
    (ip_network("::/96"), (0,)),  # v4-compatible
    (ip_network("2002::/16"), (80,)),  # 6to4
    (ip_network("2001::/32"), (64, 0)),  # Teredo: its server, and its client inverted
)


def _readings(address: Address) -> Iterator[Address]:
    """Yield every address that ``address`` may mean to some router on the way."""
    number = int(address)
    if isinstance(address, IPv4Address) or number <= 1:
        yield address
        return
    for network, shifts in _EMBEDDED:
        if address in network:
            for shift in shifts:
                inner = number >> shift & 0xFFFF_FFFF
                inverted = len(shifts) > 1 and shift == 0
                yield IPv4Address(inner ^ 0xFFFF_FFFF if inverted else inner)
            return
    if number >> 32 & 0xFDFF_FFFF == 0x5EFE:  # ISATAP (RFC 5214)
        yield IPv4Address(number & 0xFFFF_FFFF)
    yield address


def _inside(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    return not _inside(address, _SPECIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where calls may go; ``public`` and ``lan`` make the usual ones.

    ``hosts`` are the only names, or all if ``None``. ``networks`` are the only addresses, or all of
    the public internet if ``None``.
    """

    schemes: AbstractSet[str]
    ports: Container[int]
    hosts: AbstractSet[str] | None = None
    networks: Sequence[Network] | None = None

    @property
    def are_named(self) -> bool:
        """Whether hosts or networks are listed: not just any of the internet."""
        return self.hosts is not None or self.networks is not None

    def check(self, url: httpx2.URL | str) -> None:
        """Raise ``OutgoingError`` for a URL that may not be called, as far as it shows itself.

        What its name resolves to is judged when it is dialled.
        """
        with _classes():
            url = httpx2.URL(url)
        if url.scheme not in self.schemes:
            raise OutgoingError("scheme")
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
        if port not in self.ports:
            raise OutgoingError("port")
        if not url.host or (self.hosts is not None and url.host.rstrip(".") not in self.hosts):
            raise OutgoingError("host")

    def allow(self, address: str) -> bool:
        """Tell whether ``address``, a resolved one, may be dialled."""
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return all(self._allow(reading) for reading in _readings(parsed))

    def _allow(self, address: Address) -> bool:
        if _inside(address, _NEVER):
            return False
        if self.networks is None:
            return _is_public(address)
        if _inside(address, _LOOPBACK):  # 0.0.0.0/0 does not mean ourselves
            named = [net for net in self.networks if _inside(net[0], _LOOPBACK)]
            return _inside(address, named)
        return _inside(address, self.networks)


def public(
    *,
    hosts: AbstractSet[str] | None = None,
    schemes: AbstractSet[str] = frozenset({"https"}),
    ports: Container[int] = frozenset({443}),
) -> Destinations:
    """Return the public internet, or of it only ``hosts``: what a user's URL may name."""
    return Destinations(schemes=schemes, ports=ports, hosts=hosts)


def lan(
    networks: Iterable[str],
    *,
    ports: Container[int],
    schemes: AbstractSet[str] = frozenset({"http", "https"}),
) -> Destinations:
    """Return the ``networks`` (CIDRs) that an administrator has listed, and nothing else.

    Ourselves (loopback) only if listed by such an address, a cloud's metadata service never.
    Raises ``ValueError`` for what is no network.
    """
    return Destinations(schemes=schemes, ports=ports, networks=_networks(*networks))


# -------------------------------------------------------------------------------------- the client

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Looks a name up: all addresses of a host, as text."""


async def resolve_name(host: str, port: int) -> Sequence[str]:
    """Return what the system's resolver says, which also reads ``0x7f.1`` and its like."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def check_destination(
    destinations: Destinations,
    url: str,
    *,
    timeout_seconds: float = 3.0,
    resolve: Resolve = resolve_name,
) -> None:
    """Raise ``OutgoingError`` for a URL that may not be called, by what its name resolves to now.

    To refuse it before it is kept: it is judged again whenever it is called.
    """
    destinations.check(url)
    with _classes():
        async with asyncio.timeout(timeout_seconds):
            await _judged(destinations, resolve, httpx2.URL(url).host, 443)


async def _judged(
    destinations: Destinations, resolve: Resolve, host: str, port: int
) -> Sequence[str]:
    """Return the addresses of a host, all of which may be dialled; else ``OutgoingError``."""
    try:
        addresses = await resolve(host, port)
    except (OSError, UnicodeError) as error:  # a label of more than 63 characters, too
        raise OutgoingError("unresolved") from error
    # All of them: a name with one good and one bad address tries which one we take.
    if not all(map(destinations.allow, addresses)):
        raise OutgoingError("address")
    return addresses


def outgoing_client(
    destinations: Destinations,
    *,
    timeout_seconds: float = 10.0,
    max_response_bytes: int = 1_048_576,
    max_redirects: int = 0,
    verify: ssl.SSLContext | None = None,
    resolve: Resolve = resolve_name,
    network: httpcore2.AsyncNetworkBackend | None = None,
) -> httpx2.AsyncClient:
    """Return an httpx2 client that only calls ``destinations``, in bounded time and memory.

    ``timeout_seconds`` is for the whole of a call, redirects and the body included, and never more
    than the request that we are serving still has. ``max_response_bytes`` holds before and after
    decompression. The environment's proxies are not used and no cookies are kept. Raises
    ``OutgoingError`` and ``OutgoingTimeout``. ``network`` is what dials.
    """
    transport = _Transport(
        destinations,
        dialler=_Dialler(destinations, resolve, network or _sockets()),
        verify=verify or _trusted(),
        timeout_seconds=timeout_seconds,
        max_response_bytes=max_response_bytes,
    )
    return _Client(
        transport=transport,
        trust_env=False,
        timeout=timeout_seconds,
        follow_redirects=max_redirects > 0,
        max_redirects=max_redirects,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


@cache
def _trusted() -> ssl.SSLContext:
    # Reading the system's certificates takes 25 ms, which is too long to do for each client.
    return httpx2.create_ssl_context(trust_env=False)


class _Client(httpx2.AsyncClient):
    """Gives what goes wrong around the calls (no URL, a redirect to nowhere) its class, too."""

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        with _classes():
            return super().build_request(method, url, **options)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        with _classes():
            return await super().send(request, **options)


def _sockets() -> httpcore2.AsyncNetworkBackend:
    # A cast, because httpcore2 declares another class where anyio is missing.
    return cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())


class _Dialler(httpcore2.AsyncNetworkBackend):
    """Resolves, judges and dials: the one place where a connection is made."""

    def __init__(
        self, destinations: Destinations, resolve: Resolve, network: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._destinations = destinations
        self._resolve = resolve
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await _judged(self._destinations, self._resolve, host, port)
        failed: Exception = OutgoingError("unresolved")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed


class _Transport(httpx2.AsyncBaseTransport):
    """One call: the URL's gate, the time and the size. Redirects come through here again."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        dialler: _Dialler,
        verify: ssl.SSLContext,
        timeout_seconds: float,
        max_response_bytes: int,
    ) -> None:
        self._destinations = destinations
        self._timeout_seconds = timeout_seconds
        self._max_response_bytes = max_response_bytes
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            network_backend=dialler,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._destinations.check(request.url)
        # httpx2 hands the extensions on to the request that follows a redirect.
        ends_at: float = request.extensions.setdefault(_DEADLINE, self._deadline())
        said = {"http.request.method": request.method, "server.address": request.url.host}
        with traced(request.method, kind=SpanKind.CLIENT, attributes=said), _classes():
            async with asyncio.timeout_at(ends_at):
                answer = await self._pool.handle_async_request(self._call(request))
            note({"http.response.status_code": answer.status})
        response = _Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer, ends_at=ends_at, max_bytes=self._max_response_bytes),
        )
        response.max_bytes = self._max_response_bytes
        return response

    def _call(self, request: httpx2.Request) -> httpcore2.Request:
        url, headers, present = request.url, list(request.headers.raw), traceparent()
        # To whom the service chose; where users choose, nobody else's logs get our ids.
        if present is not None and self._destinations.are_named:
            headers.append((b"traceparent", present.encode()))
        return httpcore2.Request(
            request.method,
            httpcore2.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=headers,
            content=request.stream,
            extensions=request.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    def _deadline(self) -> float:
        left = remaining_seconds()
        seconds = self._timeout_seconds if left is None else min(left, self._timeout_seconds)
        return asyncio.get_running_loop().time() + seconds


class _Body(httpx2.AsyncByteStream):
    """The bytes as they come, until there are too many or the time is over."""

    def __init__(self, answer: httpcore2.Response, *, ends_at: float, max_bytes: int) -> None:
        self._answer = answer
        self._ends_at = ends_at
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        parts = self._answer.aiter_stream()
        size = 0
        while True:
            with _classes():
                async with asyncio.timeout_at(self._ends_at):
                    part = await anext(parts, None)
            if part is None:
                return
            size += len(part)
            if size > self._max_bytes:
                raise OutgoingError("too_large")
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Response(httpx2.Response):
    """Counts what comes out of decompression; httpx2 decompresses in pieces of at most 1 MiB."""

    max_bytes = 0

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes]:
        size = 0
        async with aclosing(super().aiter_bytes(chunk_size)) as parts:
            with _classes():
                async for part in parts:
                    size += len(part)
                    if size > self.max_bytes:
                        raise OutgoingError("too_large")
                    yield part


@contextmanager
def _classes() -> Generator[None]:
    """Turn what a network or a server does into a class; its text is only the cause."""
    try:
        yield
    except (TimeoutError, httpcore2.TimeoutException, httpx2.TimeoutException) as error:
        raise OutgoingTimeout from error
    except httpx2.InvalidURL as error:
        raise OutgoingError("host") from error
    except (httpcore2.ConnectError, httpx2.ConnectError) as error:
        raise OutgoingError("unreachable") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpx2.HTTPError) as error:
        raise OutgoingError("broken") from error
