"""Events on Redis or Valkey streams, with FastStream (the extra ``newel[redis]``)."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import parse_qs, urlencode, urlsplit

from faststream.redis import BinaryMessageFormatV1, RedisBroker

from newel.broker import Message
from newel.drivers.faststream_link import Link
from newel.errors import ConfigurationError

__all__ = ["RedisEvents", "connect"]

KEPT_ENTRIES: Final = 1_000_000


class _AsItIs(BinaryMessageFormatV1):
    """The body and nothing around it, which clients in any language read; FastStream's too."""

    @classmethod
    async def encode(cls, *, message: Any, **_: Any) -> bytes:
        return message


class RedisEvents(Link[RedisBroker]):
    """Adds an entry to the stream that is the topic: one field, ``__data__``, with the event.

    The stream is cut to about ``?maxlen=`` entries, a million by default. A stream and not
    publish/subscribe: that would lose what nobody reads at the moment.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        given = query.pop("maxlen", [str(KEPT_ENTRIES)])[-1]
        if not given.isdecimal() or int(given) == 0:
            raise ConfigurationError(
                "BROKER_URL has a maxlen= that is no number of entries", fix="write ?maxlen=1000000"
            )
        self._kept = int(given)
        address = parts._replace(query=urlencode(query, doseq=True)).geturl()
        silent = cast("Any", None)  # as for the other brokers; the annotation leaves it out
        super().__init__(lambda: RedisBroker(address, message_format=_AsItIs, logger=silent))

    async def publish(self, message: Message) -> None:
        """See ``Broker.publish``."""
        broker = await self.connected()
        await broker.publish(message.body(), stream=message.topic, maxlen=self._kept)

    async def ping(self) -> None:
        """See ``Broker.ping``."""
        try:
            client: Any = await (await self.connected()).connect()  # redis leaves types open
            await client.ping()
        except BaseException:
            await self.close()
            raise


def connect(url: str) -> RedisEvents:
    """Return the driver for ``url``; connects with the first message."""
    return RedisEvents(url)
