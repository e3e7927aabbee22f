"""One contract for every driver, on real brokers that go away and come back.

RabbitMQ is tested where Debian's package rabbitmq-server is installed, and shown as skipped else.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import nats
import pytest
from faststream import AckPolicy
from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext, SASLScram512
from nats.js.api import DiscardPolicy, StreamConfig
from sample_brokers import Nats, Received, Server, Valkey, open_server
from sample_entities import Measure
from sample_jobs import application, running, until
from sqlalchemy import func, select
from test_broker import message

from newel import publisher
from newel.broker import Broker, open_broker
from newel.db import Database
from newel.drivers.kafka_broker import _security
from newel.errors import ConfigurationError
from newel.events import Event
from newel.inbox import first_time
from newel.publisher import Publisher

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]

ENTITY = UUID(int=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaid(Event):
    number: int = 0
    note: str = ""


@pytest.fixture(scope="module", params=["nats", "redis", "kafka", "rabbit"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    found = open_server(request.param, tmp_path_factory.mktemp(request.param))
    if found is None:
        pytest.skip("rabbitmq-server is not installed: apt-get install rabbitmq-server")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def only(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[str], Server]]:
    """Return a server of the kind that a test is about."""
    started: dict[str, Server] = {}

    def of(kind: str) -> Server:
        if kind not in started:
            found = open_server(kind, tmp_path_factory.mktemp(f"only-{kind}"))
            assert found is not None
            started[kind] = found
        return started[kind]

    yield of
    for one in started.values():
        one.stop()


@pytest.fixture
async def broker(server: Server) -> AsyncGenerator[Broker]:
    found = open_broker(server.url)
    yield found
    await found.close()


@pytest.fixture
def service() -> str:
    """Each test has topics of its own."""
    return f"shop{uuid4().hex[:8]}"


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncGenerator[Database]:
    """SQLite alone: what the publisher does with rows is tested on both databases."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    async with database.engine.begin() as connection:
        await connection.run_sync(Measure.metadata.create_all)
    yield database
    await database.close()


async def publish(database: Database, *events: Event) -> None:
    async with database.write(None) as work:
        for event in events:
            work.publish(event)


def numbers(found: list[Received]) -> list[int]:
    return [json.loads(one.body)["data"]["number"] for one in found]


# ---------------------------------------------------------------- the contract


async def test_a_message_is_there_as_it_was(server: Server, broker: Broker, service: str) -> None:
    sent = message(id=uuid4(), topic=f"{service}.order_item")
    await server.prepare(sent.topic)
    await broker.publish(sent)
    [found] = await server.received(sent.topic)
    assert found.body == sent.body()
    if server.url.startswith("redis"):
        return  # entries of a stream have no headers: the body says it all
    assert found.headers["message_id"] == str(sent.id)
    assert found.headers["content-type"] == "application/cloudevents+json"
    assert found.headers["type"] == "order_item.added"
    own = {
        "nats": found.headers.get("Nats-Msg-Id"),
        "amqp": found.headers.get("property"),
        "kafka": found.key,
    }[server.url.partition(":")[0]]
    assert own == str(sent.aggregate_id if server.url.startswith("kafka") else sent.id)


