"""The module: what happens to somebody is told to that somebody's systems, and to nobody else's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from asgi_lifespan import LifespanManager
from sample_webhooks import OrderItemAdded, Receiver, Renamed, World, build, owner_of, receiving
from standardwebhooks import Webhook

from newel import webhooks
from newel.events import Event
from newel.modules import Module
from newel.testing import make_user

pytestmark = pytest.mark.anyio


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
def hooks() -> Module:
    return webhooks.module(OrderItemAdded, owner_of=owner_of)


@pytest.fixture
async def world(
    database_url: str, tmp_path: Path, receiver: Receiver, hooks: Module
) -> AsyncGenerator[World]:
    app = build(database_url, tmp_path, hooks=hooks)
    async with LifespanManager(app):
        yield World(app, (await make_user(app)).id, receiver)


async def publish(world: World, event: Event) -> None:
    async with world.database.write(None) as work:
        work.publish(event)
    await world.work_off()


async def test_the_owners_systems_are_told_of_what_was_published(world: World) -> None:
    _, secret = await world.endpoint("order_item.added")
    other = World(world.app, (await make_user(world.app)).id, world.receiver)
    await other.endpoint("order_item.added")
    event = OrderItemAdded(id=uuid4(), amount=5, owner_id=world.owner)
    await publish(world, event)
    [(headers, body)] = world.receiver.received
    said = Webhook(secret).verify(body, headers)
    assert said["data"] == {"id": str(event.id), "amount": 5, "owner_id": str(world.owner)}
    [message] = await world.messages()
    assert (message.owner_id, message.state) == (world.owner, "delivered")


async def test_what_belongs_to_nobody_is_told_to_nobody(world: World) -> None:
    await world.endpoint("order_item.added", "renamed")
    await publish(world, OrderItemAdded(id=uuid4(), amount=5))
    await publish(world, Renamed(id=uuid4(), name="x"))  # not among the module's events
    assert await world.messages() == []


async def test_an_event_whose_owner_cannot_be_found_out_is_tried_again(
    database_url: str, tmp_path: Path, receiver: Receiver, log_lines: list[object]
) -> None:
    async def fail_first(work: object, event: OrderItemAdded) -> UUID | None:
        failures.append(event)
        if len(failures) == 1:
            raise RuntimeError("the database is away")
        return event.owner_id

    failures: list[OrderItemAdded] = []
    app = build(database_url, tmp_path, hooks=webhooks.module(OrderItemAdded, owner_of=fail_first))
    async with LifespanManager(app):
        world = World(app, (await make_user(app)).id, receiver)
        await world.endpoint("order_item.added")
        await publish(world, OrderItemAdded(id=uuid4(), amount=5, owner_id=world.owner))
        assert receiver.received == []
        await world.hurry()
        await world.work_off()
        assert len(receiver.received) == 1


def test_without_an_owner_the_service_tells_itself() -> None:
    found = webhooks.module(OrderItemAdded)
    assert (found.handlers, [one.name for one in found.schedules]) == ([], ["purge_webhooks"])
    assert {one.name for one in found.jobs} == {"deliver_webhook", "purge_webhooks"}
