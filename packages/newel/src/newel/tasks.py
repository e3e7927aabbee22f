"""Tasks that run beside a block and end with it, that wait in a line, that work in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from newel.errors import Unavailable

__all__ = ["Line", "Threads", "beside", "end_tasks"]

T = TypeVar("T")

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


class Line:
    """Tasks that wait for their turn: first come, first served.

    ``pass_on`` is called when somebody is called away in the moment of their turn.
    """

    def __init__(self, pass_on: Callable[[], None]) -> None:
        self._pass_on = pass_on
        self._since: dict[asyncio.Future[bool], float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def is_slow(self, seconds: float) -> bool:
        """Tell whether the first in line has waited for half of ``seconds``.

        Who would come after it has better things to do than to wait, and then be sent away.
        """
        now = asyncio.get_running_loop().time()
        return bool(self._since) and now - next(iter(self._since.values())) > seconds / 2

    async def wait(self, seconds: float) -> bool:
        """Tell whether a turn came within ``seconds``."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._since[turn] = loop.time()
        timer = loop.call_later(seconds, _decide, turn, False)  # noqa: FBT003 - its result
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._pass_on()
            raise
        finally:
            timer.cancel()
            self._since.pop(turn, None)

    def call(self) -> bool:
        """Tell the first in line that it is their turn; ``False``: nobody waits."""
        while self._since:
            turn = next(iter(self._since))
            del self._since[turn]
            if not turn.done():
                turn.set_result(True)
                return True
        return False


def _decide(turn: asyncio.Future[bool], result: bool) -> None:  # noqa: FBT001 - as asyncio calls it
    if not turn.done():
        turn.set_result(result)


class Threads:
    """``count`` threads for what takes CPU, and places for ``waiting`` callers.

    They begin with the first call. Who comes when all places are taken gets ``Unavailable``, which
    says ``refusal``.
    """

    def __init__(self, name: str, count: int, *, waiting: int, refusal: str) -> None:
        self._name = name
        self._count = count
        self._refusal = refusal
        self._room = threading.BoundedSemaphore(count + waiting)
        self._starting = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns in one of the threads."""
        if not self._room.acquire(blocking=False):
            raise Unavailable(self._refusal)
        try:
            with self._starting:
                self._executor = self._executor or ThreadPoolExecutor(self._count, self._name)
                future = self._executor.submit(work)
        except BaseException:
            self._room.release()
            raise
        # The future frees the place, not the caller: a caller that is cancelled goes away, its
        # thread works on.
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the threads after the work they have; does not wait. A later use starts new ones."""
        with self._starting:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