async def test_nothing_is_lost_while_it_is_away_and_order_is_kept(
    server: Server,
    broker: Broker,
    service: str,
    outbox: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker publishes, the broker is taken away in the middle of it, and comes back."""
    topic, others = f"{service}.order", [uuid4() for _ in range(3)]
    await server.prepare(topic)
    app = application(outbox)
    app.state.broker = broker
    app.state.settings = app.state.settings.model_copy(update={"service_name": service})
    monkeypatch.setattr(publisher, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(publisher, "PING_SECONDS", 0.5)
    async with running(app):
        for number in range(10):
            await publish(outbox, *(OrderPaid(id=one, number=number) for one in others))
        await until(lambda: first_ones(server, topic))
        await asyncio.to_thread(server.take_away)
        for number in range(10, 20):
            await publish(outbox, *(OrderPaid(id=one, number=number) for one in others))
        await until(partial(fails, broker.ping))
        await asyncio.to_thread(server.bring_back)
        await until(partial(all_sent, outbox))
    found = await server.received(topic)
    for one in others:
        first: dict[str, int] = {}
        for received in found:
            event = json.loads(received.body)
            if event["subject"] == str(one):
                first.setdefault(event["id"], event["data"]["number"])
        assert list(first.values()) == list(range(20)), "each, and first deliveries in order"


async def first_ones(server: Server, topic: str) -> bool:
    try:
        return bool(await server.received(topic))
    except nats.js.errors.NotFoundError:  # the stream is made with the first message
        return False


async def all_sent(database: Database) -> bool:
    async with database.reading_engine.connect() as connection:
        waiting = select(func.count()).where(publisher._UNSENT)
        return (await connection.execute(waiting)).scalar_one() == 0


async def test_a_closed_connection_is_opened_again(
    server: Server, broker: Broker, service: str
) -> None:
    sent = [message(id=uuid4(), topic=f"{service}.order_item") for _ in range(2)]
    await server.prepare(sent[0].topic)
    await broker.publish(sent[0])
    await broker.close()
    await broker.close()
    await broker.publish(sent[1])
    await broker.ping()
    assert len(await server.received(sent[0].topic)) == 2


async def test_many_at_once_make_one_connection(
    server: Server, broker: Broker, service: str
) -> None:
    topic = f"{service}.order_item"
    await server.prepare(topic)
    many = [message(id=uuid4(), topic=topic, aggregate_id=uuid4()) for _ in range(20)]
    await asyncio.gather(*map(broker.publish, many))
    assert len(await server.received(topic)) == 20


@pytest.mark.filterwarnings("ignore:Unclosed AIOKafka:ResourceWarning")  # it never was open
@pytest.mark.parametrize(
    "url",
    ["nats://127.0.0.1:1", "redis://127.0.0.1:1", "kafka://127.0.0.1:1", "amqp://127.0.0.1:1"],
)
async def test_nobody_there(url: str) -> None:
    """It fails, in time, and says so; closing what never was open is nothing."""
    broker = open_broker(url)
    assert await fails(broker.ping)
    assert await fails(partial(broker.publish, message()))
    await broker.close()
    gc.collect()  # Kafka's client that never started, while its warning is ignored


async def fails(action: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(5):
            await action()
    except Exception:  # noqa: BLE001 - each driver has its own
        return True
    return False


# ---------------------------------------------------------------- killed in between


def kill_one(outbox: Database, server: Server, sabotage: str = "") -> None:
    program = Path(__file__).parent / "sample_publisher.py"
    done = subprocess.run(
        [sys.executable, program, outbox.url, server.url, sabotage], check=False, timeout=30
    )
    assert done.returncode == -9


async def consume(database: Database, found: list[Received]) -> None:
    """Do what a consumer does: something once for each event, whatever the broker delivers."""
    for received in found:
        event = json.loads(received.body)
        async with database.write(None) as work:
            if await first_time(work, consumer="stock", event_id=event["id"]):
                work.session.add(Measure(label=str(event["data"]["number"])))


async def effects(database: Database) -> list[str]:
    async with database.read(None) as work:
        return list(await work.session.scalars(select(Measure.label).order_by(Measure.id)))


async def test_killed_between_sending_and_marking_it_is_sent_twice_and_done_once(
    only: Callable[[str], Server], outbox: Database, tmp_path: Path
) -> None:
    server = only("redis")
    await publish(outbox, *(OrderPaid(id=ENTITY, number=number) for number in range(3)))
    await asyncio.to_thread(kill_one, outbox, server)
    assert numbers(await server.received("shop.order")) == [0, 1, 2]

    broker = open_broker(server.url)
    async with outbox.write(None) as work, work.as_system("the lease ends"):
        await work.session.execute(publisher._HOLDS.delete())
    await Publisher(outbox, broker, name="next", service="shop").publish_some()
    await broker.close()
    found = await server.received("shop.order")
    assert numbers(found) == [0, 1, 2, 0, 1, 2]
    assert len({json.loads(one.body)["id"] for one in found}) == 3
    await consume(outbox, found)
    assert await effects(outbox) == ["0", "1", "2"]


async def test_marked_first_it_would_be_lost(
    only: Callable[[str], Server], outbox: Database
) -> None:
    """The control: the same kill of a publisher that marks and then sends."""
    server = only("redis")
    event = StockCounted(id=uuid4())
    await publish(outbox, event)
    await asyncio.to_thread(kill_one, outbox, server, "mark first")
    broker = open_broker(server.url)
    await Publisher(outbox, broker, name="next", service="shop").publish_some()
    await broker.close()
    assert await server.received("shop.stock") == []


@dataclass(frozen=True, slots=True, kw_only=True)
class StockCounted(Event):
    """About another topic than the other tests."""


# ---------------------------------------------------------------- NATS


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted in /proc")
async def test_a_silent_nats_is_given_up_in_time_and_leaves_nothing_open(
    only: Callable[[str], Server],
) -> None:
    """It is frozen: the system takes connections for it, and nobody answers."""
    server = only("nats")
    assert isinstance(server, Nats)
    broker = open_broker(server.url)
    before = open_files()
    took: list[float] = []
    for _ in range(3):
        await until(partial(answers, broker))
        server.freeze()
        try:
            took.append(await seconds_to_give_up(broker))  # a connection that there is
            for _ in range(2):
                await seconds_to_give_up(broker)  # one that is being made
            await until(lambda: open_files() == before)
        finally:
            server.thaw()
            await broker.close()
    assert min(took) < 1.9, "a good-bye that nobody hears would take two seconds"


async def answers(broker: Broker) -> bool:
    return not await fails(broker.ping)


async def seconds_to_give_up(broker: Broker) -> float:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await broker.ping()
    return time.monotonic() - began


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_jetstream_keeps_an_id_once(only: Callable[[str], Server], service: str) -> None:
    server = only("nats")
    broker, sent = open_broker(server.url), message(topic=f"{service}.order")
    for _ in range(3):
        await broker.publish(sent)
    await broker.publish(replace(sent, id=uuid4()))
    await broker.close()
    assert len(await server.received(sent.topic)) == 2


async def test_a_stream_of_yours_stays_as_it_is(
    only: Callable[[str], Server], service: str
) -> None:
    server = only("nats")
    client = await nats.connect(server.url)
    streams = client.jetstream()
    await streams.add_stream(StreamConfig(name=service, subjects=[f"{service}.>"], max_msgs=7))
    broker = open_broker(server.url)
    for _ in range(2):
        await broker.publish(message(id=uuid4(), topic=f"{service}.order"))
    await broker.close()
    found = await streams.stream_info(service)
    assert (found.config.max_msgs, found.state.messages) == (7, 2)
    await client.close()


async def test_what_jetstream_refuses_holds_up_its_own_entity_only(
    only: Callable[[str], Server], outbox: Database, service: str
) -> None:
    """A message above the stream's limit, which its server says and no ping would show."""
    server = only("nats")
    client = await nats.connect(server.url)
    limits = StreamConfig(
        name=service, subjects=[f"{service}.>"], max_msg_size=2000, discard=DiscardPolicy.NEW
    )
    await client.jetstream().add_stream(limits)
    await client.close()
    large, small = uuid4(), uuid4()
    await publish(outbox, OrderPaid(id=large, note="x" * 3000), OrderPaid(id=large, number=1))
    await publish(outbox, *(OrderPaid(id=small, number=number) for number in range(3)))
    broker = open_broker(server.url)
    mine = Publisher(outbox, broker, name="one", service=service)
    for _ in range(3):
        await mine.publish_some()
    await broker.close()
    assert numbers(await server.received(f"{service}.order")) == [0, 1, 2]


async def test_a_consumer_with_faststream_does_it_once(
    only: Callable[[str], Server], outbox: Database, service: str
) -> None:
    """As docs/inbox.md says: the first attempt fails after its note, and is delivered again."""
    server = only("nats")
    await publish(outbox, *(OrderPaid(id=ENTITY, number=number) for number in range(3)))
    broker = open_broker(server.url)
    await Publisher(outbox, broker, name="one", service=service).publish_some()
    await broker.close()
    consumer, attempts = NatsBroker(server.url, logger=None), 0

    @consumer.subscriber(
        f"{service}.order",
        stream=service,
        durable="stock",
        pull_sub=True,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def order(body: bytes) -> None:
        nonlocal attempts
        attempts += 1
        event: dict[str, Any] = json.loads(body)
        async with outbox.write(None) as work:
            if await first_time(work, consumer="stock", event_id=event["id"]):
                work.session.add(Measure(label=str(event["data"]["number"])))
                await work.flush()
                if attempts == 1:
                    raise RuntimeError

    async def done() -> bool:
        return len(await effects(outbox)) == 3

    async with consumer:
        await consumer.start()
        await until(done)
    assert sorted(await effects(outbox)) == ["0", "1", "2"]
    assert attempts == 4


# ---------------------------------------------------------------- Redis


async def test_a_redis_stream_is_cut(only: Callable[[str], Server], service: str) -> None:
    server = only("redis")
    assert isinstance(server, Valkey)
    broker, topic = open_broker(f"{server.url}?maxlen=100"), f"{service}.order"
    for _ in range(20):
        many = [message(id=uuid4(), topic=topic) for _ in range(20)]
        await asyncio.gather(*map(broker.publish, many))
    await broker.close()
    assert 100 <= len(await server.received(topic)) < 300, "about: whole blocks are cut"


@pytest.mark.parametrize("given", ["0", "-1", "many", ""])
def test_a_length_that_is_none(given: str) -> None:
    if given == "":
        assert open_broker("redis://host?maxlen=")  # nothing said
        return
    with pytest.raises(ConfigurationError, match="maxlen"):
        open_broker(f"redis://host?maxlen={given}")


# ---------------------------------------------------------------- Kafka


def test_kafkas_log_in_is_in_the_url() -> None:
    plain = _security("kafka://me:p%40ss@one:9092,two:9092")
    assert isinstance(plain, SASLPlaintext)
    assert (plain.username, plain.password, plain.use_ssl) == ("me", "p@ss", False)
    scram = _security("kafkas://me:secret@one:9093?sasl=scram-sha-512")
    assert isinstance(scram, SASLScram512)
    assert scram.use_ssl
    assert not _security("kafka://one").use_ssl
    assert _security("kafkas://one").use_ssl
    with pytest.raises(ConfigurationError, match="sasl="):
        _security("kafka://me:secret@one?sasl=magic")


async def test_kafka_keeps_an_entity_together(only: Callable[[str], Server], service: str) -> None:
    server = only("kafka")
    broker, topic = open_broker(server.url), f"{service}.order"
    entities = [uuid4() for _ in range(8)]
    for number in range(3):
        for one in entities:
            sent = message(id=uuid4(), topic=topic, aggregate_id=one, data={"number": number})
            await broker.publish(sent)
    await broker.close()
    found = await server.received(topic)
    for one in entities:
        assert numbers([each for each in found if each.key == str(one)]) == [0, 1, 2]
