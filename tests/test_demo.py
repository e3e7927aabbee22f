"""`make demo`: what a newcomer sees, with a stand-in for the generator and with the real one."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEWEL = Path(sysconfig.get_path("scripts"), "newel")

# Does what the demo needs of `newel`, in milliseconds, and keeps a log of how it was called.
STAND_IN = """#!{python}
import http.server, os, pathlib, signal, sys, time
root = pathlib.Path({root!r})
command = sys.argv[1]
with (root / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if (root / f"fail-{{command}}").exists():
    print(f"{{command}} did not work")
    sys.exit(3)
if command == "new":
    pathlib.Path("demo").mkdir()
    pathlib.Path("demo/half").touch()
    while (root / "slow-new").exists():
        time.sleep(0.01)
    pathlib.Path("demo/pyproject.toml").touch()
elif command == "admin":
    (root / "given").write_text(sys.stdin.read())
elif command == "serve":
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *args):
            pass
    def end(*_):
        if not (root / "stubborn").exists():
            (root / "ended").touch()
            os._exit(0)
    signal.signal(signal.SIGTERM, end)
    (root / "environ").write_text("\\n".join(os.environ))
    (root / "pid").write_text(str(os.getpid()))
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""

START = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import demo
demo.STOP_SECONDS = 1.0
sys.exit(demo.main(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])))
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    newel = tmp_path / "newel"
    newel.write_text(STAND_IN.format(python=sys.executable, root=str(tmp_path)))
    newel.chmod(0o755)
    return newel


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start_demo(newel: Path, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(ROOT / "scripts"), str(tmp_path), str(newel)],
            env={**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests run by a shell script in the background inherit an ignored SIGINT..
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it has no threads
        )
        started.append(process)
        return process

    yield start_demo
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Return what the demo printed up to the line with these words; fail if it ends before."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    pytest.fail(f"{words!r} was never printed:\n{seen}")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited 10 s in vain"
        time.sleep(0.01)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> str:
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    return rest


