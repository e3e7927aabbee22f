"""taskiq on Redis streams: jobs that are acknowledged at their end, each with its result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from redis.asyncio import Redis
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.engine import CONCURRENCY, main


class Taskiq:
    def __init__(self, url: str) -> None:
        results = RedisAsyncResultBackend(url, result_ex_time=3600)
        self.broker = RedisStreamBroker(url, consumer_id="0").with_result_backend(results)
        self.redis = Redis.from_url(url)

        @self.broker.task(task_name="nothing")
        async def nothing(number: int) -> None: ...

        self.nothing = nothing

    async def open(self) -> None:
        logging.disable(logging.INFO)
        await self.broker.startup()

    async def work(self) -> None:
        await run_receiver_task(self.broker, max_async_tasks=CONCURRENCY, max_prefetch=CONCURRENCY)

    async def enqueue(self, numbers: Sequence[int]) -> None:
        await asyncio.gather(*(self.nothing.kiq(number) for number in numbers))

    async def left(self) -> int:
        [group] = await self.redis.xinfo_groups("taskiq")
        return group["lag"] + group["pending"]


if __name__ == "__main__":
    main(Taskiq)
