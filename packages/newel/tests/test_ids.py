"""Identifiers are UUIDv7 and sort by the time they were made."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

import pytest

from newel.ids import uuid7


def test_they_are_version_7_of_the_right_time() -> None:
    before = time.time_ns() // 1_000_000
    found = uuid7()
    after = time.time_ns() // 1_000_000
    assert (found.version, found.variant) == (7, RFC_4122)
    assert before <= found.int >> 80 <= after + 1


def test_they_increase_also_within_a_millisecond() -> None:
    found = [uuid7() for _ in range(20_000)]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


def test_threads_never_make_the_same_one() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: uuid7(), range(20_000)))
    assert len(set(found)) == len(found)


def test_they_increase_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    last = uuid7()
    present = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: present - 3_600_000_000_000)
    for _ in range(10_000):  # more than one millisecond's count holds
        found = uuid7()
        assert found > last
        last = found


def test_they_cannot_be_guessed() -> None:
    tails = {found.int & 0x3FFF_FFFF_FFFF_FFFF for found in (uuid7() for _ in range(1000))}
    assert len(tails) == 1000
