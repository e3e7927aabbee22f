"""``newel.workers``: one socket, several processes, none of which anybody misses."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx2
import psutil
import pytest
from sample_runs import Service, at_a_terminal, error_lines, make_service, running, wait_until
from structlog.testing import capture_logs

from newel import workers
from newel.workers import READY, Workers, inherited

CHILD = """
import os, select, signal, socket, sys, time
end = socket.socket(fileno=int(sys.argv[1]))
_, [number], _, _ = socket.recv_fds(end, 1, 1)
listener = socket.socket(fileno=number)
listener.setblocking(False)  # another one may be sooner to accept
mode = open(sys.argv[2]).read()
if mode == "broken":
    sys.exit(3)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if mode == "hanging":
    end.send(b"1")
    time.sleep(600)
end.send(b"1")
if mode == "dying":
    sys.exit(4)
while True:
    ready, _, _ = select.select([end, listener], [], [], 0.5)
    if end in ready:
        sys.exit(0)
    if not ready:
        end.send(b"1")
        continue
    try:
        client, _ = listener.accept()
    except BlockingIOError:
        continue
    client.sendall(str(os.getpid()).encode())
    client.close()
"""


class Crew:
    """Workers of a few lines of Python each, which answer with their process id."""

    def __init__(self, folder: Path, *, stop_seconds: float, silent_seconds: float = 30.0) -> None:
        self.mode = folder / "mode"
        self.mode.write_text("good")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.ready = asyncio.Event()
        self.workers = Workers(
            self.command,
            self.listener,
            count=2,
            stop_seconds=stop_seconds,
            silent_seconds=silent_seconds,
        )

    def command(self, channel: int) -> list[str]:
        return [sys.executable, "-S", "-c", CHILD, str(channel), str(self.mode)]

    async def run(self) -> int:
        with self.listener:
            return await self.workers.run(on_ready=self.ready.set)

    async def ask(self) -> int:
        reader, writer = await asyncio.open_connection(*self.address)
        answer = await reader.read()
        writer.close()
        return int(answer)


def processes() -> set[int]:
    """Return who is there of us."""
    return {one.pid for one in psutil.Process().children() if is_ours(one)}


def is_ours(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # it has just ended, or nobody has asked for its code yet
        return CHILD in process.cmdline()
    return False


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.01)


@asynccontextmanager
async def at_work(
    folder: Path, *, stop_seconds: float = 30, silent_seconds: float = 30, mode: str = "good"
) -> AsyncGenerator[Crew]:
    crew = Crew(folder, stop_seconds=stop_seconds, silent_seconds=silent_seconds)
    crew.mode.write_text(mode)
    running = asyncio.create_task(crew.run())
    try:
        async with asyncio.timeout(40):
            await crew.ready.wait()
            yield crew
            os.kill(os.getpid(), signal.SIGTERM)
            assert await running == 0
    finally:
        running.cancel()
        for process in psutil.Process().children():
            if is_ours(process):
                process.kill()
    assert processes() == set()


@pytest.mark.anyio
async def test_all_serve_on_one_socket_and_end_together(tmp_path: Path) -> None:
    async with at_work(tmp_path) as crew:
        both = processes()
        assert len(both) == 2
        assert {await crew.ask() for _ in range(5)} <= both
    with pytest.raises(ConnectionRefusedError):
        await crew.ask()


@pytest.mark.anyio
async def test_who_dies_is_replaced(tmp_path: Path) -> None:
    async with at_work(tmp_path) as crew:
        before = processes()
        victim = min(before)
        with capture_logs() as logs:
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len(processes() - {victim}) == 2)
        assert await crew.ask() in processes()
    [line] = [line for line in logs if line["event"] == "process_died"]
    assert (line["process"], line["code"]) == (victim, -signal.SIGKILL)


@pytest.mark.anyio
async def test_who_dies_again_and_again_is_given_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_SECONDS", (0.01, 0.05))
    with capture_logs() as logs:
        async with at_work(tmp_path) as crew:
            crew.mode.write_text("dying")
            os.kill(min(processes()), signal.SIGKILL)
            await until(lambda: len(logs) >= 6)
            crew.mode.write_text("good")
    pauses = [line["again_in"] for line in logs if line["event"] == "process_died"]
    assert pauses[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]


@pytest.mark.anyio
async def test_a_restart_replaces_each_when_its_successor_serves(tmp_path: Path) -> None:
    async with at_work(tmp_path) as crew:
        before = processes()
        least = 2
        with capture_logs() as logs:
            os.kill(os.getpid(), signal.SIGHUP)
            while len([line for line in logs if line["event"] == "process_replaced"]) < 2:
                assert await crew.ask()
                least = min(least, len(processes()))
        assert least == 2, "one was stopped before another one served"
        assert not processes() & before
        assert len(processes()) == 2


@pytest.mark.anyio
async def test_a_restart_that_fails_leaves_everybody_in_place(tmp_path: Path) -> None:
    async with at_work(tmp_path) as crew:
        before = processes()
        crew.mode.write_text("broken")
        with capture_logs() as logs:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: any(line["event"] == "restart_given_up" for line in logs))
        await until(lambda: processes() == before)
        assert await crew.ask() in before
        crew.mode.write_text("good")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(processes()) == 2 and not processes() & before)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fork fails as on a full system, once for each number that a test appends."""
    fails: list[int] = []
    real = asyncio.create_subprocess_exec

    async def fork(*command: Any, **options: Any) -> Any:
        if fails:
            number = fails.pop()
            raise OSError(number, os.strerror(number))
        return await real(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fork)
    monkeypatch.setattr(workers, "_PAUSE_SECONDS", (0.01, 0.05))
    return fails


