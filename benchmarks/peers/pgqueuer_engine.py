"""pgqueuer: jobs in PostgreSQL, enqueued in batches on its own connection, deleted at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.peers.engine import CONCURRENCY, main


class Pgqueuer:
    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self) -> None:
        logging.disable(logging.INFO)
        self.connection = await asyncpg.connect(self.url)
        self.queries = Queries(AsyncpgDriver(self.connection))
        if await self.connection.fetchval("SELECT to_regclass('pgqueuer')") is None:
            await self.queries.install()

    async def work(self) -> None:
        queuer = PgQueuer(AsyncpgDriver(self.connection))

        @queuer.entrypoint("nothing")
        async def nothing(job: Job) -> None: ...

        await queuer.run(batch_size=CONCURRENCY)

    async def enqueue(self, numbers: Sequence[int]) -> None:
        count = len(numbers)
        payloads = [b"%d" % number for number in numbers]
        await self.queries.enqueue(["nothing"] * count, payloads, [0] * count)

    async def left(self) -> int:
        return await self.connection.fetchval("SELECT count(*) FROM pgqueuer")


if __name__ == "__main__":
    main(Pgqueuer)
