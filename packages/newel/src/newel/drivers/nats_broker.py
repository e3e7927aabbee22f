"""Events on NATS JetStream, with nats-py (the extra ``newel[nats]``).

Its client itself, and not FastStream's broker around it: who gives up connecting to a silent server
has to close what there is of a connection, and that broker has no name for it yet.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from newel.broker import Message
from newel.drivers.nats import close_client, open_client

__all__ = ["NatsEvents", "connect"]

KEPT_SECONDS: Final = 7 * 86_400.0
REMEMBERED_SECONDS: Final = 600.0
"""How long JetStream knows an id again: longer than a broker's restart, and cheap."""

ANSWER_SECONDS: Final = 2


class NatsEvents:
    """Publishes to the subject that is the topic, in the stream that is its first word.

    ``url`` may name several servers, ``nats://one:4222,nats://two:4222``.
    """

    def __init__(self, url: str) -> None:
        self._servers = url.split(",")
        self._client: Any = None  # nats-py leaves parameters without a type
        self._connecting = asyncio.Lock()
        self._streams: set[str] = set()

    async def publish(self, message: Message) -> None:
        """See ``Broker.publish``."""
        streams = (await self._connected()).jetstream()
        stream = message.topic.partition(".")[0]
        await self._ensure(stream, streams)
        headers = {**message.headers(), "Nats-Msg-Id": str(message.id)}
        headers["correlation_id"] = message.request_id or str(message.id)  # FastStream's word
        try:
            await streams.publish(message.topic, message.body(), stream=stream, headers=headers)
        except Exception:
            self._streams.discard(stream)  # somebody may have removed it: looked for the next time
            raise

    async def _ensure(self, name: str, streams: Any) -> None:
        """Make the stream if there is none; one that is there stays as its owner wants it."""
        if name in self._streams:
            return
        try:
            await streams.stream_info(name)
        except NotFoundError:
            wanted = StreamConfig(
                name=name,
                subjects=[name, f"{name}.>"],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                max_age=KEPT_SECONDS,
                duplicate_window=REMEMBERED_SECONDS,
            )
            await streams.add_stream(wanted)
        self._streams.add(name)

    async def ping(self) -> None:
        """See ``Broker.ping``."""
        try:
            await (await self._connected()).flush(timeout=ANSWER_SECONDS)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection at once: a silent server would not hear a good-bye."""
        self._streams.clear()  # the server may come back without them
        client, self._client = self._client, None
        if client is not None:
            await close_client(client)

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                self._client = await open_client(
                    self._servers,
                    allow_reconnect=False,  # who pings does
                    max_reconnect_attempts=1,  # of each server while we connect, at once
                    reconnect_time_wait=0,
                    error_cb=_leave_it_to_the_publisher,
                )
            return self._client


async def _leave_it_to_the_publisher(_: Exception) -> None:
    """Log nothing, where nats-py would log each attempt with its trace."""


def connect(url: str) -> NatsEvents:
    """Return the driver for ``url``; connects with the first message."""
    return NatsEvents(url)
