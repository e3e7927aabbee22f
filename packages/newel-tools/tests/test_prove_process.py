"""The host as a process: what it lets the application do, and what is left of it afterwards."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from starlette.middleware.exceptions import ExceptionMiddleware

from newel_tools.facts.project import find_project
from newel_tools.facts.scratch import scratch_folder
from newel_tools.prove.client import HostEnded
from newel_tools.prove.errors import ProveError
from newel_tools.prove.host.boot import BootError, Lifespan, load, note_errors
from newel_tools.prove.host.record import Places, Record, current
from newel_tools.prove.process import HostProcess
from newel_tools.prove.sandbox import Sandbox, sandbox
from newel_tools.prove.settings import Settings

Start = Callable[..., HostProcess]

NAUGHTY = """
import os
import signal
import socket
import sqlite3
import subprocess
import urllib.request
from pathlib import Path

from fastapi import FastAPI

app = FastAPI()
VICTIM = os.environ.get("VICTIM", "")


def write(path):
    Path(path).write_text("was here")


DEEDS = {
    "write": lambda: write(VICTIM + "/new.txt"),
    "overwrite": lambda: write(VICTIM + "/main.py"),
    "remove": lambda: os.remove(VICTIM + "/main.py"),
    "database": lambda: sqlite3.connect(VICTIM + "/dev.db").execute("CREATE TABLE a(b)"),
    "run": lambda: subprocess.run(["touch", VICTIM + "/run"], check=True),
    "shell": lambda: os.system("true"),
    "fork": lambda: os.fork(),
    "kill": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "look up": lambda: socket.getaddrinfo("example.com", 80),
    "connect": lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
    "local": lambda: socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=5),
    "own name": lambda: socket.gethostbyname(socket.gethostname()),
    "fetch": lambda: urllib.request.urlopen("http://192.0.2.1/", timeout=5),
}


@app.post("/do/{name}")
def do(name: str) -> str:
    return repr(DEEDS[name]())


@app.post("/own")
def own() -> str:
    Path("upload.txt").write_text("mine")
    return (Path.cwd() / "upload.txt").read_text()