def calls(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_first_run_shows_docs_log_in_and_three_things_to_try(
    start: Start, stand_in: Path, tmp_path: Path, port: int
) -> None:
    process = start(stand_in)
    seen = read_until(process, "Ctrl-C")
    interrupt(process)

    assert f"http://127.0.0.1:{port}/api/docs" in seen
    assert seen.count("curl ") == 3
    assert calls(tmp_path) == ["new", "migrate", "admin", "serve"]
    password = re.search(r"password: (\S+)", seen)[1]
    assert (tmp_path / "given").read_text() == password + "\n"
    assert password not in (tmp_path / "calls").read_text(), "other users can read a command line"
    assert (tmp_path / ".demo.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_ends_its_service_and_says_so(
    start: Start, stand_in: Path, tmp_path: Path, number: int
) -> None:
    process = start(stand_in)
    read_until(process, "Ctrl-C")
    rest = interrupt(process, number)

    assert process.returncode == 0
    assert rest.strip().splitlines()[-1] == "Stopped. `make demo` starts it again."
    assert "Traceback" not in rest
    assert (tmp_path / "ended").exists()


def test_a_service_that_does_not_end_is_killed(
    start: Start, stand_in: Path, tmp_path: Path
) -> None:
    (tmp_path / "stubborn").touch()
    process = start(stand_in)
    read_until(process, "Ctrl-C")
    interrupt(process)

    assert process.returncode == 0
    assert not (tmp_path / "ended").exists()
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_second_run_keeps_edits_data_and_the_log_in(
    start: Start, stand_in: Path, tmp_path: Path
) -> None:
    process = start(stand_in)
    first = read_until(process, "Ctrl-C")
    interrupt(process)
    (tmp_path / "demo" / "pyproject.toml").write_text("# mine\n")

    process = start(stand_in)
    second = read_until(process, "Ctrl-C")
    interrupt(process)

    assert "Re-using ./demo" in second
    assert (tmp_path / "demo" / "pyproject.toml").read_text() == "# mine\n"
    assert calls(tmp_path)[4:] == ["migrate", "serve"]
    assert re.findall(r"Log-in.*", first) == re.findall(r"Log-in.*", second)


def test_a_new_demo_gets_a_new_password(start: Start, stand_in: Path, tmp_path: Path) -> None:
    process = start(stand_in)
    first = read_until(process, "Ctrl-C")
    interrupt(process)
    shutil.rmtree(tmp_path / "demo")

    process = start(stand_in)
    second = read_until(process, "Ctrl-C")
    interrupt(process)

    assert re.findall(r"password: .*", first) != re.findall(r"password: .*", second)


def test_a_taken_port_is_said_in_two_lines_before_any_work(
    start: Start, stand_in: Path, tmp_path: Path, port: int
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        seen, _ = (process := start(stand_in)).communicate(timeout=30)

    assert process.returncode == 1
    what, fix = seen.splitlines()
    assert str(port) in what
    assert fix.endswith("PORT=8000 make demo")
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("asked", ["http", "0", "65536", "-1", "²", ""])
def test_a_port_that_is_none_is_said_in_two_lines(start: Start, stand_in: Path, asked: str) -> None:
    seen, _ = (process := start(stand_in, PORT=asked)).communicate(timeout=30)

    assert process.returncode == 1
    assert len(seen.splitlines()) == 2
    assert f"PORT={asked} " in seen


@pytest.mark.parametrize("command", ["new", "migrate", "admin", "serve"])
def test_a_step_that_fails_shows_its_own_words_and_how_to_go_on(
    start: Start, stand_in: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / f"fail-{command}").touch()
    seen, _ = (process := start(stand_in)).communicate(timeout=30)

    assert process.returncode == 1
    assert f"{command} did not work" in seen
    assert "exit code 3" in seen
    assert "Traceback" not in seen
    assert not (tmp_path / ".demo.json").exists() or command == "serve"


def test_interrupted_while_generating_leaves_nothing_half_made(
    start: Start, stand_in: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow-new").touch()
    process = start(stand_in)
    until((tmp_path / "demo" / "half").exists)
    rest = interrupt(process)
    (tmp_path / "slow-new").unlink()

    assert process.returncode == 0
    assert "Traceback" not in rest
    assert not (tmp_path / "demo").exists()


def test_a_directory_that_is_no_service_is_left_alone(
    start: Start, stand_in: Path, tmp_path: Path
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "novel.txt").write_text("Chapter one")
    seen, _ = (process := start(stand_in)).communicate(timeout=30)

    assert process.returncode == 1
    assert "not a service" in seen
    assert (tmp_path / "demo" / "novel.txt").read_text() == "Chapter one"


def test_settings_of_another_service_do_not_reach_the_demo(
    start: Start, stand_in: Path, tmp_path: Path
) -> None:
    process = start(stand_in, DATABASE_URL="postgresql+asyncpg://elsewhere/production", KEPT="1")
    read_until(process, "Ctrl-C")
    interrupt(process)

    seen = (tmp_path / "environ").read_text().splitlines()
    assert "DATABASE_URL" not in seen
    assert "KEPT" in seen


@pytest.mark.timeout(300)
def test_the_real_demo_serves_and_its_log_in_works(start: Start, tmp_path: Path, port: int) -> None:
    if importlib.util.find_spec("newel_tools.commands") is None:
        pytest.skip("`newel new` does not exist yet")
    process = start(NEWEL)
    read_until(process, "Ctrl-C")
    login = json.loads((tmp_path / ".demo.json").read_text())
    form = urllib.parse.urlencode({"username": login["email"], "password": login["password"]})
    url = f"http://127.0.0.1:{port}/api/v1"

    with urllib.request.urlopen(f"{url}/auth/login", form.encode()) as answer:
        token = json.load(answer)["access_token"]
    asked = urllib.request.Request(f"{url}/users", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked) as answer:
        users = json.load(answer)
    with pytest.raises(urllib.error.HTTPError, match="401") as nobody:
        urllib.request.urlopen(f"{url}/users")
    nobody.value.close()
    rest = interrupt(process)

    assert [user["email"] for user in users["items"]] == [login["email"]]
    assert process.returncode == 0
    assert "Traceback" not in rest
