"""The id, the deadline and the address of a request."""

from __future__ import annotations

import time
from typing import Any

import pytest

from newel.context import accepted_request_id, client_ip, deadline, remaining_seconds

PROXIES = ("10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize("offered", ["abcdefgh", "A-b_c.d-1234", "0" * 64])
def test_a_harmless_id_is_kept(offered: str) -> None:
    assert accepted_request_id(offered) == offered


@pytest.mark.parametrize(
    "offered", [None, "", "short", "0" * 65, "with space", "line\nbreak", "ünïcödé-id", "a;drop-it"]
)
def test_any_other_id_is_replaced(offered: str | None) -> None:
    found = accepted_request_id(offered)
    assert found != offered
    assert len(found) == 32
    assert found != accepted_request_id(offered)


def test_the_deadline_counts_down_to_nothing() -> None:
    assert remaining_seconds() is None
    token = deadline.set(time.monotonic() + 60)
    try:
        assert 59 < (remaining_seconds() or 0) <= 60
        deadline.set(time.monotonic() - 60)
        assert remaining_seconds() == 0.0
    finally:
        deadline.reset(token)


def scope(client: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return {
        "type": "http",
        "client": None if client is None else (client, 1234),
        "headers": headers,
    }


@pytest.mark.parametrize(
    ("client", "forwarded", "found"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("10.1.2.3", ("198.51.100.1",), "198.51.100.1"),
        ("10.1.2.3", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),
        ("10.1.2.3", ("6.6.6.6, 198.51.100.1, 10.9.9.9",), "198.51.100.1"),
        ("10.1.2.3", ("6.6.6.6", "198.51.100.1"), "198.51.100.1"),
        ("10.1.2.3", ("10.4.4.4",), "10.4.4.4"),
        ("10.1.2.3", (), "10.1.2.3"),
        ("10.1.2.3", ("nonsense",), "unknown"),
        ("10.1.2.3", ("198.51.100.1:4711",), "198.51.100.1"),
        ("10.1.2.3", ("[2001:db8::1]:4711",), "2001:db8::/64"),
        ("10.1.2.3", ("a:b",), "unknown"),
        ("::ffff:10.1.2.3", ("198.51.100.1",), "198.51.100.1"),
        ("fd00::1", ("2001:db8:1:2:3:4:5:6",), "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", ("1.1.1.1",), "2001:db8:1:2::/64"),
        ("testclient", (), "unknown"),
        ("::ffff:6.6.6.6", (), "6.6.6.6"),
        (None, ("198.51.100.1",), "unknown"),
    ],
)
def test_the_address_is_what_trusted_proxies_saw(
    client: str | None, forwarded: tuple[str, ...], found: str
) -> None:
    assert client_ip(scope(client, *forwarded), PROXIES) == found


def test_without_trusted_proxies_nobody_chooses_their_address() -> None:
    """The negative control: the same header counts as soon as the peer is trusted."""
    spoofed = scope("10.1.2.3", "198.51.100.1")
    assert client_ip(spoofed, ()) == "10.1.2.3"
    assert client_ip(spoofed, PROXIES) == "198.51.100.1"
