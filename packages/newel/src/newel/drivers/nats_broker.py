"""Events on NATS JetStream, with FastStream (the extra ``newel[nats]``)."""

from __future__ import annotations

from typing import Any, Final

from faststream.nats import NatsBroker
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from newel.broker import Message
from newel.drivers.faststream_link import Link

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
        servers = url.split(",")
        self._link = Link(
            lambda: NatsBroker(
                servers,
                allow_reconnect=False,  # the link does
                max_reconnect_attempts=1,  # of each server while we connect, at once
                reconnect_time_wait=0,
                error_cb=_leave_it_to_the_publisher,
                logger=None,
            )
        )
        self._streams: set[str] = set()

    async def publish(self, message: Message) -> None:
        """See ``Broker.publish``."""
        broker = await self._link.connected()
        stream = message.topic.partition(".")[0]
        await self._ensure(stream, broker)
        try:
            await broker.publish(
                message.body(),
                message.topic,
                headers={**message.headers(), "Nats-Msg-Id": str(message.id)},
                correlation_id=message.request_id or str(message.id),
                stream=stream,
            )
        except Exception:
            self._streams.discard(stream)  # somebody may have removed it: looked for the next time
            raise

    async def _ensure(self, name: str, broker: NatsBroker) -> None:
        """Make the stream if there is none; one that is there stays as its owner wants it."""
        if name in self._streams:
            return
        client: Any = await broker.connect()  # nats-py leaves parameters without a type
        streams = client.jetstream()
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
            client = await (await self._link.connected()).connect()
            await client.flush(timeout=ANSWER_SECONDS)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See ``Broker.close``."""
        self._streams.clear()  # the server may come back without them
        await self._link.close()


async def _leave_it_to_the_publisher(_: Exception) -> None:
    """Log nothing, where nats-py would log each attempt with its trace."""


def connect(url: str) -> NatsEvents:
    """Return the driver for ``url``; connects with the first message."""
    return NatsEvents(url)
