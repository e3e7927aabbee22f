"""Messages of webhooks: endpoints and what is posted to them, signed, retried and replayable.

    await send_webhooks(work, OrderPaid(id=order.id), owner_id=order.owner_id)

Each message is a row of the transaction that it tells of, and a job that posts it after the commit
through ``outgoing``. ``webhooks`` puts this together with the routes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

from fastapi import FastAPI
from pydantic import TypeAdapter
from pydantic_core import to_json
from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, Text, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from newel.clock import utc_now
from newel.db import Database, Work
from newel.entity import Owned
from newel.events import Event, event_type
from newel.jobs import Backoff, GiveUp, JobRun, job
from newel.outgoing import Destinations, OutgoingError, lan, outgoing_client, public
from newel.signatures import show_secret, sign
from newel.tokens import KeyRing, Sealer

__all__ = [
    "DeliveryState",
    "WebhookDelivery",
    "WebhookEndpoint",
    "deliver_webhook",
    "event_type",
    "purge_webhooks",
    "replay_webhook",
    "send_message",
    "send_webhooks",
    "set_secret",
    "webhook_destinations",
]

DeliveryState = Literal["pending", "delivered", "failed"]

KEPT: Final = timedelta(days=30)


# --------------------------------------------------------------------------------------------- rows


class WebhookEndpoint(Owned):
    """Where a user wants to be told of ``events`` (names as ``event_type`` writes them).

    The sealed secrets are set by ``set_secret``; nobody reads them in the database.
    """

    __tablename__ = "webhook_endpoints"

    url: Mapped[str] = mapped_column(String(2048))
    events: Mapped[list[str]] = mapped_column(JSON)
    is_active: Mapped[bool] = mapped_column(default=True)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary, default=b"", repr=False)
    sealed_old_secret: Mapped[bytes | None] = mapped_column(LargeBinary, default=None, repr=False)
    old_secret_until: Mapped[datetime | None] = mapped_column(default=None)

    __table_args__: ClassVar[Any] = (  # ty: ignore[incompatible-attribute-override] - no field
        {"info": {"kernel": True}},
    )

    @classmethod
    def resource_name(cls) -> str:
        return "webhook"


class WebhookDelivery(Owned):
    """A message to one endpoint: its ``id`` is the ``webhook-id``, the same at every attempt."""

    __tablename__ = "webhook_deliveries"

    endpoint_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), index=True
    )
    type: Mapped[str] = mapped_column(String(128))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[DeliveryState] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    answer: Mapped[str | None] = mapped_column(String(16), default=None)

    __table_args__: ClassVar[Any] = (  # ty: ignore[incompatible-attribute-override] - no field
        Index("ix_webhook_deliveries_created_at", "created_at"),  # for the purge
        {"info": {"kernel": True}},
    )


def set_secret(
    endpoint: WebhookEndpoint, keys: KeyRing, *, keep_old: timedelta = timedelta()
) -> str:
    """Give ``endpoint`` a new secret and return it: to be shown to its owner, this once.

    For ``keep_old`` messages are signed by the one before, too, so that none is refused meanwhile.
    """
    secret = secrets.token_bytes(32)
    kept = keep_old > timedelta() and endpoint.sealed_secret != b""
    endpoint.sealed_old_secret = endpoint.sealed_secret if kept else None
    endpoint.old_secret_until = utc_now() + keep_old if kept else None
    endpoint.sealed_secret = Sealer(keys, "webhook").seal(secret, context=endpoint.id.bytes)
    return show_secret(secret)


def _secrets_of(endpoint: WebhookEndpoint, keys: KeyRing) -> list[bytes]:
    sealed = [endpoint.sealed_secret]
    if endpoint.sealed_old_secret and (endpoint.old_secret_until or utc_now()) > utc_now():
        sealed.append(endpoint.sealed_old_secret)
    sealer = Sealer(keys, "webhook")
    return [sealer.open(each, context=endpoint.id.bytes) for each in sealed]


# ------------------------------------------------------------------------------------------ sending


def webhook_destinations(app: FastAPI) -> Destinations:
    """Return where webhooks of ``app`` may go: https on the internet, or ``WEBHOOK_NETWORKS``."""
    networks: Sequence[str] = app.state.settings.webhook_networks
    return lan(networks, ports=range(1, 65_536)) if networks else public()


async def send_webhooks(work: Work, event: Event, *, owner_id: UUID) -> Sequence[UUID]:
    """Record a message to each endpoint of ``owner_id`` that wants ``event``; return their ids.

    They leave after the commit of ``work``, or never.
    """
    name = event_type(type(event))
    data = TypeAdapter[Any](type(event)).dump_python(event, mode="json")
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.owner_id == owner_id, WebhookEndpoint.is_active
    )
    wanting = [found for found in await work.session.scalars(query) if name in found.events]
    return [send_message(work, endpoint, name, data).id for endpoint in wanting]


def send_message(
    work: Work, endpoint: WebhookEndpoint, name: str, data: Mapping[str, Any]
) -> WebhookDelivery:
    """Record a message of the type ``name`` to one endpoint, whatever it asks for."""
    body = to_json({"type": name, "timestamp": utc_now(), "data": data}).decode()
    message = WebhookDelivery(
        owner_id=endpoint.owner_id, endpoint_id=endpoint.id, type=name, body=body
    )
    work.session.add(message)
    work.enqueue(deliver_webhook, message.id)
    return message


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
    if row is None or not row[1].is_active or row[0].state == "delivered":
        return  # it was removed, switched off or replayed meanwhile
    answer = await _post(run.app, row[0], row[1])
    delivered = answer.startswith("2")
    hopeless = answer in {"410", "scheme", "port", "host"}
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
    content = message.body.encode()
    keys = _secrets_of(endpoint, app.state.keys)
    headers = {
        "content-type": "application/json",
        **sign(keys, str(message.id), content, at=utc_now()),
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
