"""What runs beside a block ends with it, also when it does not listen at once."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anyio
import pytest
from sample_jobs import until

from newel.tasks import beside, end_tasks

pytestmark = pytest.mark.anyio


async def deaf(swallowed: list[bool], *, times: int = 1) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if len(swallowed) == times:
                raise
            swallowed.append(True)


async def fails_to_clean_up() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise OSError("gone")


async def test_work_lasts_as_long_as_the_block() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with anyio.fail_after(20):
        async with beside(work(), work()):
            await begun.wait()
            assert not ended.is_set()
    assert ended.is_set()


async def test_a_block_that_fails_ends_it_too() -> None:
    swallowed: list[bool] = []

    async def block() -> None:
        async with beside(deaf(swallowed)):
            await asyncio.sleep(0)  # it listens
            raise ZeroDivisionError

    with anyio.fail_after(20), pytest.raises(ZeroDivisionError):
        await block()
    assert swallowed


async def test_a_cancellation_that_is_swallowed_is_repeated() -> None:
    swallowed: list[bool] = []
    task = asyncio.create_task(deaf(swallowed, times=2))
    await asyncio.sleep(0)

    with anyio.fail_after(20):
        await end_tasks([task])

    assert task.cancelled()
    assert swallowed == [True, True]


async def test_what_fails_says_so_itself() -> None:
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: said.append(what))
    with anyio.fail_after(20):
        async with beside(fails_to_clean_up()):
            await asyncio.sleep(0)
    gc.collect()  # asyncio writes then what nobody asked for

    assert not said


async def test_whoever_ends_tasks_can_be_told_to_stop() -> None:
    swallowed: list[bool] = []
    deaf_one = asyncio.create_task(deaf(swallowed))
    await asyncio.sleep(0)
    ending = asyncio.create_task(end_tasks([deaf_one]))
    with anyio.fail_after(20):
        await until(lambda: swallowed)

    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending

    with anyio.fail_after(20):
        await end_tasks([deaf_one])


async def test_nothing_to_end() -> None:
    with anyio.fail_after(20):
        await end_tasks([])
        async with beside():
            pass
