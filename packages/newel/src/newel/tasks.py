"""Tasks of asyncio that run beside a block, and end with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

__all__ = ["beside", "end_tasks"]

_AGAIN_SECONDS: Final = 1.0


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, Any]) -> AsyncGenerator[None]:
    """Do ``work`` as long as the block lasts; what it fails with is its own affair."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        await end_tasks(tasks)


async def end_tasks(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel until all have ended, whatever they end with.

    Once is not enough: a driver, or ``asyncio.wait_for`` of Python 3.11, may swallow it, and who
    waits for such a task waits for ever.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        # Else asyncio writes that nobody has asked what they failed with.
        await asyncio.gather(*ended, return_exceptions=True)