"""


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text(NAUGHTY)
    return folder


@pytest.fixture
def surroundings() -> Iterator[Callable[..., Sandbox]]:
    with ExitStack() as stack:

        def make(folder: Path, **settings: object) -> Sandbox:
            project = find_project(folder, python=Path(sys.executable))
            return stack.enter_context(sandbox(project, Settings.model_validate(settings)))

        yield make


@pytest.fixture
def started(surroundings: Callable[..., Sandbox]) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda folder, **settings: stack.enter_context(
            surroundings(folder, **settings).started_host()
        )


@pytest.mark.parametrize(
    ("deed", "outcome"),
    [
        ("write", "PermissionError"),
        ("overwrite", "PermissionError"),
        ("remove", "PermissionError"),
        ("run", "PermissionError"),
        ("shell", "PermissionError"),
        ("fork", "PermissionError"),
        ("kill", "PermissionError"),
        ("look up", "gaierror"),
        ("connect", "ConnectionRefusedError"),
        ("local", "ConnectionRefusedError"),
        ("fetch", "URLError"),
    ],
)
def test_what_reaches_beyond_the_copy_is_refused(
    deed: str, outcome: str, shared_project: Path, host: HostProcess
) -> None:
    before = tree(shared_project)

    answer = host.call("POST", f"/do/{deed.replace(' ', '%20')}")

    assert answer.status == 500
    assert outcome in {error.type for error in answer.errors}
    assert answer.refused, "a refusal is noted, so that the 500 is no finding"
    assert not answer.is_fault
    assert tree(shared_project) == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, HostProcess]]:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "main.py").write_text(NAUGHTY)
    found = find_project(folder, python=Path(sys.executable))
    variables = {"VICTIM": str(folder), "PORT": "9"}
    with sandbox(found, Settings(env=variables)) as place, place.started_host() as host:
        yield folder, host


@pytest.fixture
def shared_project(shared: tuple[Path, HostProcess]) -> Path:
    return shared[0]


@pytest.fixture
def host(shared: tuple[Path, HostProcess]) -> HostProcess:
    return shared[1]


def test_a_database_elsewhere_becomes_one_in_the_scratch_folder(
    shared_project: Path, host: HostProcess
) -> None:
    answer = host.call("POST", "/do/database")

    assert answer.status == 200, answer.errors
    assert not (shared_project / "dev.db").exists()


def test_the_address_of_this_machine_may_be_looked_up(host: HostProcess) -> None:
    answer = host.call("POST", "/do/own%20name")

    assert answer.status == 200, answer.errors


def test_the_copy_may_be_written(shared_project: Path, host: HostProcess) -> None:
    answer = host.call("POST", "/own")

    assert (answer.status, answer.json) == (200, "mine")
    assert not (shared_project / "upload.txt").exists()


def test_nothing_is_left_behind(project: Path, surroundings: Callable[..., Sandbox]) -> None:
    (project / "dev.db").write_bytes(b"SQLite format 3\0 what a developer has in it")
    (project / ".env").write_text("SECRET_KEY=of-the-developer\n")
    before = tree(project)

    with surroundings(project, env={"VICTIM": str(project), "PORT": "9"}).started_host() as host:
        scratch = host.log.parent
        pid = host.pid
        assert host.call("POST", "/own").is_success
        assert psutil.pid_exists(pid)
        assert not list(scratch.rglob("dev.db")), "every run begins with empty tables"

    assert tree(project) == before
    assert not psutil.pid_exists(pid)


def test_the_scratch_folder_goes(project: Path) -> None:
    with sandbox(find_project(project, python=Path(sys.executable)), Settings()) as place:
        scratch = place.scratch
        assert place.copy.is_dir()

    assert not scratch.exists()


def test_secrets_of_the_developer_stay_at_home(
    project: Path, surroundings: Callable[..., Sandbox]
) -> None:
    (project / ".env").write_text("SECRET_KEY=of-the-developer\nNAME=shop\nTOKEN_MINUTES=15\n")

    place = surroundings(project)

    assert "of-the-developer" not in "".join(place.environment.values())
    assert "of-the-developer" not in (place.copy / ".env").read_text()
    assert (place.environment["NAME"], place.environment["TOKEN_MINUTES"]) == ("shop", "15")
    assert place.environment["SECRET_KEY"] in place.secrets


@pytest.mark.parametrize("quote", ['"', "'", ""])
def test_a_key_over_several_lines_is_replaced_as_a_whole(
    project: Path, surroundings: Callable[..., Sandbox], quote: str
) -> None:
    pem = "-----BEGIN {} KEY-----\nbm90IGEga2V5\nbm90IG9uZQ==\n-----END {} KEY-----"
    private, public = pem.format("PRIVATE", "PRIVATE"), pem.format("PUBLIC", "PUBLIC")
    (project / ".env").write_text(
        f"JWT_PRIVATE_KEY={quote}{private}{quote}\n\nNAME=shop\nSHOWN={quote}{public}{quote}\n"
    )

    place = surroundings(project)

    written = (place.copy / ".env").read_text()
    name, line = written.splitlines()[0].split("=", 1)
    made = place.environment["JWT_PRIVATE_KEY"]
    assert (name, line) == ("JWT_PRIVATE_KEY", '"' + made.replace("\n", "\\n") + '"')
    assert load_pem_private_key(made.encode(), None)
    # What is no secret by its name stays as it is.
    assert written.partition("\n")[2] == f"\nNAME=shop\nSHOWN={quote}{public}{quote}\n"


def refusal(folder: Path, code: str, start: Start, **settings: object) -> ProveError:
    (folder / "main.py").write_text(f"from fastapi import FastAPI\napp = FastAPI()\n{code}\n")
    with pytest.raises(ProveError) as caught:
        start(folder, **settings)
    return caught.value


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import not_there", "import failed (main.py:3 in <module>): ModuleNotFoundError"),
        ("raise SystemExit(3)", "import failed (main.py:3 in <module>): SystemExit: 3"),
        ("input()", "EOFError"),
        ("import os; os._exit(1)", "ended with code 1 while it started"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV while it started"),
        ("del app", "AttributeError"),
    ],
)
def test_an_import_that_fails_is_a_clear_line(
    code: str, said: str, project: Path, started: Start
) -> None:
    error = refusal(project, code, started)

    assert said in error.message.splitlines()[0] or said in error.message
    assert error.fix


def test_a_start_up_that_fails_names_its_line(project: Path, started: Start) -> None:
    code = (
        "from contextlib import asynccontextmanager\n"
        "@asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    raise RuntimeError('no queue')\n"
        "    yield\n"
        "app = FastAPI(lifespan=lifespan)"
    )

    error = refusal(project, code, started)

    assert "start-up failed (main.py:6 in lifespan): RuntimeError: no queue" in error.message


LIFESPAN = """
import asyncio
from contextlib import asynccontextmanager
async def connect():
    await asyncio.Event().wait()
