"""A publisher in a process of its own, which is killed between sending and marking.

python sample_publisher.py DATABASE_URL BROKER_URL [SABOTAGE]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from sqlalchemy import update

from newel.broker import open_broker
from newel.clock import utc_now
from newel.db import Database
from newel.events import OUTBOX
from newel.publisher import Publisher


async def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, broker_url: str, sabotage: str = "") -> None:
    database, broker = Database(url), open_broker(broker_url)
    publisher = Publisher(database, broker, name="doomed", service="shop")
    if sabotage == "mark first":  # the defect that a test finds
        async with database.engine.begin() as connection:
            await connection.execute(update(OUTBOX).values(sent_at=utc_now()))
        await die()
    Publisher._settle = die  # type: ignore[method-assign] # killed at the worst moment
    await publisher.publish_some()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
