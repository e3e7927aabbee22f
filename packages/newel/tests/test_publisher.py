"""Events leave for the broker at least once and in order, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient
from sample_jobs import SECRET, application, drain, execute, running, tag, tags, until
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import func, select, text, update
from structlog.typing import EventDict

from newel import publisher
from newel.app import create_app
from newel.auth import public
from newel.broker import Broker, MemoryBroker, Message
from newel.clock import utc_now
from newel.context import request_id
from newel.db import CurrentWork, Database
from newel.errors import ConfigurationError, Unavailable
from newel.events import OUTBOX, Audience, Event
from newel.handlers import on
from newel.health import Degraded
from newel.job_queue import JobQueue
from newel.jobs import JobRun
from newel.modules import Module
from newel.publisher import Publisher, check_broker, watch_backlog
from newel.settings import Settings
from newel.testing import run_jobs
from newel.worker import working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPaid(Event):
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSeen(Event, topic=None):
    """Stays inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StockMoved(Event, topic="warehouse.stock"):
    number: int = 0


class FrailBroker(MemoryBroker):
    """One that can be away, and that refuses what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.refuses: set[UUID] = set()
        self.asked: list[UUID] = []

    async def publish(self, message: Message) -> None:
        self.asked.append(message.aggregate_id)
        await asyncio.sleep(0)
        if self.is_away:
            raise ConnectionError("away")
        if message.aggregate_id in self.refuses:
            raise ValueError("too large")
        await super().publish(message)

    async def ping(self) -> None:
        if self.is_away:
            raise ConnectionError("away")


@pytest.fixture
def broker() -> FrailBroker:
    return FrailBroker()


@pytest.fixture
def sender(database: Database, broker: FrailBroker) -> Publisher:
    return make(database, broker)


def make(database: Database, broker: Broker, name: str = "one") -> Publisher:
    return Publisher(database, broker, name=name, service="shop")


async def publish(database: Database, *events: Event) -> None:
    for event in events:
        async with database.write(None) as work:
            work.publish(event)


async def unsent(database: Database) -> int:
    waiting = select(func.count()).where(OUTBOX.c.topic.is_not(None), OUTBOX.c.sent_at.is_(None))
    async with database.reading_engine.connect() as connection:
        return (await connection.execute(waiting)).scalar_one()


async def holds(database: Database) -> list[tuple[int, str]]:
    async with database.reading_engine.connect() as connection:
        found = await connection.execute(text("SELECT attempts, reason FROM outbox_holds"))
        return [(row.attempts, row.reason) for row in found]


async def let_time_pass(database: Database) -> None:
    """Let all that waits for its time have waited."""
    await execute(database, "UPDATE outbox_holds SET until = '2020-01-01 00:00:00+00:00'")


def numbers(sent: Sequence[Message], entity: UUID) -> list[int]:
    return [one.data["number"] for one in sent if one.aggregate_id == entity]


# ---------------------------------------------------------------- what leaves


async def test_a_committed_event_leaves_once(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    entity = uuid4()
    token = request_id.set("request-9")
    await publish(database, OrderPaid(id=entity, number=3))
    request_id.reset(token)
    assert await sender.publish_some() == 1
    assert await sender.publish_some() == 0
    [sent] = broker.sent
    assert (sent.topic, sent.type, sent.source) == ("shop.order", "order.paid", "shop")
    assert (sent.aggregate_id, sent.request_id) == (entity, "request-9")
    assert sent.data == {"id": str(entity), "number": 3}
    assert abs(sent.occurred_at - utc_now()) < timedelta(minutes=1)
    async with database.reading_engine.connect() as connection:
        row = (await connection.execute(select(OUTBOX))).one()
    assert (sent.id, sent.position) == (row.id, row.position)
    assert row.sent_at is not None
    assert await holds(database) == []


async def test_a_transaction_that_fails_sends_nothing(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    with pytest.raises(KeyError):  # noqa: PT012 - the event before it is the point
        async with database.write(None) as work:
            work.publish(OrderPaid(id=uuid4()))
            raise KeyError
    assert await sender.publish_some() == 0
    assert not broker.sent


async def test_what_has_no_topic_stays_inside(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    await publish(database, OrderSeen(id=uuid4()), StockMoved(id=uuid4()))
    assert await sender.publish_some() == 1
    assert [sent.topic for sent in broker.sent] == ["warehouse.stock"]
    assert await unsent(database) == 0


async def test_those_of_one_entity_leave_in_their_order(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    entities = [uuid4() for _ in range(5)]
    for number in range(6):
        await publish(database, *(OrderPaid(id=entity, number=number) for entity in entities))
    while await sender.publish_some(most=7):
        pass
    assert len(broker.sent) == 30
    for entity in entities:
        assert numbers(broker.sent, entity) == list(range(6))


async def test_a_round_ends_in_time_however_much_there_is(
    database: Database, broker: FrailBroker, sender: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another would take the lease while this one sends."""
    entity = uuid4()
    await publish(database, *(OrderPaid(id=entity, number=number) for number in range(3)))
    monkeypatch.setattr(publisher, "ROUND_SECONDS", -1.0)
    assert await sender.publish_some() == 0
    monkeypatch.undo()
    assert await sender.publish_some() == 3
    assert numbers(broker.sent, entity) == [0, 1, 2]


