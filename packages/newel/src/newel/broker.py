"""The message broker behind ``BROKER_URL``: where events go that other systems want to know of.

    broker = open_broker("nats://localhost:4222")
    await broker.publish(message)     # returns when the broker has it, and keeps it

A service does not call it: ``work.publish`` records an event, and the worker's ``publisher`` sends
it after the commit. The drivers are one file a technology, over FastStream and nats-py.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from pydantic_core import to_json

from newel.errors import ConfigurationError
from newel.extras import import_driver

__all__ = ["Broker", "MemoryBroker", "Message", "full_topic", "open_broker"]

CONTENT_TYPE: Final = "application/cloudevents+json"

_FIX: Final = (
    "write nats://host:4222, redis://host:6379/0, kafka://host:9092, amqp://user:password@host/ "
    "or memory:, or leave it out"
)
_DRIVERS: Final[Mapping[str, str]] = {
    "amqp": "rabbit",
    "amqps": "rabbit",
    "kafka": "kafka",
    "kafkas": "kafka",
    "nats": "nats",
    "redis": "redis",
    "rediss": "redis",
    "tls": "nats",
}
_KEPT: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event as it leaves: one CloudEvent, version 1.0, in JSON.

    ``topic`` is where it goes; ``aggregate_id`` the entity it happened to, whose messages stay in
    order; ``position`` grows from each of them to the next.
    """

    id: UUID
    topic: str
    type: str
    source: str
    aggregate_id: UUID
    position: int
    occurred_at: datetime
    data: Mapping[str, Any]
    request_id: str | None = None
    traceparent: str | None = None

    def body(self) -> bytes:
        """Return it as CloudEvents' structured JSON, which consumers in any language can read."""
        return to_json(
            {
                "specversion": "1.0",
                "id": str(self.id),
                "source": self.source,
                "type": self.type,
                "subject": str(self.aggregate_id),
                "time": self.occurred_at.astimezone(UTC),
                "sequence": f"{self.position:020d}",  # compares as a text, too
                "datacontenttype": "application/json",
                **({"requestid": self.request_id} if self.request_id else {}),
                **({"traceparent": self.traceparent} if self.traceparent else {}),
                "data": self.data,
            }
        )

    def headers(self) -> dict[str, str]:
        """Return what a consumer may want to know without reading the body."""
        return {
            "content-type": CONTENT_TYPE,
            "message_id": str(self.id),  # FastStream's word
            "type": self.type,
            "aggregate": str(self.aggregate_id),
            **({"traceparent": self.traceparent} if self.traceparent else {}),
        }


class Broker(Protocol):
    """What takes messages: the port behind ``BROKER_URL``."""

    async def publish(self, message: Message) -> None:
        """Return when the broker has ``message`` and will not lose it; raise anything if not."""
        ...

    async def ping(self) -> None:
        """Return when the broker answers; raise anything if it does not."""
        ...

    async def close(self) -> None:
        """Close the connection; one that never was, too."""
        ...


class MemoryBroker:
    """Keeps the last messages in ``sent``: for tests and for a look while developing."""

    def __init__(self) -> None:
        self.sent: deque[Message] = deque(maxlen=_KEPT)

    async def publish(self, message: Message) -> None:
        """See ``Broker.publish``."""
        self.sent.append(message)

    async def ping(self) -> None:
        """See ``Broker.ping``."""

    async def close(self) -> None:
        """See ``Broker.close``."""


def full_topic(topic: str, *, service: str) -> str:
    """Return ``topic`` with the service's name before it, unless it has a dot: then as it is."""
    return topic if "." in topic else f"{re.sub('[^A-Za-z0-9_-]+', '-', service)}.{topic}"


def open_broker(url: str) -> Broker:
    """Return what ``BROKER_URL`` asks for; connects to nothing yet.

    Raises ``ConfigurationError`` for what is no broker's address, or whose driver is not installed.
    """
    if url == "memory:":
        return MemoryBroker()
    parts = urlsplit(url)
    name = _DRIVERS.get(parts.scheme)
    if name is None or not parts.hostname:
        raise ConfigurationError("BROKER_URL is not the address of a broker", fix=_FIX)
    driver = import_driver(
        f"{name}_broker", extra=name, asked=f"BROKER_URL asks for {parts.scheme}"
    )
    broker: Broker = driver.connect(url)
    return broker
