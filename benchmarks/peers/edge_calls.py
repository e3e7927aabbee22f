"""The same two calls by libraries for each, as their guides show them."""

from __future__ import annotations

from uuid import UUID, uuid4

from cashews import cache
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from benchmarks.calls import Calls, answer

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
    }


if __name__ == "__main__":
    answer(calls())