@asynccontextmanager
async def lifespan(app):
    await connect()
    yield
app = FastAPI(lifespan=lifespan)
"""


def test_a_start_up_that_waits_names_its_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newel_tools.prove.host.boot._START_SECONDS", 0.2)
    error = asyncio.run(waiting_start_up(project))

    assert error.said["text"].endswith("not started after 0 s: it waits at main.py:6 in connect")


async def waiting_start_up(folder: Path) -> BootError:
    path = folder / "main.py"
    held: dict[str, Any] = {}
    exec(compile(f"from fastapi import FastAPI\n{LIFESPAN}", path, "exec"), held)
    with pytest.raises(BootError) as caught:
        await Lifespan(held["app"]).start(Places(str(folder)))
    return caught.value


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("def wait():\n    while True: pass\nwait()", "main.py:4 in wait"),
        ("import threading\nthreading.Event().wait()", "main.py:4 in <module>"),
        ("import time\nwhile True:\n    time.sleep(0.5)", "main.py:5 in <module>"),
        ("import socket\na, b = socket.socketpair()\na.recv(1)", "main.py:5 in <module>"),
    ],
    ids=["loop", "lock", "retries", "socket"],
)
def test_an_import_that_stands_still_is_ended_with_its_line(
    code: str, where: str, project: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newel_tools.prove.process._STILL_SECONDS", 2.0)

    error = refusal(project, code, started)

    assert f"import failed ({where}): it has stood still for " in error.message
    assert error.details
    assert "belongs in the lifespan" in error.fix


LONG = """
import timeit
from concurrent.futures import ThreadPoolExecutor
def work():
    return timeit.timeit('sum(range(1000))', number=100_000)
"""


@pytest.mark.parametrize(
    "call",
    [
        "took = work()",
        "with ThreadPoolExecutor(1) as pool:\n    took = pool.submit(work).result()",
    ],
    ids=["itself", "another thread"],
)
def test_an_import_that_works_for_long_is_waited_for(
    call: str, project: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newel_tools.prove.process._STILL_SECONDS", 0.5)
    code = f"{LONG}{call}\nassert took > 1"
    (project / "main.py").write_text(f"from fastapi import FastAPI\napp = FastAPI()\n{code}\n")

    assert started(project).started()["started"]


def test_an_import_that_cannot_be_looked_into_is_ended_with_its_stack(
    project: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newel_tools.prove.process._START_SECONDS", 6.0)

    error = refusal(project, "def wait():\n    while True: pass\nwait()", started)

    assert "had not started after 6 s" in error.message
    assert any("main.py" in line and "wait" in line for line in error.details)


SETTINGS = """
from pydantic_settings import BaseSettings
class Settings(BaseSettings):
    secret_key: str
    pool_size: int
    mode: str
