"""Webhooks over HTTP: each user's endpoints, their secrets, and what became of each message.

``webhooks.module`` mounts these routes, below ``/webhooks``. They need ``webhooks:read`` and
``webhooks:write``; another user's endpoints are not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from sqlalchemy import func, select

from newel.auth import limit, requires
from newel.concurrency import IfMatch, Tagged, Versions, check_version
from newel.db import CurrentWork, Work
from newel.depends import CursorSigner
from newel.errors import Conflict, FieldError, Invalid, NotFound
from newel.events import Event
from newel.outgoing import OutgoingError, check_destination
from newel.pages import CursorQuery, KeysetPage, KeysetSlice, Page, PageQuery, Slice
from newel.principal import Principal
from newel.repository import Repository
from newel.schemas import EntityRead, InputModel, Text, omittable
from newel.tokens import Signer
from newel.webhook_messages import (
    DeliveryState,
    WebhookDelivery,
    WebhookEndpoint,
    replay_webhook,
    send_message,
    set_secret,
    webhook_destinations,
)

__all__ = [
    "TEST_EVENT",
    "DeliveryDetail",
    "DeliveryQuery",
    "DeliveryRead",
    "EventType",
    "SecretChange",
    "WebhookCreate",
    "WebhookCreated",
    "WebhookQuery",
    "WebhookRead",
    "WebhookSecret",
    "WebhookService",
    "WebhookUpdate",
    "webhook_router",
]

MOST_ENDPOINTS: Final = 20
"""How many endpoints a user may have."""

TEST_EVENT: Final = "webhook.test"
"""The type of the message that a user asks for, to see whether it arrives."""

_HIDDEN: Final = frozenset({"address", "timeout", "unresolved"})
"""Reasons that would tell which names there are in our own network."""


def _shown(answer: str | None) -> str | None:
    return "unreachable" if answer in _HIDDEN else answer


# ------------------------------------------------------------------------------------------- bodies

Url = Annotated[
    Text, Field(min_length=1, max_length=2048, examples=["https://www.example.com/hook"])
]
EventNames = Annotated[
    list[Annotated[Text, Field(max_length=128)]],
    Field(min_length=1, max_length=100, examples=[["order.paid"]]),
]


class WebhookCreate(InputModel):
    """Where to tell of which events."""

    url: Url
    events: EventNames


class WebhookUpdate(InputModel):
    """What changes; ``is_active`` switches an endpoint off or, after a 410, on again."""

    url: Url = omittable()
    events: EventNames = omittable()
    is_active: bool = omittable()


class WebhookRead(EntityRead):
    """An endpoint as its owner sees it."""

    owner_id: UUID
    url: str
    events: list[str]
    is_active: bool
    old_secret_until: datetime | None


class WebhookCreated(WebhookRead):
    """A new endpoint with its secret, which is not shown again."""

    secret: str = Field(examples=["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"])


class SecretChange(InputModel):
    """For how long messages are signed by the secret before, too."""

    keep_old_hours: Annotated[int, Field(ge=0, le=168)] = 24


class WebhookQuery(PageQuery):
    """What a list of endpoints can be sorted and filtered by."""

    sort: Literal["created_at", "-created_at", "url", "-url"] = "-created_at"
    is_active: bool | None = None


class DeliveryRead(EntityRead):
    """A message; ``answer`` is the last status, or why there was none."""

    endpoint_id: UUID
    type: str
    state: DeliveryState
    attempts: int
    answer: Annotated[str | None, AfterValidator(_shown)]


class DeliveryDetail(DeliveryRead):
    """A message with the body that was sent."""

    body: str


class DeliveryQuery(CursorQuery):
    """What a list of messages can be filtered by; the newest come first."""

    sort: Annotated[str, Field(pattern="^-?id$", description="`-id` or `id`")] = "-id"
    state: DeliveryState | None = None
    type: Annotated[str, Field(max_length=128)] | None = None


class EventType(BaseModel):
    """An event that can be asked for, and what its ``data`` looks like as JSON schema."""

    type: str
    data: dict[str, Any]


class WebhookSecret(BaseModel):
    """A new secret, which is not shown again."""

    secret: str
    old_secret_until: datetime | None


# -------------------------------------------------------------------------------------------- rules


class EndpointRepository(Repository[WebhookEndpoint]):
    """The endpoints that the caller may see."""

    entity = WebhookEndpoint

    async def count_of(self, owner_id: UUID) -> int:
        """Return how many endpoints a user has."""
        counted = select(func.count()).select_from(WebhookEndpoint)
        mine = counted.where(WebhookEndpoint.owner_id == owner_id)
        return await self.session.scalar(mine) or 0


class DeliveryRepository(Repository[WebhookDelivery]):
    """The messages that the caller may see."""

    entity = WebhookDelivery

    async def of(
        self, endpoint: WebhookEndpoint, query: DeliveryQuery, signer: Signer
    ) -> KeysetSlice[WebhookDelivery]:
        """Return one page of the messages to an endpoint."""
        to_it = self.select().where(WebhookDelivery.endpoint_id == endpoint.id)
        return await self.keyset(query, signer, to_it)


class WebhookService:
    """The rules of endpoints and of their messages."""

    def __init__(
        self,
        request: Request,
        work: CurrentWork,
        endpoints: Annotated[EndpointRepository, Depends()],
        deliveries: Annotated[DeliveryRepository, Depends()],
    ) -> None:
        self.endpoints = endpoints
        self.deliveries = deliveries
        self._work: Work = work
        self._app: Any = request.app
        self._types: Mapping[str, type[Event]] = request.state.webhook_types

    def types(self) -> list[EventType]:
        """Return what can be asked for."""
        return [
            EventType(type=name, data=TypeAdapter[Any](event).json_schema())
            for name, event in sorted(self._types.items())
        ]

    async def create(self, caller: Principal, data: WebhookCreate) -> WebhookCreated:
        """Add an endpoint of the caller's; raises ``Invalid``, ``Conflict`` above the limit."""
        await self._check(data.model_dump())
        if await self.endpoints.count_of(caller.user_id) >= MOST_ENDPOINTS:
            raise Conflict(f"There are {MOST_ENDPOINTS} webhooks already: delete one first.")
        endpoint = WebhookEndpoint(owner_id=caller.user_id, url=data.url, events=data.events)
        secret = set_secret(endpoint, self._app.state.keys)
        await self.endpoints.add(endpoint)
        read = WebhookRead.model_validate(endpoint)
        return WebhookCreated(**read.model_dump(), secret=secret)

    async def update(
        self, webhook_id: UUID, data: WebhookUpdate, expected: Versions
    ) -> WebhookEndpoint:
        """Change an endpoint; raises ``Invalid`` for an address that may not be called."""
        await self.endpoints.reading(WebhookRead).get(webhook_id)  # not found comes first
        await self._check(data.changes())  # waits for name servers: before anything is held
        endpoint = await self.endpoints.get_changeable(webhook_id)
        check_version(endpoint.version, expected)
        return await self.endpoints.update(endpoint, data.changes())

    async def delete(self, webhook_id: UUID, expected: Versions) -> None:
        """Remove an endpoint with its messages."""
        endpoint = await self.endpoints.get_changeable(webhook_id)
        check_version(endpoint.version, expected)
        await self.endpoints.delete(endpoint)

    async def change_secret(self, webhook_id: UUID, data: SecretChange) -> WebhookSecret:
        """Give an endpoint a new secret."""
        endpoint = await self.endpoints.get_changeable(webhook_id)
        keep = timedelta(hours=data.keep_old_hours)
        secret = set_secret(endpoint, self._app.state.keys, keep_old=keep)
        return WebhookSecret(secret=secret, old_secret_until=endpoint.old_secret_until)

    async def send_test(self, webhook_id: UUID) -> WebhookDelivery:
        """Send a message that says nothing; raises ``Conflict`` when the endpoint is off."""
        endpoint = await self._active(webhook_id)
        message = send_message(self._work, endpoint, TEST_EVENT, {})
        await self._work.flush()
        return message

    async def replay(self, webhook_id: UUID, delivery_id: UUID) -> WebhookDelivery:
        """Send a message again, now; raises ``Conflict`` when the endpoint is off."""
        await self._active(webhook_id)
        message = await self.delivery(webhook_id, delivery_id)
        replay_webhook(self._work, message)
        await self._work.flush()
        return message

    async def delivery(self, webhook_id: UUID, delivery_id: UUID) -> WebhookDelivery:
        """Return a message to an endpoint; raises ``NotFound``."""
        message = await self.deliveries.get(delivery_id)
        if message.endpoint_id != webhook_id:
            raise NotFound(WebhookDelivery.resource_name(), delivery_id)
        return message

    async def _active(self, webhook_id: UUID) -> WebhookEndpoint:
        endpoint = await self.endpoints.get_changeable(webhook_id)
        if not endpoint.is_active:
            raise Conflict("This webhook is switched off: switch it on first.")
        return endpoint

    async def _check(self, values: Mapping[str, Any]) -> None:
        """Refuse events that there are not, and an address that would never be called."""
        for number, name in enumerate(values.get("events", ())):
            if name not in self._types:
                known = ", ".join(sorted(self._types))
                raise _invalid(f"#/events/{number}", "unknown_event", f"Known are: {known}.")
        if "url" in values:
            await self._check_url(values["url"])

    async def _check_url(self, url: str) -> None:
        if "@" in urlsplit(url).netloc:
            raise _invalid("#/url", "url_refused", "Leave user name and password out of it.")
        destinations = webhook_destinations(self._app)
        try:
            await check_destination(destinations, url)
        except OutgoingError as error:
            if error.reason == "scheme":
                message = f"It has to begin with {' or '.join(sorted(destinations.schemes))}."
            else:  # the same words for a name that there is not and for one of our own network
                message = "This is no address that can be called from here."
            raise _invalid("#/url", "url_refused", message) from error


