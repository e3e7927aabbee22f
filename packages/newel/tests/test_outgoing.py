"""What is dialled: a fake resolver, a network that writes down, and a real server behind it."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from socket import gaierror
from typing import Any

import httpcore2
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from newel import context, outgoing
from newel.outgoing import (
    Destinations,
    OutgoingError,
    OutgoingTimeout,
    lan,
    outgoing_client,
    public,
)

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
ANY = public(schemes={"http", "https"}, ports={80, 443, 8080})

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Network(httpcore2.AsyncNetworkBackend):
    """Writes down what is dialled; connects to ``port`` on this machine instead, or to nothing."""

    def __init__(self, port: int | None = None, *, refuses: Sequence[str] = ()) -> None:
        self.dialled: list[tuple[str, int]] = []
        self._port = port
        self._refuses = refuses

    async def connect_tcp(
        self, host: str, port: int, *options: Any
    ) -> httpcore2.AsyncNetworkStream:
        self.dialled.append((host, port))
        if self._port is None or host in self._refuses:
            raise httpcore2.ConnectError(f"refused by {host} CANARY")
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", self._port)


class Names:
    """A resolver: each look-up of a name takes the next of its answers, the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(said) for name, said in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(OutgoingError) as caught:
        await call
    return caught.value.reason


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    tasks: set[asyncio.Task[Any] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        with suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.gather(*filter(None, tasks))


def answering(*answers: bytes, seen: list[bytes] | None = None) -> Handler:
    """Return a server that gives its connections these answers, one each, the last for ever."""
    left = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(request)
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return handle


def http(body: bytes = b"hello", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


FORBIDDEN = {
    "dotted": "127.0.0.1",
    "another loopback": "127.8.9.1",
    "short": "127.1",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0.0.1",
    "octal": "017700000001",
    "octal parts": "0177.0.0.01",
    "mixed parts": "0x7f.1",
    "zero": "0",
    "this host": "0.0.0.0",
    "private 10": "10.0.0.1",
    "private 10, decimal": "167772161",
    "private 172": "172.16.0.1",
    "private 192": "192.168.1.1",
    "private 192, hexadecimal": "0xc0a80101",
    "carrier": "100.64.0.1",
    "link-local": "169.254.1.1",
    "metadata": "169.254.169.254",
    "metadata, decimal": "2852039166",
    "metadata, octal": "0251.0376.0251.0376",
    "metadata, hexadecimal": "0xa9fea9fe",
    "metadata elsewhere": "100.100.100.200",
    "metadata, a public address": "168.63.129.16",
    "metadata in 192.0.0": "192.0.0.192",
    "benchmarks": "198.18.0.1",
    "documentation": "203.0.113.9",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "6to4 relay": "192.88.99.1",
    "v6 loopback": "[::1]",
    "v6 loopback, long": "[0:0:0:0:0:0:0:1]",
    "v6 nothing": "[::]",
    "v4-mapped": "[::ffff:127.0.0.1]",
    "v4-mapped, hexadecimal": "[::ffff:7f00:1]",
    "v4-mapped metadata": "[::ffff:169.254.169.254]",
    "v4-compatible": "[::127.0.0.1]",
    "v4-translated": "[::ffff:0:10.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64 metadata": "[64:ff9b::169.254.169.254]",
    "NAT64 of the local network": "[64:ff9b:1::808:808]",
    "6to4": "[2002:7f00:1::1]",
    "6to4 of a private network": "[2002:c0a8:101::1]",
    "Teredo client": "[2001:0:5db8:d70e::80ff:fffe]",
    "Teredo server": "[2001:0:a00:1::f7f7:f7f7]",
    "ISATAP": "[2606:2800::5efe:10.0.0.1]",
    "ISATAP, global flag": "[2606:2800::200:5efe:10.0.0.1]",
    "unique local": "[fd12:3456::1]",
    "unique local metadata": "[fd00:ec2::254]",
    "site-local": "[fec0::1]",
    "v6 link-local": "[fe80::1]",
    "v6 multicast": "[ff02::1]",
    "v6 documentation": "[2001:db8::1]",
    "v6 newer documentation": "[3fff::1]",
    "ORCHID": "[2001:20::1]",
    "discarded": "[100::1]",
    "full width": "１２７.０.０.１",  # noqa: RUF001 - the attack
    "circled": "①②⑦.⓪.⓪.①",
    "ideographic stops": "127。0。0。1",
}
NO_URL = {FORBIDDEN[name] for name in ("octal parts", "metadata, octal", "full width", "circled")}
"""What httpx2 refuses already, before our guard sees it."""


class TestAddresses:
    @pytest.mark.parametrize("host", FORBIDDEN.values(), ids=FORBIDDEN)
    async def test_no_way_of_writing_a_forbidden_one_is_dialled(self, host: str) -> None:
        network = Network()
        async with outgoing_client(ANY, network=network) as client:
            assert await refusal(client.get(f"http://{host}/")) == (
                "host" if host in NO_URL else "address"
            )
        assert network.dialled == []

    def test_there_are_enough_of_them(self) -> None:
        assert len({*FORBIDDEN.values()} - NO_URL) >= 34

    @pytest.mark.parametrize("host", sorted({*FORBIDDEN.values()} - NO_URL))
    async def test_without_the_guard_each_would_be_dialled(
        self, host: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Destinations, "allow", lambda self, address: True)
        network = Network()
        async with outgoing_client(ANY, network=network) as client:
            assert await refusal(client.get(f"http://{host}/")) == "unreachable"
        assert len(network.dialled) == 1

    @pytest.mark.parametrize(
        "address",
        [
            *(PUBLIC, PUBLIC_V6, "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808"),
            *("2002:808:808::1", "2606:2800::5efe:8.8.8.8", "172.32.0.1", "192.0.1.1"),
        ],
    )
    def test_public_ones_are_allowed(self, address: str) -> None:
        assert ANY.allow(address)

    @pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "fe80::1%eth0", "1.2.3.4.5"])
    def test_what_is_no_address_is_not(self, address: str) -> None:
        assert not ANY.allow(address)

    async def test_a_name_leads_nowhere_else_than_an_address(self) -> None:
        network = Network()
        names = Names(metadata_google_internal=[["169.254.169.254"]])
        async with outgoing_client(ANY, resolve=names, network=network) as client:
            assert await refusal(client.get("http://metadata.google.internal/")) == "address"
        assert network.dialled == []

    @pytest.mark.parametrize(
        "mixed", [[PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC_V6, "::1"]]
    )
    async def test_one_bad_record_among_good_ones_is_enough(
        self, mixed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network = Network()
        names = Names(mixed_example=[mixed])
        async with outgoing_client(ANY, resolve=names, network=network) as client:
            assert await refusal(client.get("http://mixed.example/")) == "address"
        assert network.dialled == []

        monkeypatch.setattr(outgoing, "all", any, raising=False)  # the guard taken away
        async with outgoing_client(ANY, resolve=names, network=network) as client:
            assert await refusal(client.get("http://mixed.example/")) == "unreachable"
        assert [host for host, _ in network.dialled] == mixed

    async def test_what_was_judged_is_dialled_without_a_second_look_up(self) -> None:
        """Rebinding: the name's second answer would be ourselves."""
        names = Names(rebinding_example=[[PUBLIC], ["127.0.0.1"]])
        network = Network()
        async with outgoing_client(ANY, resolve=names, network=network) as client:
            assert await refusal(client.get("http://rebinding.example/")) == "unreachable"
            assert network.dialled == [(PUBLIC, 80)]
            assert names.asked == ["rebinding.example"]
            assert await refusal(client.get("http://rebinding.example/")) == "address"
        assert network.dialled == [(PUBLIC, 80)]

    async def test_a_client_that_looks_up_twice_is_caught_by_that(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def careless(dialler: Any, host: str, port: int, **options: Any) -> Any:
            addresses = await dialler._resolve(host, port)
            assert all(map(dialler._destinations.allow, addresses))
            [again] = await dialler._resolve(host, port)  # what connecting by name does
            return await dialler._network.connect_tcp(again, port)

        monkeypatch.setattr(outgoing._Dialler, "connect_tcp", careless)
        network = Network()
        names = Names(rebinding_example=[[PUBLIC], ["127.0.0.1"]])
        async with outgoing_client(ANY, resolve=names, network=network) as client:
            assert await refusal(client.get("http://rebinding.example/")) == "unreachable"
        assert network.dialled == [("127.0.0.1", 80)]

    async def test_the_next_address_is_tried_when_one_is_down(self) -> None:
        async with serving(answering(http())) as port:
            network = Network(port, refuses=[PUBLIC_V6])
            names = Names(two_example=[[PUBLIC_V6, PUBLIC]])
            async with outgoing_client(ANY, resolve=names, network=network) as client:
                assert (await client.get("http://two.example/")).text == "hello"
        assert network.dialled == [(PUBLIC_V6, 80), (PUBLIC, 80)]


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://api.example/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("gopher://api.example/", "scheme"),
            ("ftp://api.example/", "scheme"),
            ("unix:///run/docker.sock", "scheme"),
            ("/relative", "scheme"),
            ("https://api.example:22/", "port"),
            ("https://api.example:80/", "port"),
            ("https://evil.example/", "host"),
            ("https://api.example@evil.example/", "host"),
            ("https://api.example.evil.example/", "host"),
            ("https://evil.example#api.example", "host"),
            ("https://evil.example?api.example", "host"),
            ("https://evil.example/api.example", "host"),
            ("https://[::1", "host"),
            (f"https://{'a' * 64}.example/", "host"),
        ],
    )
    async def test_only_what_is_listed_is_called(self, url: str, reason: str) -> None:
        network = Network()
        names = Names(api_example=[[PUBLIC]], evil_example=[[PUBLIC]])
        only = public(hosts={"api.example"})
        async with outgoing_client(only, resolve=names, network=network) as client:
            assert await refusal(client.get(url)) == reason
        assert (network.dialled, names.asked) == ([], [])

    @pytest.mark.parametrize(
        ("url", "port"),
        [
            ("http://evil.example/", 80),
            ("https://api.example:22/", 22),
            ("https://api.example@evil.example/", 443),
        ],
    )
    async def test_without_the_lists_it_would_be(
        self, url: str, port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Destinations, "check", lambda self, url: None)
        network = Network()
        names = Names(api_example=[[PUBLIC]], evil_example=[[PUBLIC]])
        only = public(hosts={"api.example"})
        async with outgoing_client(only, resolve=names, network=network) as client:
            assert await refusal(client.get(url)) == "unreachable"
        assert network.dialled == [(PUBLIC, port)]

    @pytest.mark.parametrize("url", ["https://api.example/", "https://API.example.:443/x?y"])
    async def test_what_is_listed_is_dialled(self, url: str) -> None:
        network = Network()

        async def resolve(host: str, port: int) -> list[str]:
            return [PUBLIC]

        only = public(hosts={"api.example"})
        async with outgoing_client(only, resolve=resolve, network=network) as client:
            assert await refusal(client.get(url)) == "unreachable"
        assert network.dialled == [(PUBLIC, 443)]

    def test_a_url_can_be_checked_before_it_is_kept(self) -> None:
        public().check("https://example.com/hook")
        for url in ("http://example.com/hook", "https://example.com:8443/hook"):
            with pytest.raises(OutgoingError) as caught:
                public().check(url)
            assert caught.value.is_refused


