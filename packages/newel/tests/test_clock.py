"""The time is aware, in UTC, and a port that tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from newel.clock import Clock, SystemClock, utc_now
from newel.testing import FrozenClock


def test_the_time_is_now_in_utc() -> None:
    for now in (utc_now(), SystemClock().now()):
        assert now.tzinfo is UTC
        assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_frozen_clock_stands_in_for_the_system_clock() -> None:
    def tomorrow(clock: Clock) -> datetime:
        return clock.now() + timedelta(days=1)

    clock = FrozenClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert tomorrow(clock) == datetime(2026, 1, 2, tzinfo=UTC)
    clock.move(hours=1)
    assert tomorrow(clock) == datetime(2026, 1, 2, 1, tzinfo=UTC)