@pytest.mark.anyio
async def test_a_process_that_cannot_be_started_is_tried_again(
    tmp_path: Path, failing: list[int]
) -> None:
    with capture_logs() as logs:
        async with at_work(tmp_path) as crew:
            victim = min(processes())
            failing += [errno.EAGAIN, errno.ENOMEM]
            os.kill(victim, signal.SIGKILL)
            await until(lambda: len(processes() - {victim}) == 2)
            assert await crew.ask() in processes()
    reasons = [line["reason"] for line in logs if line["event"] == "process_not_started"]
    assert reasons == [os.strerror(errno.ENOMEM), os.strerror(errno.EAGAIN)]


@pytest.mark.anyio
async def test_a_restart_without_room_is_given_up_and_the_next_one_works(
    tmp_path: Path, failing: list[int]
) -> None:
    async with at_work(tmp_path) as crew:
        before = processes()
        failing.append(errno.EAGAIN)
        with capture_logs() as logs:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: any(line["event"] == "restart_given_up" for line in logs))
        assert processes() == before
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(processes()) == 2 and not processes() & before)
        assert await crew.ask() in processes()


@pytest.mark.anyio
async def test_without_room_for_the_first_one_there_is_no_start(
    tmp_path: Path, failing: list[int]
) -> None:
    failing.append(errno.EAGAIN)
    assert await Crew(tmp_path, stop_seconds=5).run() == 1


@pytest.mark.anyio
async def test_who_does_not_stop_is_killed(tmp_path: Path) -> None:
    async with at_work(tmp_path, stop_seconds=0.5) as crew:
        crew.mode.write_text("stubborn")
        before = processes()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(processes()) == 2 and not processes() & before)


@pytest.mark.anyio
async def test_who_hangs_does_not_hold_up_a_restart(tmp_path: Path) -> None:
    async with at_work(tmp_path, stop_seconds=0.5, mode="hanging") as crew:
        hanging = processes()
        crew.mode.write_text("good")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(processes()) == 2 and not processes() & hanging)
        assert await crew.ask() in processes()


