"""What the drivers of brokers share: FastStream's broker, connected when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from faststream._internal.broker import BrokerUsecase

__all__ = ["Link"]

CONNECT_SECONDS: Final = 3.0
CLOSE_SECONDS: Final = 2.0

B = TypeVar("B", bound=BrokerUsecase[Any, Any, Any])


class Link(Generic[B]):
    """One FastStream broker at a time, as ``make`` builds it.

    The clients below FastStream come back by themselves in different ways, some never. So most
    drivers drop the client when a ping fails (``close``), and what comes next connects anew.
    """

    def __init__(self, make: Callable[[], B]) -> None:
        self._make = make
        self._broker: B | None = None
        self._connecting = asyncio.Lock()

    async def connected(self) -> B:
        """Return the broker, connected; raises what the client raises, or ``TimeoutError``."""
        async with self._connecting:
            if self._broker is None:
                broker = self._make()
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await broker.connect()
                except BaseException:
                    await _stop(broker)
                    raise
                self._broker = broker
            return self._broker

    async def close(self) -> None:
        """Give the connection up, whatever its state."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await _stop(broker)


async def _stop(broker: BrokerUsecase[Any, Any, Any]) -> None:
    with suppress(Exception):  # a client that has lost its server may fail at saying good-bye
        async with asyncio.timeout(CLOSE_SECONDS):
            await broker.stop()