# ---------------------------------------------------------------- what goes wrong


async def test_a_refused_event_holds_up_its_own_entity_only(
    database: Database, broker: FrailBroker, sender: Publisher, log_lines: list[EventDict]
) -> None:
    bad, good = uuid4(), uuid4()
    broker.refuses = {bad}
    await publish(database, *(OrderPaid(id=bad, number=number) for number in range(2)))
    await publish(database, *(OrderPaid(id=good, number=number) for number in range(2)))
    while await unsent(database) > 2:
        await sender.publish_some()
    assert numbers(broker.sent, good) == [0, 1]
    assert await holds(database) == [(1, "ValueError('too large')")]

    await publish(database, OrderPaid(id=bad, number=2), OrderPaid(id=good, number=2))
    asked = broker.asked.count(bad)
    assert await sender.publish_some() == 1
    assert broker.asked.count(bad) == asked, "it waits for its time, and later ones with it"

    await let_time_pass(database)
    await sender.publish_some()
    assert await holds(database) == [(2, "ValueError('too large')")]
    refused = [line for line in log_lines if line["event"] == "event_refused"]
    assert [line["attempts"] for line in refused] == [1, 2]
    assert refused[1]["wait_seconds"] > refused[0]["wait_seconds"]

    broker.refuses = set()
    await let_time_pass(database)
    assert await sender.publish_some() == 3
    assert numbers(broker.sent, bad) == [0, 1, 2]
    assert await holds(database) == [], "the next refusal is the first again"