def _invalid(pointer: str, code: str, message: str) -> Invalid:
    return Invalid(message, errors=[FieldError(pointer=pointer, code=code, message=message)])


# ------------------------------------------------------------------------------------------- routes

Hooks = Annotated[WebhookService, Depends()]
Reader = Annotated[Principal, requires("webhooks:read")]
Writer = Annotated[Principal, requires("webhooks:write")]

webhook_router: APIRouter = APIRouter(prefix="/webhooks", tags=["webhooks"])


@webhook_router.get("", response_model=Page[WebhookRead], summary="List webhooks")
async def list_webhooks(
    query: Annotated[WebhookQuery, Query()], hooks: Hooks, _caller: Reader
) -> Slice[WebhookEndpoint]:
    """List the caller's endpoints."""
    return await hooks.endpoints.page(query)


@webhook_router.post("", status_code=201, summary="Create a webhook", responses={409: {}})
async def create_webhook(
    data: WebhookCreate, hooks: Hooks, caller: Writer, tagged: Tagged
) -> WebhookCreated:
    """Add an endpoint. Its secret is in this answer and in no other."""
    return tagged.new(await hooks.create(caller, data))


@webhook_router.get("/types", summary="List what can be asked for")
async def list_webhook_types(hooks: Hooks, _caller: Reader) -> list[EventType]:
    """List the events, with the shape of their data."""
    return hooks.types()