settings = Settings()
assert settings.mode == "fast"
"""


def test_missing_settings_get_values(project: Path, started: Start) -> None:
    code = SETTINGS.replace('assert settings.mode == "fast"', "")
    (project / "main.py").write_text(f"from fastapi import FastAPI\napp = FastAPI()\n{code}")

    host = started(project)

    assert host.started()["started"]


def test_what_servers_have_loaded_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = "logging.config.dictConfig\nlogging.handlers.MemoryHandler\n"
    code = f"import logging\n\n{uses}app = logging.Handler()\napp.routes = []\n"
    (tmp_path / "served_without_loading.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("config", "handlers"):
        monkeypatch.delitem(sys.modules, f"logging.{name}", raising=False)
        monkeypatch.delattr(logging, name, raising=False)

    assert load("served_without_loading:app", Places(str(tmp_path))).routes == []


def test_a_setting_can_be_given(project: Path, started: Start) -> None:
    (project / "main.py").write_text(f"from fastapi import FastAPI\napp = FastAPI()\n{SETTINGS}")

    assert started(project, env={"MODE": "fast"}).started()["started"]


def test_what_cannot_be_guessed_is_said_as_the_line_to_add(project: Path, started: Start) -> None:
    code = (
        "from pydantic import field_validator\n"
        "from pydantic_settings import BaseSettings\n"
        "class Settings(BaseSettings):\n"
        "    region: str\n"
        "    @field_validator('region')\n"
        "    def known(cls, value):\n"
        "        raise ValueError('no such region')\n"
        "Settings()"
    )

    error = refusal(project, code, started)

    assert error.fix == 'add to pyproject.toml, [tool.newel.prove]: env = { REGION = "..." }'


def test_set_up_commands_run_behind_the_guard(project: Path, tmp_path: Path) -> None:
    (project / "seed.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "Path('seeded').write_text(sys.argv[1])\nPath(sys.argv[2]).write_text('out')\n"
    )
    outside = tmp_path / "outside"
    settings = Settings(setup=(f"python seed.py hello {outside}",))
    found = find_project(project, python=Path(sys.executable))

    with sandbox(found, settings) as place, pytest.raises(ProveError, match="PermissionError"):
        place.set_up(lambda _: None)

    assert not outside.exists()


def test_a_set_up_may_be_a_line_of_code(project: Path) -> None:
    line = """python -c "import sys; open('seeded', 'w').write(sys.argv[1])" hello"""
    found = find_project(project, python=Path(sys.executable))

    with sandbox(found, Settings(setup=(line,))) as place:
        place.set_up(lambda _: None)

        assert (place.copy / "seeded").read_text() == "hello"


def test_an_endless_request_ends_the_run(
    project: Path, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newel_tools.prove.client._GRACE_SECONDS", 0.5)
    (project / "main.py").write_text(
        "from fastapi import FastAPI\napp = FastAPI()\n"
        "@app.get('/')\nasync def spin() -> None:\n    while True: pass\n"
    )
    host = started(project)

    with pytest.raises(HostEnded):
        host.call("GET", "/", seconds=0.5)

    assert any("spin" in line for line in host.log_end())


def test_the_process_ends_with_its_parent(project: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from newel_tools.facts.project import find_project
from newel_tools.prove.sandbox import sandbox
from newel_tools.prove.settings import Settings
found = find_project(Path({str(project)!r}), python=Path(sys.executable))
with sandbox(found, Settings()) as place:
    with place.started_host() as host:
        print(host.pid, flush=True)
        sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as parent:
        assert parent.stdout is not None
        host = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()

        assert host.wait(10) is None or not host.is_running()


KILLED = """
import sys
from types import SimpleNamespace
from pathlib import Path
from newel_tools.facts.project import find_project
from newel_tools.prove.sandbox import sandbox
from newel_tools.prove.settings import Settings
found = find_project(Path(sys.argv[1]), python=Path(sys.executable))
with sandbox(found, Settings(database="postgresql")) as place, place.started_host() as host:
    print(place.scratch, place.redis, place.postgres["host"], flush=True)
    sys.stdin.read()
"""


def test_a_killed_prover_leaves_no_server_and_no_file(project: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(project)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    ) as prover:
        assert prover.stdout is not None
        left = [Path(path) for path in prover.stdout.readline().split()]
        started = psutil.Process(prover.pid).children(recursive=True)
        names = {process.name() for process in started}
        assert {"postgres", "valkey-server"} <= names, names
        prover.kill()
        prover.wait()

        _, alive = psutil.wait_procs(started, timeout=10)

    assert not alive
    with scratch_folder(parent=scratch), scratch_folder(parent=Path("/tmp")):
        assert [path for path in left if path.exists()] == []


@pytest.mark.parametrize("home", ["starlette.middleware.exceptions", "starlette.exceptions"])
def test_errors_are_noted_where_starlette_looks_handlers_up_by_a_method(
    monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """As it did before 0.28, which FastAPI before 0.107 asks for; before 0.21 at another place."""

    def handler_of(self: object, error: Exception) -> str:
        return f"the handler of {error}"

    monkeypatch.setitem(sys.modules, "starlette._exception_handler", None)
    monkeypatch.setitem(sys.modules, "starlette.middleware.exceptions", None)
    monkeypatch.setitem(sys.modules, home, SimpleNamespace(ExceptionMiddleware=ExceptionMiddleware))
    monkeypatch.setattr(ExceptionMiddleware, "_lookup_exception_handler", handler_of, raising=False)
    note_errors(Places("/nowhere"))
    record = Record()
    token = current.set(record)
    try:
        found = ExceptionMiddleware(lambda: None)._lookup_exception_handler(OSError("x"))
    finally:
        current.reset(token)

    assert found == "the handler of x"
    assert [error["handled"] for error in record.errors] == [True]
