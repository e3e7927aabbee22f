"""The scenarios of stress/: a short run of each, and each defect that they have to find."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from uuid import UUID

import psutil
import pytest
from sqlalchemy import create_engine, event, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from stress.blows import Kind, plan
from stress.clients import Acknowledged
from stress.depot.application import CrateStored, count, shelve
from stress.depot.sabotage import SABOTAGES as DEPOT_SABOTAGES
from stress.faults import FAULTS as KNOWN_FAULTS
from stress.faults import as_rows
from stress.figures import Figure, Result, as_table
from stress.invariants import Found, invariants
from stress.outages import kept
from stress.proxy import CUT_BYTES, LATENCY_SECONDS, Proxy
from stress.shop.sabotage import SABOTAGES
from stress.site import create_tables

from newel.clock import utc_now
from newel.errors import ConfigurationError
from newel.events import OUTBOX, event_row, write_events
from newel.ids import uuid7
from newel.job_rows import JOBS, write_jobs

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("sqlite", "postgresql")


def command(*arguments: str, scenario: str = "crash") -> list[str]:
    return [sys.executable, "-m", "stress", scenario, *arguments]


def crash(
    folder: Path, *arguments: str, scenario: str = "crash", **environment: str
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return subprocess.run(
        command("--folder", str(folder), *arguments, scenario=scenario),
        cwd=ROOT,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


# ------------------------------------------------------------------------------ with a real service


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", BACKENDS)
def test_a_service_keeps_its_promises(tmp_path: Path, database: str) -> None:
    kills, syscalls = (5, 4) if database == "sqlite" else (7, 2)
    arguments = ("--database", database, "--kills", str(kills), "--syscalls", str(syscalls))

    done = crash(tmp_path, *arguments, "--json", "--seed", "11")

    assert done.returncode == 0, done.stdout + done.stderr
    [result] = map(json.loads, done.stdout.splitlines())
    figures = {figure["name"]: figure["value"] for figure in result["figures"]}
    assert figures["kills"] == kills + syscalls
    assert figures["acknowledged"] >= 3 * (kills + syscalls)
    assert figures["replayed"] >= 50
    assert figures["kills that missed their aim"] <= 1


SHORT = {
    "late-key,told-first": "--kills 2 --only api",
    "answer-before-commit": "--kills 2 --only api",
    "background-tasks": "--kills 2 --only api",
    "torn-transfer": "--kills 3 --only api",
    "no-fence": "--kills 2 --only pause",
    "relay-marks-first": "--kills 2 --only relay",
    "no-order,no-reaper": "--kills 2 --only worker",
}


def test_every_defect_is_looked_for() -> None:
    short = ",".join(SHORT).split(",")
    assert {*short, *RELEASED} == set(SABOTAGES)
    assert {SABOTAGES[name].scenario for name in short} == {"crash"}
    assert {SABOTAGES[name].scenario for name in RELEASED} == {"rolling"}


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sabotage", sorted(SHORT))
def test_a_planted_defect_is_found(tmp_path: Path, sabotage: str) -> None:
    arguments = ["--database", "sqlite", "--syscalls", "0", *SHORT[sabotage].split()]
    planted = sabotage.split(",")
    arguments += [word for name in planted for word in ("--sabotage", name)]

    # A few kills may all miss the moment in which it shows: then others do not.
    for seed in ("1", "2", "3", "4"):
        folder = tmp_path / seed
        folder.mkdir()
        done = crash(folder, *arguments, "--seed", seed)
        _, _, found = done.stdout.rpartition(": ")
        missed = [name for name in planted if SABOTAGES[name].found_by not in found]
        if not missed:
            break

    assert not missed, done.stdout + done.stderr
    assert done.returncode == 1
    assert f" with {sabotage}, seed {seed}: " in done.stdout


RELEASED = ("no-drain", "jobs-kept")
RELEASE = "--releases 1 --only web-1 --only worker-1 --clients 5"


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_a_service_goes_on_without_what_it_depends_on(tmp_path: Path) -> None:
    only = ("redis-reset", "broker-refuse")
    chosen = [word for name in only for word in ("--only", name)]

    done = crash(tmp_path, "--cycles", "1", "--json", *chosen, scenario="faults")

    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["database"] for result in results] == list(only)
    for result in results:
        figures = {figure["name"]: figure["value"] for figure in result["figures"]}
        assert figures["acknowledged"] > 0
        assert figures["acknowledged and lost"] == 0


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_what_grows_with_each_fault_is_found(tmp_path: Path) -> None:
    done = crash(tmp_path, "--cycles", "2", "--sabotage", "leak", scenario="faults")

    assert done.returncode == 1, done.stdout + done.stderr
    _, _, found = done.stdout.rpartition(": ")
    assert DEPOT_SABOTAGES["leak"].found_by in found


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_nobody_notices_a_release(tmp_path: Path) -> None:
    done = crash(tmp_path, *RELEASE.split(), "--json", "--seed", "5", scenario="rolling")

    assert done.returncode == 0, done.stdout + done.stderr
    figures = {one["name"]: one["value"] for one in json.loads(done.stdout)["figures"]}
    assert figures["processes replaced"] == 2
    assert figures["acknowledged"] >= 60
    assert figures["jobs under way when a worker was stopped"] >= 3
    assert figures["failed requests"] == figures["jobs that a stopped worker kept"] == 0


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_a_release_that_drops_what_is_under_way_is_found(tmp_path: Path) -> None:
    planted = [word for name in RELEASED for word in ("--sabotage", name)]

    done = crash(tmp_path, *RELEASE.split(), *planted, scenario="rolling")

    assert done.returncode == 1, done.stdout + done.stderr
    _, _, found = done.stdout.rpartition(": ")
    for name in RELEASED:
        assert SABOTAGES[name].found_by in found, done.stdout + done.stderr


@pytest.mark.stress
def test_a_killed_run_leaves_no_process_behind(tmp_path: Path) -> None:
    def children() -> list[psutil.Process]:
        found = psutil.Process(run.pid).children()
        return [one for one in found if {"serve", "worker"} & set(one.cmdline())]

    arguments = ("--database", "sqlite", "--kills", "50", "--syscalls", "0", "--only", "api")
    with subprocess.Popen(
        command("--folder", str(tmp_path), *arguments), cwd=ROOT, stderr=subprocess.DEVNULL
    ) as run:
        end = time.monotonic() + 30
        while len(started := children()) < 3:
            assert time.monotonic() < end
        run.send_signal(signal.SIGKILL)

    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive


@pytest.mark.stress
def test_an_strace_that_may_not_attach_is_no_kill(tmp_path: Path) -> None:
    forbidden = tmp_path / "strace"
    forbidden.write_text("#!/bin/sh\nexit 1\n")
    forbidden.chmod(0o755)
    arguments = ("--database", "sqlite", "--kills", "0", "--syscalls", "1")

    done = crash(tmp_path, *arguments, PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: strace, which kills at a system call, may not attach to a process here",
        "fix:   see its message above; or leave that out: --syscalls 0",
    ]


def test_without_strace_it_says_what_to_install(tmp_path: Path) -> None:
    done = crash(tmp_path, "--database", "sqlite", "--kills", "0", PATH=str(tmp_path))

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: strace, which kills at a system call, is not installed",
        "fix:   apt install strace, or leave that out: --syscalls 0",
    ]


def test_each_defect_names_a_fault_that_there_is() -> None:
    assert {one.fault for one in DEPOT_SABOTAGES.values()} <= set(KNOWN_FAULTS)


def test_results_of_faults_stand_below_each_other() -> None:
    slow = Figure(name="recovery, s", value=2.5, most=2.0)
    skipped = replace(a_result("clock"), skipped="no clock; apt install faketime")

    assert skipped.line() == "crash on clock: skipped: no clock; apt install faketime"
    assert as_rows([a_result("redis-refuse", slow), skipped]).splitlines()[2:] == [
        "| `redis-refuse` |  |  |  | 2.50 |  |  |  |  | 1 |",
        "| `clock` |  |  |  |  |  |  |  |  | skipped |",
    ]


def test_what_begins_between_two_looks_is_waited_for_or_nobodys(tmp_path: Path) -> None:
    """A handler's job comes after its event is at the broker; a schedule's, when all is counted."""
    path = tmp_path / "depot.db"
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=NullPool)
    own = create_engine(f"sqlite:///{path}")
    crate = CrateStored(id=uuid7(), reference="one")

    def write(*statements: Any, job: dict[str, Any] | None = None) -> None:
        with own.begin() as connection:
            for one in statements:
                connection.execute(one)
            write_jobs(connection, [job] if job else [])

    def end_of(job: dict[str, Any]) -> Any:
        return update(JOBS).where(JOBS.c.id == job["id"]).values(finished_at=utc_now())

    told, counted = shelve.row(None, crate.id), count.row(None)
    handed_over = update(OUTBOX).values(published_at=utc_now())
    steps = [
        lambda: write(handed_over, job=told),
        lambda: write(end_of(told)),
        lambda: write(job=counted),
    ]

    def work(*arguments: Any) -> None:
        if "FROM jobs" in arguments[2] and steps:
            steps.pop(0)()

    async def look() -> list[Figure]:
        await create_tables(engine, tmp_path)
        with own.begin() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        with own.begin() as connection:
            write_events(connection, [event_row(crate, None, is_handled=True)])
            connection.execute(update(OUTBOX).values(sent_at=utc_now()))
        event.listen(engine.sync_engine, "after_cursor_execute", work)
        site: Any = SimpleNamespace(engine=engine, mails=SimpleNamespace(subjects=()))
        load: Any = SimpleNamespace(stored={})
        try:
            return await kept(site, load)
        finally:
            await engine.dispose()
            own.dispose()

    figures = asyncio.run(look())

    assert not steps
    assert [one for one in figures if one.missed] == []


# ---------------------------------------------------------------------------------------- the proxy


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100_000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def through_each_mode() -> None:
    async with (
        await asyncio.start_server(echo, "127.0.0.1", 0) as server,
        Proxy(server.sockets[0].getsockname()[:2]) as proxy,
        asyncio.timeout(30),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one")
        assert await reader.read(10) == b"one"
        assert proxy.open == 1

        await proxy.switch("black hole")
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(10), 0.2)
        await proxy.switch("pass")  # it was held back, and is not lost
        assert await reader.read(10) == b"two"

        await proxy.switch("latency")
        began = time.monotonic()
        writer.write(b"three")
        assert await reader.read(10) == b"three"
        assert time.monotonic() - began >= 2 * LATENCY_SECONDS - 0.01

        await proxy.switch("reset")
        with pytest.raises(ConnectionResetError):
            await reader.read(10)
        assert proxy.open == 0

        await proxy.switch("refuse")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)

        await proxy.switch("cut")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(bytes(2 * CUT_BYTES))
        assert len(await reader.read()) == CUT_BYTES
        writer.close()


def test_a_proxy_fails_as_it_is_told() -> None:
    asyncio.run(through_each_mode())


# ----------------------------------------------------------------------------------------- the plan


def test_a_seed_decides_the_blows() -> None:
    first, same, other = (
        plan("postgresql", kills=20, syscalls=10, seed=seed) for seed in (1, 1, 2)
    )

    assert first == same
    assert first != other
    assert len(first) == 30
    assert sum(blow.system_call is not None for blow in first) == 10


@pytest.mark.parametrize(("database", "kinds"), [("sqlite", 5), ("postgresql", 7)])
def test_few_blows_are_of_every_kind(database: Any, kinds: int) -> None:
    blows = plan(database, kills=kinds, syscalls=3, seed=3)

    at_random = {blow.kind for blow in blows if blow.system_call is None}
    assert len(at_random) == kinds
    assert at_random <= set(get_args(Kind))
    assert {blow.kind for blow in blows if blow.system_call} == {"api", "worker", "all"}


def test_nothing_to_hit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Of backend there is nothing to kill"):
        plan("sqlite", kills=1, syscalls=0, seed=1, only=["backend"])
    with pytest.raises(ConfigurationError, match="Of pause there is nothing to kill"):
        plan("sqlite", kills=0, syscalls=1, seed=1, only=["pause"])


# ----------------------------------------------------------------------------------- the invariants

ANN, BOB = uuid7(), uuid7()


def an_order(reference: str, customer: UUID, number: int) -> Any:
    return SimpleNamespace(id=uuid7(), reference=reference, customer_id=customer, number=number)


def acknowledged(row: Any) -> Acknowledged:
    body = {"reference": row.reference}
    return Acknowledged(path="/", body=body, answer=json.dumps({"id": str(row.id)}).encode())


def sound() -> tuple[Found, list[Acknowledged]]:
    """Return a shop that kept every promise, and what it answered."""
    orders = [an_order("a", ANN, 1), an_order("b", BOB, 1), an_order("c", ANN, 2)]
    transfer = SimpleNamespace(id=uuid7(), reference="t", from_id=ANN, to_id=BOB, amount_cents=30)
    effects = [
        SimpleNamespace(order_id=order.id, kind=kind)
        for order in orders
        for kind in ("labelled", "packed", "told")
    ]
    delivered = [(str(ANN), 1), (str(BOB), 1), (str(ANN), 1), (str(ANN), 2)]
    found = Found(
        orders=orders,
        transfers=[transfer],
        effects=effects,
        balances_cents={ANN: 70, BOB: 130},
        jobs=[SimpleNamespace(id=uuid7(), name="pack", state="done")],
        unpublished=0,
        deliveries=delivered,
        mails=dict.fromkeys(("Order a", "Order b", "Order c"), 1),
        damage=[],
    )
    return found, [acknowledged(row) for row in (*orders, transfer)]


def replace_order(effect: Any) -> Any:
    return SimpleNamespace(order_id=uuid7(), kind=effect.kind)


def broken(found: Found, answers: list[Acknowledged]) -> set[str]:
    figures = invariants(found, acknowledged=answers, purse_cents=100)
    return {figure.name for figure in figures if figure.missed}


def test_a_sound_shop_breaks_no_promise() -> None:
    assert broken(*sound()) == set()


FOUND, ANSWERS = sound()
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("acknowledged and lost", {"transfers": [], "balances_cents": {ANN: 100, BOB: 100}}),
    ("keys with more than one row", {"transfers": [*FOUND.transfers, FOUND.transfers[0]]}),
    ("jobs that did not finish", {"unpublished": 1}),
    (
        "jobs that did not finish",
        {"jobs": [SimpleNamespace(id=uuid7(), name="pack", state="dead")]},
    ),
    ("jobs without one effect", {"effects": [*FOUND.effects, FOUND.effects[0]]}),
    ("jobs without one effect", {"effects": FOUND.effects[1:]}),
    ("effects of no order", {"effects": [*FOUND.effects, replace_order(FOUND.effects[0])]}),
    ("events without one effect", {"effects": FOUND.effects[:-1]}),
    ("events never delivered", {"deliveries": FOUND.deliveries[:-1]}),
    ("customers whose events came out of order", {"deliveries": FOUND.deliveries[::-1]}),
    ("orders without one mail", {"mails": {**FOUND.mails, "Order a": 2}}),
    ("orders without one mail", {"mails": {"Order a": 1, "Order b": 1}}),
    ("purses that do not add up", {"balances_cents": {ANN: 71, BOB: 130}}),
    ("faults in the database's files", {"damage": ["row 3 missing from index"]}),
]


@pytest.mark.parametrize(("name", "change"), FAULTS)
def test_a_broken_promise_is_counted(name: str, change: dict[str, Any]) -> None:
    assert name in broken(replace(FOUND, **change), ANSWERS)


# -------------------------------------------------------------------------------------- the figures


def a_result(database: str, *figures: Figure) -> Result:
    return Result(
        scenario="crash",
        database=database,
        seed=1,
        sabotage=None,
        blows={},
        seconds=1.0,
        figures=figures,
    )


def test_a_result_is_one_line() -> None:
    kills = Figure(name="kills", value=1200)
    late = Figure(name="slowest restart until ready, s", value=3.01, most=3.0)

    assert a_result("sqlite", kills, replace(late, value=3.0)).line() == (
        "crash on sqlite, seed 1: 1,200 kills: all promises kept"
    )
    assert a_result("sqlite", kills, late).line() == (
        "crash on sqlite, seed 1: 1,200 kills: 3.01 slowest restart until ready, s"
    )


def test_results_stand_beside_each_other() -> None:
    results = [
        a_result(name, Figure(name="kills", value=9), Figure(name="lost", value=0, most=0))
        for name in BACKENDS
    ]

    assert as_table(results).splitlines() == [
        "|  | sqlite | postgresql | at most |",
        "| --- | ---: | ---: | ---: |",
        "| kills | 9 | 9 |  |",
        "| lost | 0 | 0 | 0 |",
    ]
