"""Events at a topic exchange of RabbitMQ, with FastStream (the extra ``newel[rabbit]``)."""

from __future__ import annotations

from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange

from newel.broker import CONTENT_TYPE, Message
from newel.drivers.faststream_link import Link

__all__ = ["RabbitEvents", "connect"]


class RabbitEvents(Link[RabbitBroker]):
    """Publishes, persistent and confirmed, to the exchange that is the topic's first word.

    The routing key is the topic. Queues are the consumers'; what no queue is bound for is dropped.
    """

    def __init__(self, url: str) -> None:
        super().__init__(lambda: RabbitBroker(url, logger=None))

    async def publish(self, message: Message) -> None:
        """See ``Broker.publish``."""
        broker = await self.connected()
        name = message.topic.partition(".")[0]
        await broker.publish(
            message.body(),
            exchange=RabbitExchange(name, type=ExchangeType.TOPIC, durable=True),
            routing_key=message.topic,
            mandatory=False,  # nobody has to listen
            persist=True,
            message_id=str(message.id),
            message_type=message.type,
            content_type=CONTENT_TYPE,
            headers=dict(message.headers()),
            correlation_id=message.request_id or str(message.id),
        )

    async def ping(self) -> None:
        """See ``Broker.ping``."""
        try:
            connection = await (await self.connected()).connect()
            async with connection.channel():
                pass
        except BaseException:
            await self.close()
            raise


def connect(url: str) -> RabbitEvents:
    """Return the driver for ``url``; connects with the first message."""
    return RabbitEvents(url)
