"""Jobs that come by JetStream: what is lost on the way is found, and who is away is done without.

That workers keep their promises by either dispatch is in test_worker and test_job_queue.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from sample_jobs import application, enqueue, execute, row, rows, running, until
from sample_nats import NatsServer
from structlog.typing import EventDict

from newel import dispatch as dispatch_module
from newel import doctor
from newel.app import create_app
from newel.db import Database
from newel.dispatch import Carrier, Dispatch, dispatch_by, open_carrier
from newel.drivers import nats
from newel.drivers.nats import JetStreamCarrier
from newel.errors import ConfigurationError, Unavailable
from newel.health import Degraded
from newel.job_queue import JobQueue, Outcome, cancel
from newel.jobs import JobRun, job
from newel.ports import close_ports
from newel.settings import Settings
from newel.worker import working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]
on_postgresql = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
"""SQLite is refused: `test_what_is_refused`."""


@job()
async def nothing(job: JobRun) -> None: ...


@job(priority=-7)
async def urgent(job: JobRun) -> None: ...


@job(priority=3)
async def patient(job: JobRun) -> None: ...


@job(concurrency_key=str)
async def bill(job: JobRun, account: int) -> None: ...


@pytest.fixture
async def carrier(nats_server: NatsServer) -> AsyncGenerator[JetStreamCarrier]:
    found = JetStreamCarrier(nats_server.url, name=f"t.{uuid4().hex}")
    yield found
    await found.close()


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncGenerator[NatsServer]:
    """A server that this test stops and starts."""
    with NatsServer(tmp_path) as server:
        yield server


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database, worker="w1")


@pytest.fixture
def carried(queue: JobQueue, carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> Dispatch:
    """The dispatch by JetStream, which looks for what was lost whenever it is asked to."""
    monkeypatch.setattr(dispatch_module, "_DOUBT_EVERY_SECONDS", -1.0)
    return dispatch_by(queue, carrier)


async def look_after(dispatch: Dispatch, queue: JobQueue) -> None:
    await dispatch.care(await queue.due(), ["default"])


async def claim(dispatch: Dispatch, most: int = 10) -> list[UUID]:
    return [one.id for one in await dispatch.claim("default", most=most)]


async def all_done(database: Database) -> bool:
    return all(one.state == "done" for one in await rows(database))


async def wait_long(database: Database) -> None:
    """Let as much time go by as makes one look for what does not come."""
    await execute(database, "UPDATE jobs SET announced_at = announced_at - interval '10 seconds'")


async def take(carrier: Carrier, line: str = "default.normal", most: int = 10) -> list[bytes]:
    async with carrier.take(line, most=most) as bodies:
        return list(bodies)


# ---------------------------------------------------------------- the carrier


async def test_each_message_goes_to_one_in_order(
    nats_server: NatsServer, carrier: JetStreamCarrier
) -> None:
    line = "a line.with > odd * words"
    await carrier.send(line, [b"%d" % number for number in range(300)])
    other = JetStreamCarrier(nats_server.url, name=carrier._stream.removesuffix("_jobs"))
    other._stream = carrier._stream
    assert await carrier.oldest(line) == b"0"
    assert await take(carrier, line, 100) == [b"%d" % number for number in range(100)]
    assert await take(other, line, 150) == [b"%d" % number for number in range(100, 250)]
    assert await take(carrier, line, 100) == [b"%d" % number for number in range(250, 300)]
    assert await take(carrier, line) == []
    assert await take(carrier, "another") == []
    assert await carrier.oldest(line) is None
    await other.close()


async def test_what_was_taken_in_vain_comes_again(carrier: JetStreamCarrier) -> None:
    await carrier.send("line", [b"1", b"2"])
    with pytest.raises(LookupError):
        async with carrier.take("line", most=1):
            raise LookupError
    assert await carrier.oldest("line") == b"1"
    assert sorted(await take(carrier, "line")) == [b"1", b"2"]


async def test_what_a_killed_process_had_taken_comes_again(
    carrier: JetStreamCarrier, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "TAKEN_SECONDS", 0.3)
    await carrier.send("line", [b"1"])
    killed = JetStreamCarrier(nats_server.url, name="x")
    killed._stream = carrier._stream
    taking = killed.take("line", most=1)
    assert await taking.__aenter__() == [b"1"]
    await killed.close()
    assert await take(carrier, "line") == []

    async def again() -> bool:
        return await take(carrier, "line") == [b"1"]

    await until(again)
    await taking.__aexit__(None, None, None)  # it is too late to say so


async def test_a_server_that_is_killed_loses_nothing_and_is_found_again(
    own_server: NatsServer,
) -> None:
    carrier = JetStreamCarrier(own_server.url, name="t")
    await carrier.send("line", [b"1", b"2"])
    own_server.stop(signal.SIGKILL)
    for attempt in (carrier.ping, lambda: take(carrier, "line"), lambda: carrier.send("l", [b"3"])):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await attempt()
        assert time.monotonic() - began < 5
    own_server.start()

    async def back() -> bool:
        try:
            await carrier.ping()
        except Unavailable:
            return False
        return True

    await until(back)
    assert await take(carrier, "line") == [b"1", b"2"]
    await carrier.close()


async def test_nobody_answers_from_the_beginning(own_server: NatsServer) -> None:
    own_server.stop()
    carrier = JetStreamCarrier(own_server.url, name="t")
    with pytest.raises(Unavailable):
        await carrier.ping()
    own_server.start()
    await carrier.ping()
    await carrier.close()
    await carrier.close()


async def test_who_is_not_there_is_not_looked_for_again_and_again(own_server: NatsServer) -> None:
    """To fail takes a while: a worker that started without the server did nothing else."""
    own_server.stop()
    carrier = JetStreamCarrier(own_server.url, name="t")
    with pytest.raises(Unavailable):
        await carrier.oldest("a")
    own_server.start()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await carrier.oldest("a")
    assert time.monotonic() - began < 0.5
    await carrier.ping()  # who asks in so many words is told how it is
    assert await carrier.oldest("a") is None
    await carrier.close()


async def test_a_stream_that_is_there_is_used_as_it_is(carrier: JetStreamCarrier) -> None:
    """An operator makes one with replicas; here it is one that keeps less."""
    _, stream = await carrier._connected()
    await stream.add_stream(
        name=carrier._stream, subjects=[f"{carrier._stream}.*"], retention="workqueue", max_msgs=2
    )
    await carrier.send("line", [b"1", b"2", b"3"])
    kept: list[bytes] = []

    async def came() -> bool:
        kept.extend(await take(carrier, "line"))
        return len(kept) >= 2

    await until(came)
    assert kept == [b"2", b"3"]


# ---------------------------------------------------------------- announcing


@on_postgresql
async def test_a_process_that_only_serves_announces_after_the_commit(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_URL", nats_server.url)
    monkeypatch.setenv("SERVICE_NAME", f"t{uuid4().hex}")
    app = application(database, nothing)
    app.state.runs_jobs = False
    async with working(app):
        await asyncio.sleep(0)  # it listens
        id = await enqueue(database, nothing)

        async def came() -> bool:
            return (await app.state.carrier.oldest("default.normal") or b"").startswith(
                b"%s" % str(id).encode()
            )

        await until(came)
    await app.state.carrier.close()


@on_postgresql
async def test_the_urgent_overtake_those_that_wait(
    database: Database, queue: JobQueue, carried: Dispatch
) -> None:
    ids: list[UUID] = []
    for one in (patient, nothing, nothing, urgent):
        ids.append(await enqueue(database, one))
        await look_after(carried, queue)
    assert await claim(carried, 2) == [ids[3], ids[1]]
    assert await claim(carried, 2) == [ids[2], ids[0]]


@on_postgresql
async def test_a_message_about_a_job_that_may_not_run_any_more_is_dropped(
    database: Database, queue: JobQueue, carried: Dispatch, carrier: Carrier
) -> None:
    ids = [await enqueue(database, nothing) for _ in range(3)]
    await look_after(carried, queue)
    async with database.write(None) as work, work.as_system("an administrator"):
        await cancel(work, ids[0])
    await carrier.send("default.normal", [b"what somebody else sent"])
    assert await claim(carried, 1) == [ids[1]]
    assert await claim(carried) == [ids[2]]
    assert await carrier.oldest("default.normal") is None


@on_postgresql
async def test_one_that_has_to_wait_in_its_line_is_announced_later(
    database: Database, queue: JobQueue, carried: Dispatch
) -> None:
    """The retry of an older job of the same key came in between."""
    ids = [await enqueue(database, bill, 1) for _ in range(2)]
    await look_after(carried, queue)
    [first] = await carried.claim("default", most=5)
    assert first.id == ids[0]
    await queue.finish([Outcome(first.id, 1, "scheduled", delay_seconds=60)])
    await look_after(carried, queue)  # the second is announced
    await execute(database, f"UPDATE jobs SET state = 'ready' WHERE id = '{ids[0]}'")
    assert await claim(carried) == []
    await look_after(carried, queue)
    [again] = await carried.claim("default", most=5)
    assert (again.id, again.attempt) == (ids[0], 2)
    await queue.finish([Outcome(again.id, 2, "done")])
    await look_after(carried, queue)
    assert await claim(carried) == [ids[1]]


# ---------------------------------------------------------------- what gets lost


@on_postgresql
@pytest.mark.parametrize("sabotage", [False, True])
async def test_who_is_killed_before_sending_loses_nothing(
    database: Database,
    queue: JobQueue,
    carried: Dispatch,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: bool,
) -> None:
    """Marked and never sent; without the look for it nobody would ever run it."""
    if sabotage:
        monkeypatch.setattr(dispatch_module, "_DOUBT_EVERY_SECONDS", 1e9)
    id = await enqueue(database, nothing)
    await queue.announce(most=10)
    await look_after(carried, queue)
    assert await claim(carried) == []
    await wait_long(database)
    await look_after(carried, queue)
    assert await claim(carried) == ([] if sabotage else [id])


@on_postgresql
async def test_only_what_the_stream_has_lost_is_announced_again(
    database: Database, queue: JobQueue, carried: Dispatch, carrier: JetStreamCarrier
) -> None:
    ids: list[UUID] = []
    for _ in range(3):
        ids.append(await enqueue(database, nothing))
        await look_after(carried, queue)
    _, stream = await carrier._connected()
    await stream.delete_msg(carrier._stream, 1)
    await wait_long(database)
    # The body of the oldest message says when it was announced, so its clock moves along.
    held = await row(database, ids[1])
    await stream.delete_msg(carrier._stream, 2)
    await stream.delete_msg(carrier._stream, 3)
    for id in ids[1:]:
        at = (await row(database, id)).announced_at
        assert at is not None
        await carrier.send("default.normal", [f"{id} {at.isoformat()}".encode()])
    await look_after(carried, queue)
    assert (await row(database, ids[1])).announced_at == held.announced_at
    info = await stream.stream_info(carrier._stream)
    assert info.state.messages == 3
    assert sorted(await claim(carried)) == ids


@on_postgresql
async def test_a_stream_that_is_gone_is_made_again(
    database: Database, queue: JobQueue, carried: Dispatch, carrier: JetStreamCarrier
) -> None:
    ids = [await enqueue(database, nothing) for _ in range(2)]
    await look_after(carried, queue)
    _, stream = await carrier._connected()
    await stream.delete_stream(carrier._stream)
    await wait_long(database)

    async def found() -> bool:
        await look_after(carried, queue)
        return sorted(await claim(carried)) == ids

    await until(found)


# ---------------------------------------------------------------- who is away


@on_postgresql
async def test_while_jetstream_is_away_the_table_will_do(
    database: Database,
    own_server: NatsServer,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[EventDict],
) -> None:
    """Killed in the middle of the work and started again: every job is done, each once."""
    started: list[UUID] = []

    @job()
    async def count(job: JobRun) -> None:
        started.append(job.id)
        await asyncio.sleep(0.002)

    monkeypatch.setenv("JOBS_URL", own_server.url)
    app, other = application(database, count), application(database, count)
    ids: list[UUID] = []

    async def add(number: int) -> None:
        async with database.write(None) as work:
            ids.extend(work.enqueue(count) for _ in range(number))

    await add(200)
    async with running(app), running(other):
        await until(lambda: len(started) >= 50)
        own_server.stop(signal.SIGKILL)
        await add(100)
        await until(lambda: len(started) >= 300)
        own_server.start()
        await until(lambda: "carrier_back" in [line["event"] for line in log_lines])
        await add(100)
        await until(lambda: all_done(database))
    for one in (app, other):
        await one.state.carrier.close()
    assert sorted(started) == sorted(ids)
    assert {one.attempt for one in await rows(database)} == {1}
    assert [line["event"] for line in log_lines].count("carrier_away") <= 6


@on_postgresql
async def test_what_could_not_be_sent_is_left_to_the_table(
    database: Database,
    queue: JobQueue,
    carried: Dispatch,
    carrier: JetStreamCarrier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: Any) -> None:
        raise Unavailable("JetStream does not answer.")

    id = await enqueue(database, nothing)
    monkeypatch.setattr(carrier, "send", fail)
    await look_after(carried, queue)
    assert (await row(database, id)).announced_at is None
    assert await claim(dispatch_by(queue, None)) == [id]


@on_postgresql
async def test_who_only_serves_goes_on_while_jetstream_is_away(
    database: Database,
    own_server: NatsServer,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[EventDict],
) -> None:
    own_server.stop()
    monkeypatch.setenv("JOBS_URL", own_server.url)
    app = application(database, nothing)
    app.state.runs_jobs = False
    async with working(app):
        await asyncio.sleep(0)  # it listens
        id = await enqueue(database, nothing)
        await until(lambda: "carrier_away" in [line["event"] for line in log_lines])
        own_server.start()
        other = await enqueue(database, nothing)

        async def announced() -> bool:
            return None not in [(await row(database, one)).announced_at for one in (id, other)]

        await until(announced)
    await app.state.carrier.close()


@on_postgresql
async def test_without_jobs_url_the_table_takes_back_what_was_announced(
    database: Database, queue: JobQueue, carried: Dispatch
) -> None:
    id = await enqueue(database, nothing)
    await look_after(carried, queue)
    table = dispatch_by(queue, None)
    await look_after(table, queue)
    assert await claim(table) == []
    await wait_long(database)
    await look_after(table, queue)
    assert await claim(table) == [id]


@on_postgresql
async def test_a_service_works_by_it(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes out of the table: JetStream carries every job to a worker."""

    async def none(*_: Any, **__: Any) -> None:
        raise AssertionError("a job was claimed out of the table")

    monkeypatch.setattr(JobQueue, "claim", none)
    monkeypatch.setenv("JOBS_URL", nats_server.url)
    monkeypatch.setenv("SERVICE_NAME", f"t{uuid4().hex}")
    app = application(database, nothing, bill)
    async with running(app):
        for number in range(30):
            await enqueue(database, *((nothing,) if number % 3 else (bill, 1)))
        await until(lambda: all_done(database))
    await app.state.carrier.close()


