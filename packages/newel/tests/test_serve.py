"""`newel serve`: it starts on the right schema only, and nobody's answer is lost when it stops."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import uvloop
from fastapi import FastAPI
from sample_runs import Service, at_a_terminal, error_lines, read_until, running, wait_until

from newel.app import create_app
from newel.errors import ConfigurationError
from newel.serve import Server, _many, work
from newel.settings import Settings


def test_it_serves_and_says_where(service: Service):
    with service.serving() as running:
        ready = running.get("/ready")
        assert ready.status_code == 200
        assert running.get("/api/v1/notes").json() == []
        assert running.log[-1]["docs"] == f"{running.url}/api/docs"
        assert running.get("/api/docs").status_code == 200
        assert "server" not in ready.headers, "what we run on is nobody's business"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_answered_before_the_end(service: Service, number: signal.Signals):
    gate = service.root / "gate"
    os.mkfifo(gate)
    with service.serving() as running, ThreadPoolExecutor() as pool:
        answer = pool.submit(running.get, "/api/v1/notes/held")
        with gate.open("w") as pipe:  # opens once the request is being handled
            running.process.send_signal(number)
            running.await_line("Shutting down")
            with pytest.raises(httpx2.ConnectError):
                running.get("/health")
            pipe.write("done")
        assert answer.result().json() == "done"
        assert running.process.wait(20) == 0
        assert [line["event"] for line in running.lines()][-1].startswith("Finished")


def test_it_goes_on_not_ready_until_the_load_balancer_has_noticed(service: Service):
    with service.serving("--drain-seconds", "1.5") as running:
        with httpx2.Client(base_url=running.url) as client:
            assert client.get("/ready").status_code == 200
            running.process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/ready").status_code == 503)
            assert client.get("/health").status_code == 200
            assert client.get("/api/v1/notes").status_code == 200
        assert running.get("/api/v1/notes").status_code == 200, "new connections are accepted still"
        assert running.process.wait(20) == 0


def test_ctrl_c_does_not_wait_for_a_load_balancer(service: Service):
    with service.serving("--drain-seconds", "600") as running:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0


def test_a_second_ctrl_c_drops_what_is_running(service: Service):
    gate = service.root / "gate"
    os.mkfifo(gate)
    with service.serving(REQUEST_TIMEOUT_SECONDS="600") as running:
        dropped = threading.Event()

        def ask() -> None:
            try:
                running.get("/api/v1/notes/held")
            except httpx2.HTTPError:
                dropped.set()

        asking = threading.Thread(target=ask)
        asking.start()
        pipe = gate.open("w")
        running.process.send_signal(signal.SIGINT)
        running.await_line("Shutting down")
        running.process.send_signal(signal.SIGINT)
        running.await_line(f"Finished server process [{running.process.pid}]")
        pipe.close()
        asking.join(20)
        assert running.process.wait(20) == 0


def test_sighup_finds_nothing_to_replace_and_ends_nothing(service: Service):
    with service.serving() as running:
        running.process.send_signal(signal.SIGHUP)
        assert "--workers" in running.await_line("nothing_to_replace")["fix"]
        assert running.get("/health").status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["worker"]], ids=["serve", "worker"])
def test_it_ends_with_the_terminal_that_it_was_started_from(service: Service, command: list[str]):
    with at_a_terminal(**service.command(*command, LOG_FORMAT="json")) as (screen, process):
        read_until(b"Ctrl-C", screen)
        process.send_signal(signal.SIGHUP)
        read_until(b"nothing_to_replace", screen)  # the terminal is still there
        screen.close()
        assert process.wait(20) == 0


def test_a_taken_port_is_error_lines(service: Service):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = service.run("serve", "--port", str(port))
    assert done.returncode == 1
    error, fix = error_lines(done.stderr)
    assert f"Port {port} on 127.0.0.1" in error
    assert "another process listens there" in error
    assert f"newel serve --port {port + 1}" in fix


def test_an_address_that_is_not_ours_is_error_lines(service: Service):
    done = service.run("serve", "--host", "192.0.2.1")
    assert done.returncode == 1
    error, fix = error_lines(done.stderr)
    assert "cannot be used" in error
    assert "--host" in fix


def test_it_listens_on_ipv6(service: Service):
    with service.serving("--host", "::1") as running:
        assert running.url.startswith("http://[::1]:")
        assert running.get("/health").status_code == 200


def test_a_database_that_is_behind_is_error_lines(service: Service):
    (service.root / "data.db").unlink()
    done = service.run("serve", "--port", "0")
    assert done.returncode == 1
    error, fix = error_lines(done.stderr)
    assert error == "The database has no tables yet, the code wants 0001"
    assert "newel migrate up" in fix


def test_a_database_that_is_ahead_is_error_lines(service: Service):
    assert service.run("migrate", "new", "later", "--empty").returncode == 0
    assert service.run("migrate", "up").returncode == 0
    (service.root / "migrations" / "0002_later.py").unlink()
    done = service.run("serve", "--port", "0")
    assert done.returncode == 1
    error, fix = error_lines(done.stderr)
    assert "at revision 0002, which this code does not know" in error
    assert "newel migrate down 0001" in fix


def test_a_database_that_is_away_does_not_stop_the_start(service: Service):
    away = "postgresql+asyncpg://nobody@127.0.0.1:1/gone"
    with service.serving(DATABASE_URL=away) as running:
        assert running.get("/health").status_code == 200
        assert running.get("/ready").status_code == 503
        hindered = running.await_line("worker_hindered")
    (away_at_start,) = (one for one in running.log if one["event"].startswith("database_un"))
    assert "refused" in away_at_start["why"]
    assert "refused" in hindered["why"]
    assert "exception" not in hindered  # a state that lasts is a line a try, without a traceback


def test_a_lifespan_that_fails_is_not_a_running_service(service: Service):
    main = service.root / "src/sample_service/main.py"
    main.write_text(
        main.read_text()
        + "\nasync def fail(app):\n    raise ValueError('a broken lifespan')\n    yield\n"
        "\nfrom contextlib import asynccontextmanager\n"
        "app.router.lifespan_context = asynccontextmanager(fail)\n"
    )
    done = service.run("serve", "--port", "0")
    assert done.returncode == 3
    assert "a broken lifespan" in done.stderr


def test_unsafe_settings_are_error_lines(service: Service):
    done = service.run("serve", SECRET_KEY="short")
    assert done.returncode == 1
    error, fix = error_lines(done.stderr)
    assert "SECRET_KEY is shorter than 32 characters" in error
    assert "newel keys new" in fix


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "70000"], ["--nonsense"]])
def test_wrong_usage_is_exit_code_2(service: Service, arguments: list[str]):
    done = service.run("serve", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_it_runs_from_its_own_folder_only(service: Service, tmp_path: Path):
    elsewhere = Service(tmp_path)
    error, fix = error_lines(elsewhere.run("serve").stderr)
    assert "no pyproject.toml" in error
    assert "folder of the service" in fix


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_works_until_it_is_told_to_stop(service: Service, number: signal.Signals):
    command = service.command("worker", LOG_FORMAT="json")
    with running(**command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(json.loads(line)["event"])
            if seen[-1] == "working":
                process.send_signal(number)
        assert process.wait(20) == 0
    assert {"worker_started", "working", "worker_stopped"} <= set(seen)


def test_a_worker_does_not_serve(service: Service):
    done = service.run("serve", ROLE="worker")
    assert done.returncode == 1
    assert error_lines(done.stderr) == (
        "ROLE=worker does not serve",
        "run `newel worker`, or set ROLE to all or web",
    )


def test_who_serves_only_does_not_work(service: Service):
    with service.serving(ROLE="web") as running:
        running.process.send_signal(signal.SIGTERM)
        assert "worker_started" not in [line["event"] for line in running.lines()]
    with service.serving() as running:
        running.process.send_signal(signal.SIGTERM)
        assert "worker_stopped" in [line["event"] for line in running.lines()]


async def work_of(app: FastAPI) -> None:
    with pytest.raises(ConfigurationError, match="No module of this service has jobs"):
        await work(app)


def test_without_jobs_there_is_nothing_to_work_on(tmp_path: Path):
    settings = Settings(_env_file=None, secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ")
    asyncio.run(work_of(create_app(settings)))


@pytest.fixture(autouse=True)
def _interpreter_as_before() -> Generator[None]:
    thresholds, turn_seconds = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(turn_seconds)


async def retired(app: FastAPI) -> tuple[list[httpx2.Response], list[bool]]:
    """Return what `/ready` answers before and after, and whether streams are told to end."""
    app.state.draining = False
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(app)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
            answers = [await client.get("/ready")]
            server.retire(1.0)
            told = [app.state.draining]
            answers.append(await client.get("/ready"))
        await serving
    return answers, [*told, app.state.draining]


def test_who_is_replaced_does_not_say_that_the_host_is_not_ready(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path / 'data.db'}"
    secret = "k3y-0123456789-abcdefghij-ABCDEFGHIJ"
    settings = Settings(
        _env_file=None, secret_key=secret, database_url=url, migrations=tmp_path, role="web"
    )
    (before, after), told = asyncio.run(retired(create_app(settings)))

    assert (before.status_code, after.status_code) == (200, 200)
    assert "connection" not in before.headers
    assert after.headers["connection"] == "close"
    assert told == [False, True]


class Glance(Server):
    """Stops at its first tick."""

    frozen = looks = 0
    turn_seconds = 0.0

    async def on_tick(self, counter: int) -> bool:
        del counter
        self.turn_seconds = sys.getswitchinterval()
        self.frozen = gc.get_freeze_count()
        looks = gc.get_stats()[0]["collections"]
        held = [[number] for number in range(5_000)]  # what some requests under way hold
        self.looks = gc.get_stats()[0]["collections"] - looks
        del held
        return True


def test_what_lives_is_left_alone_and_threads_take_turns_quickly(tmp_path: Path):
    turn_seconds = sys.getswitchinterval()
    url = f"sqlite+aiosqlite:///{tmp_path / 'data.db'}"
    secret = "k3y-0123456789-abcdefghij-ABCDEFGHIJ"
    settings = Settings(
        _env_file=None, secret_key=secret, database_url=url, migrations=tmp_path, role="web"
    )
    before = gc.get_freeze_count()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Glance(create_app(settings))
        asyncio.run(server.serve(sockets=[listener]))

    assert server.frozen > before + 10_000
    assert server.looks <= 1
    assert server.turn_seconds < turn_seconds / 5, "a statement of SQLite is a thread's"


@pytest.mark.parametrize("is_alone", [False, True], ids=["several times", "once"])
def test_a_busy_process_takes_many_connections_a_turn(is_alone: bool):
    async def turns() -> int:
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        waiting = [socket.create_connection(listener.getsockname()) for _ in range(32)]
        taken: list[asyncio.BaseProtocol] = []

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.append(self)

        sockets = [listener] if is_alone else _many(listener)
        servers = [await loop.create_server(Taken, sock=one) for one in sockets]
        count = 0
        while len(taken) < len(waiting):
            await asyncio.sleep(0)
            count += 1
        for one in (*servers, *waiting):
            one.close()
        return count

    found = uvloop.run(turns())
    assert (found >= 32) if is_alone else (found <= 8)
