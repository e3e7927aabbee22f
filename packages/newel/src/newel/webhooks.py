"""Webhooks: events that leave for addresses which users give, signed, retried, and replayable.

    async with work.as_system("tell the owner's systems"):
        await send_webhooks(work, AgentCreated(id=agent.id), owner_id=agent.owner_id)

Signed by Standard Webhooks (https://www.standardwebhooks.com), called through ``outgoing``. Rows
belong to the user whose endpoint it is. ``verify_webhook`` is for the other side.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic_core import to_json
from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, Text, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from newel.clock import utc_now
from newel.db import Database, Work
from newel.entity import Owned
from newel.errors import BadRequest
from newel.events import Event
from newel.jobs import Backoff, GiveUp, JobRun, job
from newel.outgoing import Destinations, OutgoingError, lan, outgoing_client, public
from newel.tokens import KeyRing, Sealer

__all__ = [
    "WebhookDelivery",
    "WebhookEndpoint",
    "deliver_webhook",
    "event_type",
    "purge_webhooks",
    "replay_webhook",
    "send_webhooks",
    "set_secret",
    "sign",
    "verify_webhook",
    "webhook_destinations",
]

KEPT: Final = timedelta(days=30)
TOLERANCE: Final = timedelta(minutes=5)
"""How far the clocks of the two sides may be apart; an older message is a replay by somebody."""

_SECRET: Final = "whsec_"  # noqa: S105 - how the specification marks one
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


class WebhookEndpoint(Owned):
    """Where a user wants to be told of ``events`` (names as ``event_type`` writes them).

    ``sealed_secret`` is set by ``set_secret``; nobody reads it in the database.
    """

    __tablename__ = "webhook_endpoints"

    url: Mapped[str] = mapped_column(String(2048))
    events: Mapped[list[str]] = mapped_column(JSON)
    is_active: Mapped[bool] = mapped_column(default=True)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary, default=b"", repr=False)

    __table_args__: Any = ({"info": {"kernel": True}},)


class WebhookDelivery(Owned):
    """A message to one endpoint: its ``id`` is the ``webhook-id``, the same at every attempt."""

    __tablename__ = "webhook_deliveries"

    endpoint_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), index=True
    )
    type: Mapped[str] = mapped_column(String(128))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[Literal["pending", "delivered", "failed"]] = mapped_column(
        String(16), default="pending"
    )
    attempts: Mapped[int] = mapped_column(default=0)
    answer: Mapped[str | None] = mapped_column(String(16), default=None)

    __table_args__: Any = (
        Index("ix_webhook_deliveries_created_at", "created_at"),  # for the purge
        {"info": {"kernel": True}},
    )


def webhook_destinations(app: FastAPI) -> Destinations:
    """Return where webhooks of ``app`` may go: https on the internet, or ``WEBHOOK_NETWORKS``.

    ``webhook_destinations(app).check(url)`` refuses a bad address before it is kept.
    """
    networks: Sequence[str] = app.state.settings.webhook_networks
    return lan(networks, ports=range(1, 65_536)) if networks else public()


def set_secret(endpoint: WebhookEndpoint, keys: KeyRing) -> str:
    """Give ``endpoint`` a new secret and return it: to be shown to its owner, this once."""
    secret = secrets.token_bytes(32)
    endpoint.sealed_secret = Sealer(keys, "webhook").seal(secret, context=endpoint.id.bytes)
    return _SECRET + base64.b64encode(secret).decode()


def event_type(event: type[Event]) -> str:
    """Return how an event is called outside: ``order_item.added`` for ``OrderItemAdded``."""
    *subject, verb = _WORD.sub(" ", event.__name__).lower().split()
    return ".".join(filter(None, ("_".join(subject), verb)))


async def send_webhooks(work: Work, event: Event, *, owner_id: UUID) -> Sequence[UUID]:
    """Record a message to each endpoint of ``owner_id`` that wants ``event``; return their ids.

    They leave after the commit of ``work``, or never.
    """
    name = event_type(type(event))
    data = TypeAdapter[Any](type(event)).dump_python(event, mode="json")
    body = to_json({"type": name, "timestamp": utc_now(), "data": data}).decode()
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.owner_id == owner_id, WebhookEndpoint.is_active
    )
    wanting = [found for found in await work.session.scalars(query) if name in found.events]
    messages = [
        WebhookDelivery(owner_id=owner_id, endpoint_id=endpoint.id, type=name, body=body)
        for endpoint in wanting
    ]
    work.session.add_all(messages)
    for message in messages:
        work.enqueue(deliver_webhook, message.id)
    return [message.id for message in messages]


def replay_webhook(work: Work, message: WebhookDelivery) -> None:
    """Have a message sent again, whatever became of it: the same id, signed afresh."""
    message.state = "pending"
    work.enqueue(deliver_webhook, message.id)


@job(
    name="deliver_webhook",
    as_system="deliver a webhook",
    retries=9,  # over a day and a half
    backoff=Backoff(first_seconds=5, factor=5, longest_seconds=36_000),
    timeout_seconds=60,
)
async def deliver_webhook(run: JobRun, message_id: UUID) -> None:
    """Send a message; a 2xx answer is a delivery, 410 switches the endpoint off."""
    database: Database = run.app.state.database
    query = select(WebhookDelivery, WebhookEndpoint).join(
        WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id
    )
    async with database.read(None) as work, work.as_system("read a message"):
        found = await work.session.execute(query.where(WebhookDelivery.id == message_id))
        row = found.one_or_none()
    if row is None or not row[1].is_active:
        return  # it was removed or switched off meanwhile
    answer = await _post(run.app, row[0], row[1])
    delivered = answer.startswith("2")
    hopeless = answer in {"410", "scheme", "port", "host", "address"}
    failed = hopeless or run.attempt > deliver_webhook.retries
    async with database.write(None) as work, work.as_system("note what became of a message"):
        message = await work.session.get_one(WebhookDelivery, message_id)
        message.attempts += 1
        message.answer = answer
        message.state = "delivered" if delivered else "failed" if failed else "pending"
        if answer == "410":
            (await work.session.get_one(WebhookEndpoint, row[1].id)).is_active = False
    if not delivered:
        raise GiveUp(answer) if hopeless else UndeliveredError(answer)


class UndeliveredError(Exception):
    """The endpoint did not take the message: to be tried again."""


async def _post(app: FastAPI, message: WebhookDelivery, endpoint: WebhookEndpoint) -> str:
    """Return the status of the answer, or why there was none."""
    secret = Sealer(app.state.keys, "webhook").open(
        endpoint.sealed_secret, context=endpoint.id.bytes
    )
    content = message.body.encode()
    headers = {
        "content-type": "application/json",
        **sign(secret, str(message.id), content, at=utc_now()),
    }
    try:
        async with outgoing_client(webhook_destinations(app), max_response_bytes=65_536) as client:
            answer = await client.post(endpoint.url, content=content, headers=headers)
    except OutgoingError as error:
        return error.reason
    return str(answer.status_code)


@job(name="purge_webhooks", as_system="remove old webhook messages")
async def purge_webhooks(run: JobRun) -> None:
    """Remove messages that are older than 30 days; for a schedule."""
    old = WebhookDelivery.created_at < utc_now() - KEPT
    await run.work.session.execute(delete(WebhookDelivery).where(old))


# --------------------------------------------------------------------------------------- signatures


def sign(secret: bytes, message_id: str, body: bytes, *, at: datetime) -> dict[str, str]:
    """Return the headers that prove a message: its id, the time, and the signature of all."""
    seconds = str(int(at.timestamp()))
    signed = f"{message_id}.{seconds}.".encode() + body
    mac = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{mac}",
    }


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime | None = None
) -> str:
    """Return the id of a message that somebody sent us, once it is proved; for ``inbox``.

    ``secret`` is the ``whsec_...`` that the sender has shown; ``headers`` are the request's. Raises
    ``BadRequest`` in the same words for whatever is wrong.
    """
    message_id = headers.get("webhook-id", "")
    try:
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), utc_now().tzinfo)
        key = base64.b64decode(secret.removeprefix(_SECRET), validate=True)
    except (KeyError, ValueError, OverflowError, OSError):
        raise BadRequest(_UNPROVED) from None
    wanted = sign(key, message_id, body, at=at)["webhook-signature"].encode()
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split(b" ")
    matches = [hmac.compare_digest(wanted, each) for each in given]  # several while keys change
    if not message_id or not any(matches) or abs((now or utc_now()) - at) > TOLERANCE:
        raise BadRequest(_UNPROVED)
    return message_id


_UNPROVED: Final = "The webhook is not signed by its sender, or it is too old."