async def test_many_refused_entities_do_not_block_the_others(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    bad, good = [uuid4() for _ in range(30)], uuid4()
    broker.refuses = set(bad)
    await publish(database, *(OrderPaid(id=entity) for entity in bad), OrderPaid(id=good))
    rounds = 0
    while not broker.sent:
        await sender.publish_some(most=4)
        rounds += 1
        assert rounds < 40
    assert [sent.aggregate_id for sent in broker.sent] == [good]


async def test_a_broker_that_is_away_is_nobodys_fault(
    database: Database, broker: FrailBroker, sender: Publisher, log_lines: list[EventDict]
) -> None:
    entity = uuid4()
    broker.is_away = True
    for number in range(3):
        await publish(database, OrderPaid(id=entity, number=number))
        assert await sender.publish_some() == 0
    assert await holds(database) == []
    assert broker.asked == [entity], "once it is known to be away it is only pinged"
    await check_away(database, broker)

    broker.is_away = False
    assert await sender.publish_some() == 3
    assert numbers(broker.sent, entity) == [0, 1, 2]
    await check_broker(broker, database)
    changes = [line["event"] for line in log_lines if line["event"].startswith("broker_")]
    assert changes == ["broker_away", "broker_back"]


async def test_a_failure_ends_the_round(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    """Else a broker that hangs would be asked for each of hundreds of entities, for seconds."""
    broker.is_away = True
    await publish(database, *(OrderPaid(id=uuid4()) for _ in range(3 * publisher.AT_ONCE)))
    assert await sender.publish_some() == 0
    assert len(broker.asked) <= publisher.AT_ONCE


async def check_away(database: Database, broker: Broker) -> None:
    with pytest.raises(Degraded, match="does not answer"):
        await check_broker(broker, database)


async def test_a_broker_that_hangs_is_away(
    database: Database, sender: Publisher, broker: FrailBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(broker, "publish", hang)
    monkeypatch.setattr(broker, "ping", hang)
    monkeypatch.setattr(publisher, "SEND_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "PING_SECONDS", 0.01)
    await publish(database, OrderPaid(id=uuid4()))
    assert await sender.publish_some() == 0
    await check_away(database, broker)
    monkeypatch.undo()
    assert await sender.publish_some() == 1


async def test_what_was_sent_is_noted_when_the_worker_stops(
    database: Database, broker: FrailBroker, sender: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in the middle of a round."""
    entity, stuck = uuid4(), asyncio.Event()

    async def send(message: Message) -> None:
        if message.data["number"] == 2:
            stuck.set()
            await asyncio.Event().wait()
        broker.sent.append(message)

    monkeypatch.setattr(broker, "publish", send)
    await publish(database, *(OrderPaid(id=entity, number=number) for number in range(3)))
    task = asyncio.create_task(sender.publish_some())
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await unsent(database) == 1
    monkeypatch.undo()
    assert await make(database, broker, "another").publish_some() == 1, "the lease was given back"
    assert numbers(broker.sent, entity) == [0, 1, 2]


# ---------------------------------------------------------------- one at a time


async def test_one_publishes_at_a_time(database: Database, broker: FrailBroker) -> None:
    count, others = 60, [Database(database.url) for _ in range(3)]
    entities = [uuid4() for _ in range(4)]
    for number in range(count // 4):
        await publish(database, *(OrderPaid(id=entity, number=number) for entity in entities))

    async def work(number: int) -> None:
        mine = make(others[number], broker, f"worker-{number}")
        while await unsent(database):
            await mine.publish_some(most=9)

    await asyncio.gather(*map(work, range(3)))
    for other in others:
        await other.close()
    assert len(broker.sent) == count, "nothing twice"
    for entity in entities:
        assert numbers(broker.sent, entity) == list(range(count // 4))


async def test_one_that_was_killed_is_followed_by_another(
    database: Database, broker: FrailBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        """Neither marks what was sent nor gives the lease back."""

    entity = uuid4()
    await publish(database, *(OrderPaid(id=entity, number=number) for number in range(2)))
    first, second = make(database, broker, "first"), make(database, broker, "second")
    monkeypatch.setattr(first, "_settle", killed)
    assert await first.publish_some() == 2
    assert await second.publish_some() == 0, "it may be sending still"
    await let_time_pass(database)
    assert await second.publish_some() == 2
    assert numbers(broker.sent, entity) == [0, 1, 0, 1], "first deliveries are in order"
    ids = Counter(sent.id for sent in broker.sent)
    assert list(ids.values()) == [2, 2], "the same ids: the consumer's inbox drops them"
    assert await unsent(database) == 0


async def test_a_lease_of_the_future_is_none(database: Database, broker: FrailBroker) -> None:
    """The database's clock was put back by an hour while somebody published."""
    first, second = make(database, broker, "first"), make(database, broker, "second")
    await publish(database, OrderPaid(id=uuid4()))
    async with first._engine.begin() as connection:
        await connection.run_sync(first._take, 1)
    assert await second.publish_some() == 0
    await execute(database, "UPDATE outbox_holds SET until = '2199-01-01 00:00:00+00:00'")
    assert await second.publish_some() == 1


async def test_marked_before_it_is_sent_it_is_lost(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    """The control: what the order of sending and marking is for."""
    await publish(database, OrderPaid(id=uuid4()))
    async with database.engine.begin() as connection:
        await connection.execute(update(OUTBOX).values(sent_at=utc_now()))
    assert await sender.publish_some() == 0  # killed here, nobody would know
    assert not broker.sent


# ---------------------------------------------------------------- in a service


@on(OrderPaid)
async def book(job: JobRun, event: OrderPaid) -> None:
    await tag(job.work, f"booked {event.number}")


def shop(database: Database, broker: Broker | None) -> FastAPI:
    app = application(database, handlers=[book])
    app.state.broker = broker
    return app


async def test_handlers_and_the_broker_get_the_same_event(
    database: Database, broker: FrailBroker
) -> None:
    app = shop(database, broker)
    await publish(database, OrderPaid(id=uuid4(), number=4))
    assert await run_jobs(app) == 1
    assert await tags(database) == ["booked 4"]
    assert [sent.data["number"] for sent in broker.sent] == [4]


async def test_handlers_do_not_wait_for_the_broker(database: Database, broker: FrailBroker) -> None:
    broker.is_away = True
    await publish(database, OrderPaid(id=uuid4(), number=4))
    assert await drain(shop(database, broker)) == 1
    assert (await tags(database), await unsent(database)) == (["booked 4"], 1)


async def test_a_worker_sends_when_the_broker_is_back(
    database: Database, broker: FrailBroker
) -> None:
    entity = uuid4()
    broker.is_away = True
    async with running(shop(database, broker)):
        await publish(database, OrderPaid(id=entity, number=0))
        await until(lambda: broker.asked)
        await publish(database, *(OrderPaid(id=entity, number=number) for number in range(1, 5)))
        broker.is_away = False
        await until(lambda: len(broker.sent) == 5)
    assert numbers(broker.sent, entity) == [0, 1, 2, 3, 4]


async def test_a_service_without_jobs_has_a_publisher(
    database: Database, broker: FrailBroker
) -> None:
    app = application(database)
    app.state.broker = broker
    async with working(app):
        await publish(database, OrderPaid(id=uuid4()))
        await until(lambda: broker.sent)


async def test_unsent_events_are_kept_as_long_as_there_is_a_broker(
    database: Database, broker: FrailBroker, sender: Publisher
) -> None:
    queue = JobQueue(database, worker="one")
    await publish(database, OrderPaid(id=uuid4()), OrderSeen(id=uuid4()), StockMoved(id=uuid4()))
    await execute(database, "UPDATE outbox SET published_at = '2020-01-01 00:00:00+00:00'")
    assert await queue.purge_events(days=1, keep_unsent=True) == 1
    assert await sender.publish_some() == 2
    await publish(database, OrderPaid(id=uuid4()))
    await execute(database, "UPDATE outbox SET published_at = '2020-01-01 00:00:00+00:00'")
    assert await queue.purge_events(days=1, keep_unsent=True) == 2
    assert await queue.purge_events(days=1) == 0, "the newest stays: positions go on from it"
    await publish(database, OrderPaid(id=uuid4()))
    assert await queue.purge_events(days=1) == 1


# ---------------------------------------------------------------- too many


async def test_writes_go_on_until_the_outbox_is_full(
    database: Database, broker: FrailBroker, sender: Publisher, log_lines: list[EventDict]
) -> None:
    await publish(database, *(OrderPaid(id=uuid4()) for _ in range(4)))
    await watch_backlog(database, most=5)
    await publish(database, OrderPaid(id=uuid4()))
    await watch_backlog(database, most=5)
    with pytest.raises(Unavailable, match="Too many events"):
        await publish(database, OrderPaid(id=uuid4()))
    await publish(database, OrderSeen(id=uuid4()))  # has nothing to do with the broker
    with pytest.raises(Degraded, match="as many events wait"):
        await check_broker(broker, database)

    assert await sender.publish_some() == 5
    await watch_backlog(database, most=5)
    await publish(database, OrderPaid(id=uuid4()))
    changes = [line["event"] for line in log_lines if line["event"].startswith("outbox_")]
    assert changes == ["outbox_full", "outbox_has_room"]


async def test_a_request_is_told_to_come_again_and_ready_says_degraded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newel.worker._BACKLOG_SECONDS", 0.05)

    async def pay(work: CurrentWork) -> None:
        work.publish(OrderPaid(id=uuid4()))

    module = Module("shop")
    settings = Settings(
        _env_file=None,
        secret_key=SECRET,
        environment="test",
        database_url=database.url,
        broker_url="memory:",
        broker_backlog=2,
    )
    app = create_app(settings, module)
    app.post("/pay", dependencies=[public()], status_code=204)(pay)
    app.state.checks = {"broker": app.state.checks["broker"]}
    app.state.runs_jobs = False
    transport = ASGITransport(app=app)
    async with AsyncClient(transport=transport, base_url="http://test") as client, working(app):
        assert (await client.get("/ready")).json()["status"] == "ok"
        for _ in range(2):
            assert (await client.post("/pay")).status_code == 204
        await until(lambda: app.state.database.audience.is_full)
        answer = await client.post("/pay")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    await app.state.database.close()


# ---------------------------------------------------------------- nobody waits


@pytest.mark.parametrize(
    ("event", "handed_over"), [(OrderPaid(id=uuid4()), False), (OrderSeen(id=uuid4()), True)]
)
async def test_what_nobody_handles_is_handed_over_at_once(
    database: Database, event: Event, handed_over: bool
) -> None:
    database.audience = Audience(handled={"OrderPaid"}, has_broker=False)
    await publish(database, event)
    async with database.reading_engine.connect() as connection:
        row = (await connection.execute(select(OUTBOX))).one()
    assert (row.published_at is not None) == handed_over


@pytest.mark.parametrize(
    ("audience", "event", "rings"),
    [
        (Audience(), OrderSeen(id=uuid4()), True),
        (Audience(handled=()), OrderSeen(id=uuid4()), False),
        (Audience(handled=()), OrderPaid(id=uuid4()), True),
        (Audience(handled=(), has_broker=False), OrderPaid(id=uuid4()), False),
        (Audience(handled={"OrderPaid"}, has_broker=False), OrderPaid(id=uuid4()), True),
    ],
)
async def test_a_worker_is_woken_for_what_somebody_waits_for(
    database: Database, audience: Audience, event: Event, rings: bool
) -> None:
    database.audience = audience
    rung = asyncio.Event()
    async with database.bell.listening(rung):
        await publish(database, event)
    assert rung.is_set() == rings


async def test_what_nobody_waits_for_costs_the_worker_nothing(database: Database) -> None:
    """Statements on the outbox after the commit: none, where handing over takes two."""

    async def statements_after(audience: Audience) -> int:
        database.audience = audience
        await publish(database, OrderSeen(id=uuid4()))
        app = application(database)
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if (
                "INTO outbox" not in statement
                and "outbox" in statement
                and "EXISTS" not in statement
            ):
                seen.append(statement)

        engines = (database.engine.sync_engine, database.reading_engine.sync_engine)
        for engine in engines:
            sqlalchemy_event.listen(engine, "before_cursor_execute", note)
        await drain(app)
        for engine in engines:
            sqlalchemy_event.remove(engine, "before_cursor_execute", note)
        return len(seen)

    assert await statements_after(Audience(handled=(), has_broker=False)) == 0
    assert await statements_after(Audience()) == 2


# ---------------------------------------------------------------- put together


async def test_an_application_knows_who_waits(database_url: str) -> None:
    def built(**settings: Any) -> FastAPI:
        module = Module("shop", handlers=[book])
        return create_app(
            Settings(
                _env_file=None,
                secret_key=SECRET,
                environment="test",
                database_url=database_url,
                **settings,
            ),
            module,
        )

    alone, connected = built(), built(broker_url="memory:")
    assert alone.state.broker is None
    assert "broker" not in alone.state.checks
    assert alone.state.database.audience.handles(OrderPaid)
    assert not alone.state.database.audience.handles(OrderSeen)
    assert not alone.state.database.audience.has_broker
    assert isinstance(connected.state.broker, MemoryBroker)
    assert connected.state.database.audience.has_broker
    await connected.state.checks["broker"]()


async def test_the_lifespan_closes_the_broker(
    database: Database, broker: FrailBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    monkeypatch.setattr(broker, "close", close)
    monkeypatch.setattr("newel.app._check_schema", _no_check)
    async with LifespanManager(shop(database, broker)):
        assert closed == []
    assert closed == [True]


async def _no_check(_: FastAPI) -> None:
    """The test's tables come from no migration."""


def test_memory_is_refused_in_production() -> None:
    with pytest.raises(ConfigurationError, match="forgets the events"):
        create_app(
            Settings(
                _env_file=None,
                secret_key=SECRET,
                environment="production",
                broker_url="memory:",
            )
        )
