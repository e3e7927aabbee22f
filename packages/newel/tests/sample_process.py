"""A process with a cache and a limiter, told what to do by lines of JSON; tests start several."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import structlog

from newel.cache_levels import LevelCache
from newel.drivers.redis import RedisLink
from newel.limits import Rate, SharedLimiter

loads: list[float] = []


def say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def load() -> str:
    loads.append(time.monotonic())
    await asyncio.sleep(0.02)  # as long as a query takes, so that misses meet
    return "value"


async def get(cache: LevelCache, key: str) -> str:
    return await cache.get_or_set(key, load, kind=str, expire=600, tags=["agents"])


async def miss(cache: LevelCache, key: str, times: int) -> int:
    before = len(loads)
    await asyncio.gather(*(get(cache, key) for _ in range(times)))
    return len(loads) - before


async def watch(cache: LevelCache, key: str) -> float:
    """Return when the value was gone from memory, on the clock that all processes share."""
    say("watching")
    before = len(loads)
    while len(loads) == before:
        await get(cache, key)
        await asyncio.sleep(0)
    return loads[-1]


async def forget(cache: LevelCache, *tags: str) -> float:
    at = time.monotonic()
    await cache.forget(*tags)
    return at


async def main(url: str, name: str) -> None:
    # What it says is for the test alone.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    link = RedisLink(url, name=name)
    cache, limiter = LevelCache(link), SharedLimiter(link)

    async def hit(_: LevelCache, key: str, rate: str, times: int) -> int:
        hits = (limiter.hit(key, Rate.parse(rate)) for _ in range(times))
        return sum(decision.allowed for decision in await asyncio.gather(*hits))

    commands: dict[str, Any] = {"miss": miss, "watch": watch, "forget": forget, "hit": hit}
    async with cache.listening():
        while not cache.is_current:  # noqa: ASYNC110 - what is tested tells nobody
            await asyncio.sleep(0.001)
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, *arguments = json.loads(line)
            say(await commands[command](cache, *arguments))


asyncio.run(main(*sys.argv[1:]))
