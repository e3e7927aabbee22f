"""procrastinate: jobs in PostgreSQL, deferred in batches, kept when they have ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from procrastinate import App, PsycopgConnector

from benchmarks.peers.engine import CONCURRENCY, main

LEFT = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"


class Procrastinate:
    def __init__(self, url: str) -> None:
        self.app = App(connector=PsycopgConnector(conninfo=url, max_size=20))

        @self.app.task(name="nothing")
        async def nothing(number: int) -> None: ...

        self.nothing = nothing

    async def open(self) -> None:
        logging.disable(logging.INFO)
        await self.app.open_async()
        if not await self.app.check_connection_async():
            await self.app.schema_manager.apply_schema_async()

    async def work(self) -> None:
        await self.app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)

    async def enqueue(self, numbers: Sequence[int]) -> None:
        await self.nothing.batch_defer_async(*({"number": number} for number in numbers))

    async def left(self) -> int:
        return (await self.app.connector.execute_query_one_async(LEFT))["n"]


if __name__ == "__main__":
    main(Procrastinate)
