"""Webhooks on a real receiver, which checks them with the specification's own library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from asgi_lifespan import LifespanManager
from sample_accounts import SECRET
from sample_webhooks import OrderItemAdded, Receiver, Renamed, World, build, receiving
from sqlalchemy import select, update
from standardwebhooks import Webhook, WebhookVerificationError

from newel.clock import utc_now
from newel.errors import ConfigurationError
from newel.outgoing import OutgoingError
from newel.principal import Principal
from newel.settings import Settings
from newel.signatures import verify_webhook
from newel.testing import make_user
from newel.tokens import KeyRing
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

pytestmark = pytest.mark.anyio


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def world(database_url: str, tmp_path: Path, receiver: Receiver) -> AsyncGenerator[World]:
    app = build(database_url, tmp_path)
    async with LifespanManager(app):
        yield World(app, (await make_user(app)).id, receiver)


class TestSending:
    async def test_it_arrives_and_is_proved(self, world: World) -> None:
        _, secret = await world.endpoint("order_item.added")
        event = OrderItemAdded(id=uuid4(), amount=5)
        [message_id] = await world.send(event)
        await world.work_off()
        [(headers, body)] = world.receiver.received
        said = Webhook(secret).verify(body, headers)
        assert said["type"] == "order_item.added"
        assert said["data"] == {"id": str(event.id), "amount": 5, "owner_id": None}
        assert said["timestamp"].endswith("Z")
        assert headers["webhook-id"] == str(message_id)
        assert headers["content-type"] == "application/json"
        assert verify_webhook(secret, headers, body) == str(message_id)
        [message] = await world.messages()
        assert (message.state, message.attempts, message.answer) == ("delivered", 1, "204")
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body.replace(b"5", b"6"), headers)

    async def test_only_who_wants_it_gets_it(self, world: World) -> None:
        await world.endpoint("renamed")
        off, _ = await world.endpoint("order_item.added")
        async with world.database.write(None) as work, work.as_system("arrange"):
            endpoint = await work.session.get_one(WebhookEndpoint, off)
            endpoint.is_active = False
        other = World(world.app, (await make_user(world.app)).id, world.receiver)
        await other.endpoint("order_item.added")
        assert await world.send() == []
        assert len(await world.send(Renamed(id=uuid4(), name="x"))) == 1

    async def test_a_unit_that_fails_sends_nothing(self, world: World) -> None:
        await world.endpoint("renamed")

        async def fail() -> None:
            async with world.database.write(None) as work, work.as_system("tell"):
                await send_webhooks(work, Renamed(id=uuid4(), name="x"), owner_id=world.owner)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        await world.work_off()
        assert world.receiver.received == []

    async def test_what_is_not_taken_is_sent_again_with_the_same_id(self, world: World) -> None:
        _, secret = await world.endpoint("order_item.added")
        world.receiver.answers = [500, 302, 200]
        await world.send()
        for state in ("pending", "pending", "delivered"):
            await world.work_off()
            [message] = await world.messages()
            assert message.state == state
            await world.hurry()
        assert (message.attempts, message.answer) == (3, "200")
        ids = {headers["webhook-id"] for headers, _ in world.receiver.received}
        assert ids == {str(message.id)}
        for headers, body in world.receiver.received:
            Webhook(secret).verify(body, headers)

    async def test_after_the_last_attempt_it_has_failed(self, world: World) -> None:
        await world.endpoint("order_item.added")
        world.receiver.answers = [503] * 20
        await world.send()
        for _ in range(1 + deliver_webhook.retries):
            await world.work_off()
            await world.hurry()
        [message] = await world.messages()
        assert (message.state, message.attempts) == ("failed", 10)
        await world.work_off()
        assert len(world.receiver.received) == 10

    async def test_gone_switches_the_endpoint_off(self, world: World) -> None:
        await world.endpoint("order_item.added")
        world.receiver.answers = [410]
        await world.send()
        await world.work_off()
        [message] = await world.messages()
        assert (message.state, message.answer) == ("failed", "410")
        assert not await world.is_active()
        assert await world.send() == []

    async def test_a_message_to_who_has_left_is_dropped(self, world: World) -> None:
        endpoint, _ = await world.endpoint("order_item.added")
        await world.send()
        async with world.database.write(None) as work, work.as_system("arrange"):
            await work.session.delete(await work.session.get_one(WebhookEndpoint, endpoint))
        await world.work_off()
        assert (world.receiver.received, await world.messages()) == ([], [])

    async def test_it_can_be_replayed(self, world: World) -> None:
        await world.endpoint("order_item.added")
        [message_id] = await world.send()
        await world.work_off()
        async with world.database.write(Principal(id=world.owner)) as work:
            replay_webhook(work, await work.session.get_one(WebhookDelivery, message_id))
        await world.work_off()
        first, second = world.receiver.received
        assert first[1] == second[1]
        assert first[0]["webhook-id"] == second[0]["webhook-id"]

    async def test_a_retry_of_what_was_delivered_meanwhile_sends_nothing(
        self, world: World
    ) -> None:
        await world.endpoint("order_item.added")
        world.receiver.answers = [500, 200]
        [message_id] = await world.send()
        await world.work_off()
        async with world.database.write(Principal(id=world.owner)) as work:
            replay_webhook(work, await work.session.get_one(WebhookDelivery, message_id))
        await world.work_off()
        await world.hurry()
        await world.work_off()
        [message] = await world.messages()
        assert (message.state, len(world.receiver.received)) == ("delivered", 2)

    async def test_messages_are_their_owners(self, world: World) -> None:
        await world.endpoint("order_item.added")
        await world.send()
        for caller, count in ((Principal(id=world.owner), 1), (Principal(id=uuid4()), 0)):
            async with world.database.read(caller) as work:
                for entity in (WebhookDelivery, WebhookEndpoint):
                    found = (await work.session.scalars(select(entity))).all()
                    assert len(found) == count

    async def test_old_messages_are_removed(self, world: World) -> None:
        await world.endpoint("order_item.added")
        for _ in range(2):
            [message_id] = await world.send()
        async with world.database.write(None) as work, work.as_system("arrange"):
            await work.session.execute(
                update(WebhookDelivery)
                .where(WebhookDelivery.id == message_id)
                .values(created_at=utc_now() - timedelta(days=31))
            )
            work.enqueue(purge_webhooks)
        await world.work_off()
        assert [message.id == message_id for message in await world.messages()] == [False]


class TestAddresses:
    async def test_our_own_network_is_never_called(
        self, database_url: str, tmp_path: Path, receiver: Receiver
    ) -> None:
        app = build(database_url, tmp_path, webhook_networks="")
        async with LifespanManager(app):
            world = World(app, (await make_user(app)).id, receiver)
            for url in (receiver.url, "https://127.0.0.1/", "https://[::ffff:169.254.169.254]/"):
                await world.endpoint("order_item.added", url=url)
            await world.send()
            await world.work_off()
            answers = {(message.state, message.answer) for message in await world.messages()}
        assert answers == {("failed", "scheme"), ("pending", "address")}
        assert receiver.received == []

    async def test_a_bad_address_can_be_refused_before_it_is_kept(
        self, database_url: str, tmp_path: Path
    ) -> None:
        app = build(database_url, tmp_path, webhook_networks="")
        webhook_destinations(app).check("https://example.com/hook")
        with pytest.raises(OutgoingError):
            webhook_destinations(app).check("http://example.com/hook")

    async def test_a_receiver_that_is_down_is_tried_again(
        self, world: World, unused_port: int
    ) -> None:
        await world.endpoint("order_item.added", url=f"http://127.0.0.1:{unused_port}/")
        await world.send()
        await world.work_off()
        [message] = await world.messages()
        assert (message.state, message.answer) == ("pending", "unreachable")

    @pytest.fixture
    async def unused_port(self) -> int:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        async with server:
            return server.sockets[0].getsockname()[1]

    def test_networks_have_to_be_some(self) -> None:
        with pytest.raises(ConfigurationError, match="WEBHOOK_NETWORKS"):
            Settings(secret_key=SECRET, webhook_networks="192.168.1.300/24", _env_file=None)


class TestSecrets:
    async def test_nobody_reads_them_in_the_database(self, world: World) -> None:
        _, secret = await world.endpoint("order_item.added")
        async with world.database.read(None) as work, work.as_system("look"):
            [endpoint] = await work.session.scalars(select(WebhookEndpoint))
        sealed = endpoint.sealed_secret
        assert len(sealed) == 32 + 28
        assert secret[6:20].encode() not in sealed
        assert "sealed_secret" not in repr(endpoint)

    async def test_one_of_another_row_does_not_open(self, world: World) -> None:
        await world.endpoint("order_item.added")
        await world.endpoint("renamed")
        async with world.database.write(None) as work, work.as_system("swap"):
            endpoints = (await work.session.scalars(select(WebhookEndpoint))).all()
            endpoints[0].sealed_secret = endpoints[1].sealed_secret
            endpoints[1].events = []
            endpoints[0].events = ["order_item.added"]
        await world.send()
        await world.work_off()
        assert world.receiver.received == []

    async def test_a_new_one_ends_the_old(self, world: World) -> None:
        endpoint_id, old = await world.endpoint("order_item.added")
        async with world.database.write(None) as work, work.as_system("arrange"):
            endpoint = await work.session.get_one(WebhookEndpoint, endpoint_id)
            new = set_secret(endpoint, world.app.state.keys)
        await world.send()
        await world.work_off()
        [(headers, body)] = world.receiver.received
        Webhook(new).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify(body, headers)

    async def test_the_old_one_is_good_for_as_long_as_it_is_kept(self, world: World) -> None:
        endpoint_id, old = await world.endpoint("order_item.added")
        async with world.database.write(None) as work, work.as_system("arrange"):
            endpoint = await work.session.get_one(WebhookEndpoint, endpoint_id)
            new = set_secret(endpoint, world.app.state.keys, keep_old=timedelta(hours=1))
        await world.send()
        await world.work_off()
        [(headers, body)] = world.receiver.received
        for secret in (old, new):
            Webhook(secret).verify(body, headers)
        async with world.database.write(None) as work, work.as_system("an hour later"):
            past = utc_now() - timedelta(seconds=1)
            await work.session.execute(update(WebhookEndpoint).values(old_secret_until=past))
        await world.send()
        await world.work_off()
        headers, body = world.receiver.received[1]
        Webhook(new).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify(body, headers)

    def test_they_outlive_a_new_secret_key(self) -> None:
        endpoint = WebhookEndpoint(owner_id=uuid4(), url="https://example.com", events=[])
        secret = set_secret(endpoint, KeyRing(SECRET))
        assert secret.startswith("whsec_")


def test_events_are_called_by_subject_and_verb() -> None:
    assert event_type(OrderItemAdded) == "order_item.added"
    assert event_type(Renamed) == "renamed"
