"""Events in Kafka's topics, with FastStream (the extra ``newel[kafka]``)."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from newel.broker import Message
from newel.drivers.faststream_link import Link
from newel.errors import ConfigurationError

__all__ = ["KafkaEvents", "connect"]

ANSWER_MS: Final = 4000
_LOGINS: Final = {
    "plain": SASLPlaintext,
    "scram-sha-256": SASLScram256,
    "scram-sha-512": SASLScram512,
}


class KafkaEvents(Link[KafkaBroker]):
    """Writes to the topic; the entity is the key, so that its events share a partition.

    ``kafka://one:9092,two:9092`` in the clear, ``kafkas://`` by TLS; with ``user:password@`` logs
    in by SASL, ``?sasl=plain`` (the default), ``scram-sha-256`` or ``scram-sha-512``.
    """

    def __init__(self, url: str) -> None:
        servers = urlsplit(url).netloc.rpartition("@")[2].split(",")
        security = _security(url)
        super().__init__(
            lambda: KafkaBroker(
                servers,
                security=security,
                acks="all",  # on every replica that is in step
                enable_idempotence=True,  # what the client repeats by itself is there once
                request_timeout_ms=ANSWER_MS,
                graceful_timeout=None,
                logger=None,
            )
        )

    async def publish(self, message: Message) -> None:
        """See ``Broker.publish``."""
        broker = await self.connected()
        await broker.publish(
            message.body(),
            message.topic,
            key=str(message.aggregate_id).encode(),
            headers=message.headers(),
            correlation_id=message.request_id or str(message.id),
        )

    async def ping(self) -> None:
        """See ``Broker.ping``.

        One that fails keeps the client, unlike other drivers': it comes back by itself, and cannot
        be stopped while it still has something to send.
        """
        await (await self.connected()).config.admin_client.describe_cluster()


def _security(url: str) -> BaseSecurity:
    parts = urlsplit(url)
    uses_tls = parts.scheme == "kafkas"
    if parts.username is None:
        return BaseSecurity(use_ssl=uses_tls)
    login = _LOGINS.get(parse_qs(parts.query).get("sasl", ["plain"])[-1])
    if login is None:
        raise ConfigurationError(
            "BROKER_URL has a sasl= that means nothing", fix=f"write one of {', '.join(_LOGINS)}"
        )
    password = unquote(parts.password or "")
    return login(username=unquote(parts.username), password=password, use_ssl=uses_tls)


def connect(url: str) -> KafkaEvents:
    """Return the driver for ``url``; connects with the first message."""
    return KafkaEvents(url)