# ---------------------------------------------------------------- settings


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_carrier(None, name="t", is_sqlite=True) is None
    with pytest.raises(ConfigurationError, match="SQLite"):
        open_carrier("nats://127.0.0.1:4222", name="t", is_sqlite=True)
    with pytest.raises(ConfigurationError, match="not an address of NATS"):
        open_carrier("redis://127.0.0.1", name="t", is_sqlite=False)

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        open_carrier("nats://127.0.0.1:4222", name="t", is_sqlite=False)
    assert caught.value.fix == "install newel[nats]"


@on_postgresql
async def test_who_is_away_is_said(database: Database, own_server: NatsServer) -> None:
    app = service(database, own_server)
    await app.state.checks["jobs"]()
    assert (await said_of_jobs(app)).status == "ok"
    own_server.stop()
    with pytest.raises(Degraded):
        await app.state.checks["jobs"]()
    found = await said_of_jobs(app)
    assert (found.status, "JOBS_URL" in found.fix) == ("warn", True)
    await close_ports(app)


async def said_of_jobs(app: FastAPI) -> doctor.Finding:
    ports = doctor._ports(app, app.state.settings)
    [found] = [finding async for finding in ports if finding.name == "jobs"]
    return found


def service(database: Database, server: NatsServer) -> FastAPI:
    settings = Settings(
        _env_file=None,
        secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ",
        environment="test",
        database_url=database.url,
        jobs_url=server.url,
    )
    return create_app(settings)


@on_postgresql
async def test_the_application_closes_it(
    database: Database, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = service(database, nats_server)
    monkeypatch.setattr("newel.app._check_schema", _nothing_to_check)
    async with app.router.lifespan_context(app):
        await app.state.carrier.ping()
    assert app.state.carrier._connection is None


@pytest.mark.parametrize("sabotaged", [False, True])
async def test_a_connection_that_breaks_while_it_is_closed_is_closed(
    carrier: JetStreamCarrier, monkeypatch: pytest.MonkeyPatch, sabotaged: bool
) -> None:
    """nats-py sends what it has not sent yet, and that fails."""
    if sabotaged:
        monkeypatch.setattr(nats, "close_client", lambda client: client.close())
    await carrier.ping()
    client, _ = carrier._connection
    await client.publish("last.words")
    client._transport._io_writer.transport.abort()
    with pytest.raises(ConnectionResetError) if sabotaged else nullcontext():
        await carrier.close()


async def _nothing_to_check(*_: Any) -> None: ...