@webhook_router.get("/{webhook_id}", response_model=WebhookRead, summary="Read a webhook")
async def read_webhook(
    webhook_id: UUID, hooks: Hooks, _caller: Reader, tagged: Tagged
) -> WebhookEndpoint:
    """Show an endpoint, without its secret."""
    return tagged(await hooks.endpoints.get(webhook_id))


@webhook_router.patch("/{webhook_id}", response_model=WebhookRead, summary="Change a webhook")
async def update_webhook(
    webhook_id: UUID,
    data: WebhookUpdate,
    hooks: Hooks,
    _caller: Writer,
    if_match: IfMatch,
    tagged: Tagged,
) -> WebhookEndpoint:
    """Change the fields that are sent."""
    return tagged(await hooks.update(webhook_id, data, if_match))


@webhook_router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook")
async def delete_webhook(
    webhook_id: UUID, hooks: Hooks, _caller: Writer, if_match: IfMatch
) -> None:
    """Remove an endpoint with its messages; what is on its way is not sent any more."""
    await hooks.delete(webhook_id, if_match)


@webhook_router.post("/{webhook_id}/secret", summary="Change the secret of a webhook")
async def change_webhook_secret(
    webhook_id: UUID, hooks: Hooks, _caller: Writer, data: SecretChange | None = None
) -> WebhookSecret:
    """Make a new secret; for a day messages are signed by the old one, too, unless told else."""
    return await hooks.change_secret(webhook_id, data or SecretChange())


_ACCEPTED: Final[dict[str, Any]] = {
    "status_code": 202,
    "response_model": DeliveryRead,
    "responses": {409: {}},
    "dependencies": [limit("30/minute")],
}


@webhook_router.post("/{webhook_id}/test", summary="Try a webhook", **_ACCEPTED)
async def try_webhook(webhook_id: UUID, hooks: Hooks, _caller: Writer) -> WebhookDelivery:
    """Send a message of the type `webhook.test`; read what became of it among the deliveries."""
    return await hooks.send_test(webhook_id)


@webhook_router.get(
    "/{webhook_id}/deliveries",
    response_model=KeysetPage[DeliveryRead],
    summary="List the messages to a webhook",
)
async def list_webhook_deliveries(
    webhook_id: UUID,
    query: Annotated[DeliveryQuery, Query()],
    hooks: Hooks,
    signer: CursorSigner,
    _caller: Reader,
) -> KeysetSlice[WebhookDelivery]:
    """List messages of the last 30 days, the newest first."""
    return await hooks.deliveries.of(await hooks.endpoints.get(webhook_id), query, signer)


@webhook_router.get(
    "/{webhook_id}/deliveries/{delivery_id}",
    response_model=DeliveryDetail,
    summary="Read a message to a webhook",
)
async def read_webhook_delivery(
    webhook_id: UUID, delivery_id: UUID, hooks: Hooks, _caller: Reader
) -> WebhookDelivery:
    """Show a message with its body."""
    return await hooks.delivery(webhook_id, delivery_id)


@webhook_router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay", summary="Send a message again", **_ACCEPTED
)
async def replay_webhook_delivery(
    webhook_id: UUID, delivery_id: UUID, hooks: Hooks, _caller: Writer
) -> WebhookDelivery:
    """Send a message again, whatever became of it: the same id and body, signed afresh."""
    return await hooks.replay(webhook_id, delivery_id)
