"""Webhooks: events that leave for addresses which users give, signed, retried, and replayable.

    async def owner_of(work: Work, event: OrderPaid) -> UUID | None:
        order = await work.session.get(Order, event.id)
        return order and order.owner_id

    app = create_app(Settings(), users, webhooks.module(OrderPaid, owner_of=owner_of))

Users keep their endpoints under ``/webhooks``; each event is posted to those of its owner that want
it, signed by Standard Webhooks (https://www.standardwebhooks.com). ``signatures`` is for who
receives them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from fastapi import Depends, Request

from newel.db import Work
from newel.events import Event
from newel.handlers import Handler, on
from newel.jobs import JobRun
from newel.modules import Module
from newel.schedules import schedule
from newel.signatures import sign, verify_webhook
from newel.webhook_messages import (
    WebhookDelivery,
    WebhookEndpoint,
    deliver_webhook,
    event_type,
    purge_webhooks,
    replay_webhook,
    send_webhooks,
    set_secret,
    webhook_destinations,
)
from newel.webhook_routes import webhook_router

__all__ = [
    "OwnerOf",
    "WebhookDelivery",
    "WebhookEndpoint",
    "deliver_webhook",
    "event_type",
    "module",
    "purge_webhooks",
    "replay_webhook",
    "send_webhooks",
    "set_secret",
    "sign",
    "verify_webhook",
    "webhook_destinations",
]

OwnerOf = Callable[[Work, Any], Awaitable[UUID | None]]
"""Returns whose endpoints are told of an event; ``None``: nobody's. It sees everybody's rows."""


def module(*events: type[Event], owner_of: OwnerOf | None = None) -> Module:
    """Return the module with the routes of endpoints, and what posts ``events`` to them.

    Each event is told to the endpoints of ``owner_of(work, event)``. Without ``owner_of`` nothing
    is told by itself: the service calls ``send_webhooks`` where it sees fit.
    """
    types = {event_type(event): event for event in events}
    return Module(
        "webhooks",
        description="Events for other systems",
        routers=[webhook_router],
        dependencies=[Depends(_Types(types))],
        jobs=[deliver_webhook, purge_webhooks],
        handlers=[] if owner_of is None else [_teller(event, owner_of) for event in events],
        schedules=[schedule("17 * * * *", purge_webhooks)],
    )


class _Types:
    """Tells the routes which events there are."""

    def __init__(self, types: Mapping[str, type[Event]]) -> None:
        self._types = types

    async def __call__(self, request: Request) -> None:
        request.state.webhook_types = self._types


def _teller(event: type[Event], owner_of: OwnerOf) -> Handler[Any]:
    async def tell(run: JobRun, happened: Event) -> None:
        owner_id = await owner_of(run.work, happened)
        if owner_id is not None:
            await send_webhooks(run.work, happened, owner_id=owner_id)

    tell.__annotations__["happened"] = event  # which one is known only here
    declare = on(event, name=f"webhooks_{event.__name__}", as_system="tell the owner's systems")
    return declare(tell)