@pytest.mark.anyio
async def test_who_stands_still_is_killed_and_replaced(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with at_work(tmp_path, silent_seconds=3) as crew:
            victim = min(processes())
            os.kill(victim, signal.SIGSTOP)
            await until(lambda: victim not in processes() and len(processes()) == 2)
            assert await crew.ask() in processes()
    assert {"event": "process_hangs", "process": victim, "silent_seconds": 3.0} in [
        {name: line[name] for name in line if name != "log_level"} for line in logs
    ]
    [died] = [
        line for line in logs if line["event"] == "process_died" and line["process"] == victim
    ]
    assert died["code"] == -signal.SIGKILL


class Told:
    """A process that shows life or not, as a test says, and is looked at once an hour."""

    id = 1

    def __init__(self, *signs: bool) -> None:
        self.signs = list(signs)
        self.sent: list[signal.Signals] = []

    def shows_life(self) -> bool:
        return self.signs.pop(0)

    def send(self, number: signal.Signals) -> None:
        self.sent.append(number)


def watched(process: Told, monkeypatch: pytest.MonkeyPatch) -> list[signal.Signals]:
    """Return what the process is sent until it is given up, or nobody knows its next sign."""
    hours = itertools.count(step=3600.0)
    with monkeypatch.context() as patch, socket.socket() as listener:
        patch.setattr(time, "monotonic", lambda: next(hours))
        place = workers._Place(lambda _: [], listener, silent_seconds=30.0)
        with suppress(IndexError):
            asyncio.run(place.watch(cast("Any", process)))
    return process.sent


def test_who_is_silent_for_thirty_looks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Told(True, *[False] * 30, True)
    assert watched(process, monkeypatch) == [signal.SIGQUIT, signal.SIGKILL]
    assert process.signs == [True]


def test_nobody_is_given_up_for_a_time_in_which_nobody_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine was suspended, the container frozen: what watches stood still too."""
    process = Told(*[*[False] * 29, True] * 3)
    assert watched(process, monkeypatch) == []


@pytest.mark.anyio
async def test_the_first_one_that_fails_is_the_end(tmp_path: Path) -> None:
    crew = Crew(tmp_path, stop_seconds=5)
    crew.mode.write_text("broken")

    assert await crew.run() == 3
    assert not crew.ready.is_set()


@pytest.mark.anyio
async def test_told_to_stop_while_the_first_one_is_made_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = asyncio.create_subprocess_exec

    async def fork(*command: Any, **options: Any) -> Any:
        process = await real(*command, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: crew.listener.fileno() == -1)  # it has been heard
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fork)
    crew = Crew(tmp_path, stop_seconds=30)
    with capture_logs() as logs:
        assert await crew.run() == 0
    assert (logs, processes()) == ([], set())
    assert not crew.ready.is_set()


def test_what_a_service_starts_does_not_get_its_sockets() -> None:
    ours, theirs = socket.socketpair()
    channel = theirs.detach()
    os.set_inheritable(channel, True)  # as it is after it was passed to a worker
    with ours, socket.create_server(("127.0.0.1", 0)) as listener:
        socket.send_fds(ours, [b"."], [listener.fileno()])
        end, received = inherited(channel)
        with end, received:
            assert not end.get_inheritable()
            assert not received.get_inheritable()


PARENT = """
import asyncio, sys, pathlib; sys.path.insert(0, sys.argv[1]); import test_workers
crew = test_workers.Crew(pathlib.Path(sys.argv[2]), stop_seconds=30)
sys.exit(asyncio.run(crew.run()))
"""


def parent_of_two(folder: Path) -> list[str]:
    return [sys.executable, "-c", PARENT, str(Path(__file__).parent), str(folder)]


def test_a_process_ends_with_who_started_it(tmp_path: Path) -> None:
    with running(args=parent_of_two(tmp_path)) as process:
        parent = psutil.Process(process.pid)
        wait_until(lambda: len(parent.children()) == 2, seconds=40)
        children = parent.children()
        parent.kill()
        _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


def test_all_end_with_the_terminal_that_they_were_started_from(tmp_path: Path) -> None:
    with at_a_terminal(args=parent_of_two(tmp_path)) as (screen, process):
        parent = psutil.Process(process.pid)
        wait_until(lambda: len(parent.children()) == 2, seconds=40)
        children = parent.children()
        screen.close()
        assert process.wait(40) == 0
    assert not psutil.wait_procs(children, timeout=30)[1]


# ----------------------------------------------------------------------------------- with a service

REDIS = {"REDIS_URL": "redis://127.0.0.1:1/0"}  # nobody is there: each does without it


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return make_service(tmp_path_factory.mktemp("workers") / "service")


@pytest.mark.timeout(240)  # it starts five processes
def test_clients_notice_nothing_of_a_restart(two: Service) -> None:
    with two.serving("--workers", "2", LOG_LEVEL="INFO", API_LIMIT="100000/minute", **REDIS) as run:
        serves = [line["process"] for line in run.log if line["event"] == "process_serves"]
        assert len(serves) == 2
        assert run.log[-1]["processes"] == 2
        run.process.send_signal(signal.SIGHUP)
        failed, answers = 0, 0
        with httpx2.Client(base_url=run.url, timeout=30) as client:
            replaced = iter_events(run, "process_replaced", times=2)
            while not replaced():
                answer = client.get("/api/v1/notes")
                answers += 1
                failed += answer.status_code != 200
        assert failed == 0
        assert answers > 10
        victims = [psutil.Process(line["process"]) for line in run.log if "old" in line]
        assert not {one.pid for one in victims} & set(serves)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(60) == 0
        _, alive = psutil.wait_procs(victims, timeout=10)
        assert not alive


def iter_events(running: Any, event: str, *, times: int) -> Callable[[], bool]:
    """Return what tells whether so many lines with this event were logged."""
    lines = running.lines()

    def are_there() -> bool:
        while not running._lines.empty():
            next(lines)
        return sum(line["event"] == event for line in running.log) >= times

    return are_there


def test_a_process_shows_life_says_where_it_is_and_ends_when_nobody_listens(two: Service) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(40)
    pipes = {"pass_fds": [theirs.fileno()], "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    command = two.command("serve", "--channel", str(theirs.fileno()), "--port", "0")
    with socket.create_server(("127.0.0.1", 0)) as listener, ours:
        socket.send_fds(ours, [b"."], [listener.fileno()])
        with running(**command, **pipes) as process, theirs:
            theirs.close()
            assert [ours.recv(1) for _ in range(3)] == [READY] * 3
            process.send_signal(signal.SIGQUIT)
            assert process.stderr is not None
            assert "most recent call first" in process.stderr.readline()
            process.send_signal(signal.SIGHUP)
            assert ours.recv(1) == READY, "it lives on"
            assert ours.recv(1, socket.MSG_PEEK), "there is something unread"
            ours.close()
            assert process.wait(40) == 0


def test_several_that_cannot_start_say_why_once(two: Service, tmp_path: Path) -> None:
    empty = f"sqlite+aiosqlite:///{tmp_path}/empty.db"
    done = two.run("serve", "--port", "0", "--workers", "2", DATABASE_URL=empty, **REDIS)

    assert done.returncode == 1
    assert error_lines(done.stderr)[0] == "The database has no tables yet, the code wants 0001"


def test_several_count_in_one_place_or_not_at_all(two: Service) -> None:
    done = two.run("serve", "--port", "0", "--workers", "2")

    assert done.returncode == 1
    assert "WEB_CONCURRENCY=2 without REDIS_URL" in error_lines(done.stderr)[0]


def test_the_command_line_runs_without_a_path(two: Service) -> None:
    command = two.command("routes", "--json")
    command["args"] = [sys.executable, "-m", "newel", "routes", "--json"]
    done = subprocess.run(**command, stdout=subprocess.PIPE, timeout=50, check=True)
    assert json.loads(done.stdout)