class TestLan:
    HOME = lan(["192.168.1.0/24", "fd12::/16"], ports={8989})

    @pytest.mark.parametrize("address", ["192.168.1.7", "fd12::7", "::ffff:192.168.1.7"])
    def test_listed_networks_are_allowed(self, address: str) -> None:
        assert self.HOME.allow(address)

    @pytest.mark.parametrize(
        "address", ["192.168.2.7", "10.0.0.1", PUBLIC, "127.0.0.1", "::1", "fd13::1", "::"]
    )
    def test_nothing_else_is(self, address: str) -> None:
        assert not self.HOME.allow(address)

    @pytest.mark.parametrize(
        ("networks", "allowed"),
        [
            (["0.0.0.0/0", "::/0"], False),
            (["127.0.0.1/32"], True),
            (["127.0.0.0/8"], True),
            (["127.0.0.2/32", "0.0.0.0/0"], False),
        ],
    )
    def test_ourselves_only_by_name(self, networks: list[str], *, allowed: bool) -> None:
        assert lan(networks, ports={80}).allow("127.0.0.1") is allowed
        assert lan(networks, ports={80}).allow("::ffff:127.0.0.1") is allowed

    @pytest.mark.parametrize(
        "address",
        [
            *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"),
            *("192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe", "0.0.0.0"),
            *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "224.0.0.1"),
            *("64:ff9b:1::a9fe:a9fe", "255.255.255.255", "fe80::5efe:a9fe:a9fe"),
        ],
    )
    def test_metadata_never(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        everything = [
            *("0.0.0.0/0", "::/0", "169.254.169.254/32", "fd00:ec2::254/128", "fe80::/10"),
        ]
        assert not lan(everything, ports={80}).allow(address)

        monkeypatch.setattr(outgoing, "_NEVER", ())
        assert lan(everything, ports={80}).allow(address)

    def test_a_network_must_be_one(self) -> None:
        with pytest.raises(ValueError, match=r"192\.168"):
            lan(["192.168.1.300/24"], ports={80})

    async def test_it_is_dialled(self) -> None:
        async with serving(answering(http(b"sonarr"))) as port:
            home = lan(["127.0.0.1/32"], ports={port})
            async with outgoing_client(home) as client:
                assert (await client.get(f"http://127.0.0.1:{port}/")).text == "sonarr"


def redirect(to: str) -> bytes:
    return http(b"", f"location: {to}", status="302 Found")


class TestRedirects:
    async def test_they_are_not_followed(self) -> None:
        async with serving(answering(redirect("http://127.0.0.1/"))) as port:
            network = Network(port)
            names = Names(a_example=[[PUBLIC]])
            async with outgoing_client(ANY, resolve=names, network=network) as client:
                answer = await client.get("http://a.example/")
        assert answer.status_code == 302
        assert network.dialled == [(PUBLIC, 80)]

    @pytest.mark.parametrize(
        ("to", "reason"),
        [
            ("http://127.0.0.1/", "address"),
            ("http://metadata.example/", "address"),
            ("http://[::ffff:10.0.0.1]/", "address"),
            ("file:///etc/passwd", "scheme"),
            ("http://a.example:22/", "port"),
            ("//10.0.0.1/", "address"),
            ("http://[::1", "broken"),
        ],
    )
    async def test_each_passes_through_the_gate(self, to: str, reason: str) -> None:
        async with serving(answering(redirect(to))) as port:
            network = Network(port)
            names = Names(a_example=[[PUBLIC]], metadata_example=[["169.254.169.254"]])
            names._answers |= {"127.0.0.1": [["127.0.0.1"]], "10.0.0.1": [["10.0.0.1"]]}
            names._answers["::ffff:10.0.0.1"] = [["::ffff:10.0.0.1"]]
            options: Any = {"resolve": names, "network": network, "max_redirects": 3}
            async with outgoing_client(ANY, **options) as client:
                assert await refusal(client.get("http://a.example/")) == reason
        assert network.dialled == [(PUBLIC, 80)]

    async def test_without_the_gate_they_would_lead_anywhere(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Destinations, "allow", lambda self, address: True)
        async with serving(answering(redirect("http://in.example/"), http(b"secret"))) as port:
            network = Network(port)
            names = Names(a_example=[[PUBLIC]], in_example=[["10.0.0.1"]])
            options: Any = {"resolve": names, "network": network, "max_redirects": 3}
            async with outgoing_client(ANY, **options) as client:
                assert (await client.get("http://a.example/")).text == "secret"
        assert network.dialled == [(PUBLIC, 80), ("10.0.0.1", 80)]

    async def test_good_ones_are_followed_and_counted(self) -> None:
        seen: list[bytes] = []
        answers = [redirect("http://b.example/2"), http(b"there")]
        async with serving(answering(*answers, seen=seen)) as port:
            network = Network(port)
            names = Names(a_example=[[PUBLIC]], b_example=[["8.8.8.8"]])
            options: Any = {"resolve": names, "network": network, "max_redirects": 1}
            async with outgoing_client(ANY, **options) as client:
                headers = {"authorization": "Bearer secret"}
                assert (await client.get("http://a.example/", headers=headers)).text == "there"
        assert network.dialled == [(PUBLIC, 80), ("8.8.8.8", 80)]
        assert b"host: b.example\r\n" in seen[1].lower()
        assert b"secret" in seen[0]
        assert b"secret" not in seen[1]

    async def test_too_many_are_one_class_of_error(self) -> None:
        async with serving(answering(redirect("http://a.example/"))) as port:
            options: Any = {"resolve": Names(a_example=[[PUBLIC]]), "network": Network(port)}
            async with outgoing_client(ANY, max_redirects=2, **options) as client:
                assert await refusal(client.get("http://a.example/")) == "broken"


@asynccontextmanager
async def calling(handler: Handler, **options: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """Yield a client for which http://a.example is ``handler``."""
    async with serving(handler) as port:
        names = Names(a_example=[[PUBLIC]])
        options = {"resolve": names, "network": Network(port), **options}
        async with outgoing_client(ANY, **options) as client:
            yield client


URL = "http://a.example/"


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, for ever: no single wait is long."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


class TestBounds:
    async def test_an_answer_of_the_limit_passes(self) -> None:
        async with calling(answering(http(b"x" * 1000)), max_response_bytes=1000) as client:
            assert len((await client.get(URL)).content) == 1000

    async def test_a_larger_one_does_not(self) -> None:
        async with calling(answering(http(b"x" * 1001)), max_response_bytes=1000) as client:
            assert await refusal(client.get(URL)) == "too_large"

    @pytest.mark.parametrize("coding", ["gzip", "gzip, gzip"])
    async def test_a_bomb_does_not(self, coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        bomb = gzip.compress(b"\0" * 50_000_000)
        if coding != "gzip":
            bomb = gzip.compress(bomb)
        assert len(bomb) < 60_000
        answer = http(bomb, f"content-encoding: {coding}")
        async with calling(answering(answer), max_response_bytes=100_000) as client:
            assert await refusal(client.get(URL)) == "too_large"

            monkeypatch.delattr(outgoing._Response, "aiter_bytes")  # the guard taken away
            assert len((await client.get(URL)).content) == 50_000_000

    async def test_a_compressed_answer_is_read(self) -> None:
        answer = http(gzip.compress(b"hello"), "content-encoding: gzip")
        async with calling(answering(answer)) as client:
            assert (await client.get(URL)).text == "hello"

    async def test_what_claims_to_be_compressed_is_broken(self) -> None:
        async with calling(answering(http(b"hello", "content-encoding: gzip"))) as client:
            assert await refusal(client.get(URL)) == "broken"

    async def test_a_stream_is_bounded_too(self) -> None:
        async with (
            calling(answering(http(b"x" * 200_000)), max_response_bytes=100_000) as client,
            client.stream("GET", URL) as answer,
        ):
            assert await refusal(answer.aread()) == "too_large"

    @pytest.mark.parametrize("handler", [dripping, silent])
    async def test_the_whole_call_has_an_end(self, handler: Handler) -> None:
        began = time.monotonic()
        async with calling(handler, timeout_seconds=0.2) as client:
            with pytest.raises(OutgoingTimeout) as caught:
                await client.get(URL)
        assert (caught.value.status, caught.value.reason) == (504, "timeout")
        assert time.monotonic() - began < 2

    async def test_without_the_end_a_dripping_answer_goes_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """httpx2's own timeouts are for single reads."""
        monkeypatch.setattr(outgoing._Transport, "_deadline", lambda transport: 1e12)
        async with calling(dripping, timeout_seconds=0.2) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(URL), 0.6)

    async def test_redirects_share_the_time(self) -> None:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.1)
            writer.write(redirect(URL))

        began = time.monotonic()
        async with calling(slow, timeout_seconds=0.3, max_redirects=50) as client:
            assert await refusal(client.get(URL)) == "timeout"
        assert time.monotonic() - began < 2

    async def test_a_call_ends_with_the_request_that_makes_it(self) -> None:
        token = context.deadline.set(time.monotonic() + 0.1)
        try:
            async with calling(silent, timeout_seconds=60) as client:
                assert await refusal(client.get(URL)) == "timeout"
        finally:
            context.deadline.reset(token)

    async def test_a_resolver_that_hangs_is_given_up(self) -> None:
        async def hang(host: str, port: int) -> list[str]:
            await asyncio.Event().wait()
            return []

        async with calling(silent, resolve=hang, timeout_seconds=0.1) as client:
            assert await refusal(client.get(URL)) == "timeout"


class TestEnvironment:
    async def test_proxies_of_the_environment_are_not_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        async with calling(answering(http())) as client:
            assert (await client.get(URL)).text == "hello"
            assert client.trust_env is False

    async def test_a_proxy_would_have_been_dialled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        async with httpx2.AsyncClient() as plain:
            with pytest.raises(httpx2.ConnectError):
                await plain.get("http://a.example/")

    async def test_no_cookies_are_kept(self) -> None:
        seen: list[bytes] = []
        handler = answering(http(b"", "set-cookie: a=1"), seen=seen)
        async with calling(handler) as client:
            await client.get(URL)
            await client.get(URL)
            assert not list(client.cookies.jar)
        assert b"cookie" not in seen[1].lower()


class TestErrors:
    async def test_they_show_their_class_and_nothing_else(self) -> None:
        async with outgoing_client(
            ANY, resolve=Names(a_example=[[PUBLIC]]), network=Network()
        ) as client:
            with pytest.raises(OutgoingError) as caught:
                await client.get(URL)
        error = caught.value
        assert (error.status, error.reason, error.is_refused) == (502, "unreachable", False)
        assert error.detail == "The call of the other service failed: unreachable."
        assert error.extra == {"service": "outgoing", "reason": "unreachable"}
        assert "CANARY" in str(error.__cause__), "the reason stays in the log"

    @pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nx"])
    async def test_what_is_no_http_is_broken(self, said: bytes) -> None:
        async with calling(answering(said)) as client:
            assert await refusal(client.get(URL)) == "broken"

    async def test_a_body_that_is_cut_off_is_broken(self) -> None:
        cut = http(b"hello").replace(b"length: 5", b"length: 50")
        async with calling(answering(cut)) as client:
            assert await refusal(client.get(URL)) == "broken"

    @pytest.mark.parametrize("error", [gaierror("CANARY"), UnicodeError("label too long")])
    async def test_a_name_that_nobody_has(self, error: Exception) -> None:
        async def resolve(host: str, port: int) -> Sequence[str]:
            raise error

        network = Network()
        async with outgoing_client(ANY, resolve=resolve, network=network) as client:
            assert await refusal(client.get(URL)) == "unresolved"
        assert network.dialled == []

    async def test_a_name_without_addresses(self) -> None:
        names = Names(a_example=[[]])
        async with outgoing_client(ANY, resolve=names, network=Network()) as client:
            assert await refusal(client.get(URL)) == "unresolved"

    async def test_a_connection_that_is_refused(self) -> None:
        async with serving(silent) as port:
            pass
        async with outgoing_client(lan(["127.0.0.1/32"], ports={port})) as client:
            assert await refusal(client.get(f"http://127.0.0.1:{port}/")) == "unreachable"


def certificate(name: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server called ``name``, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = directory / "server.pem"
    file.write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


class TestTls:
    async def test_the_name_is_checked_although_the_address_is_dialled(
        self, tmp_path: Path
    ) -> None:
        server, trusting = certificate("a.example", tmp_path)
        asked: list[str | None] = []
        server.sni_callback = lambda _socket, name, _context: asked.append(name)
        seen: list[bytes] = []
        async with serving(answering(http(), seen=seen), server) as port:
            network = Network(port)
            names = Names(a_example=[[PUBLIC]], b_example=[[PUBLIC]])
            options: Any = {"resolve": names, "network": network, "verify": trusting}
            async with outgoing_client(ANY, **options) as client:
                assert (await client.get("https://a.example/")).text == "hello"
                assert await refusal(client.get("https://b.example/")) == "unreachable"
        assert network.dialled == [(PUBLIC, 443)] * 2
        assert asked == ["a.example", "b.example"]
        assert b"host: a.example\r\n" in seen[0].lower()

    async def test_a_certificate_that_nobody_knows_is_refused(self, tmp_path: Path) -> None:
        server, _ = certificate("a.example", tmp_path)
        async with serving(answering(http()), server) as port:
            names = Names(a_example=[[PUBLIC]])
            async with outgoing_client(ANY, resolve=names, network=Network(port)) as client:
                assert await refusal(client.get("https://a.example/")) == "unreachable"


def test_readings_of_every_wrapped_address() -> None:
    """Every wrapping of every IPv4 address is read as that address: a sample of them."""
    wrappings: list[Callable[[int], int]] = [
        lambda v4: 0xFFFF << 32 | v4,
        lambda v4: 0xFFFF_0000 << 32 | v4,
        lambda v4: 0x0064_FF9B << 96 | v4,
        lambda v4: 0x2002 << 112 | v4 << 80 | 5,
        lambda v4: v4,
    ]
    for number in (*range(2, 1 << 32, 104_729_117), 0x7F000001, 0xA9FEA9FE, 0xFFFFFFFF):
        inner = IPv4Address(number)
        for wrap in wrappings:
            outer = ip_address(wrap(number).to_bytes(16, "big"))
            assert list(outgoing._readings(outer)) == [inner], outer
