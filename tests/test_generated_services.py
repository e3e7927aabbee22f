"""What `newel new` prints: for the sentences of the README, in both layouts, on real databases."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from stress.topology import Topology

from newel.embedded import embedded_postgres
from newel.testing import open_databases
from newel_tools.generator.features import render_features
from newel_tools.generator.layout import LAYOUTS, Layout
from newel_tools.generator.shell import Kernel, render_shell
from newel_tools.planner.planner import plan_sentence
from newel_tools.prove.probe import load_probes

pytestmark = pytest.mark.timeout(300)

SENTENCES = ("users", "agents", "blog", "inventory", "chat")
TO_WRITE = {"inventory": 1}  # jobs whose work nobody stated: a test that fails says what they owe
TOKENS = 10_000  # of Python for users and one resource, characters / 4
TESTS = 40
LIBRARIES = """
import fastapi, sqlalchemy.ext.asyncio, structlog, jwt, pydantic_settings, time
print(time.process_time())
"""
IMPORTS = 20  # times that is what a service costs at most, tests and all, beside two other workers

Service = Callable[[str, str], Any]
# The layouts differ in imports alone: one sentence in both shows it.
MADE = [*((name, "features") for name in SENTENCES), ("inventory", "layered")]
every_service = pytest.mark.parametrize("name", SENTENCES)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
all_made = pytest.mark.parametrize(("name", "layout"), MADE)


@all_made
def test_it_is_made_with_its_tests_green(service: Service, name: str, layout: str) -> None:
    said = service(name, layout).said

    assert [step["name"] for step in said["steps"] if step["ok"]] == [
        *("format", "lint", "migration", "types", "tests"),
    ]
    assert said["tests"].get("xfailed", 0) == TO_WRITE.get(name, 0)
    assert set(said["tests"]) <= {"passed", "xfailed"}, "a skipped test has not passed"
    assert said["tests"]["passed"] >= TESTS
    assert said["not_understood"] == []


@pytest.mark.parametrize("name", ["users", "agents"])
def test_users_and_a_resource_are_few_tokens(service: Service, name: str) -> None:
    found = service(name, "features")
    python = sum(len(path.read_text()) for path in found.root.rglob("*.py"))

    assert found.said["tokens"] == python // 4
    assert found.said["tokens"] <= TOKENS
    plan = plan_sentence(found.said["sentence"])
    sizes = {
        layout: sum(len(file.text) for file in render_features(plan, layout)) for layout in LAYOUTS
    }
    assert found.said["tokens"] * sizes["layered"] // sizes["features"] <= TOKENS


def test_the_first_service_takes_little_time(service: Service) -> None:
    # CPU, because a machine that does other things makes the clock say anything; and a ratio,
    # because machines differ.
    floor = float(subprocess.check_output([sys.executable, "-B", "-c", LIBRARIES]))
    assert service("users", "features").cpu_seconds <= IMPORTS * floor


@all_made
def test_the_reviewer_finds_nothing(service: Service, name: str, layout: str) -> None:
    done = service(name, layout).newel("check", ".", "--json")
    report = json.loads(done.stdout)

    assert (report["verdict"], report["findings"]) == ("APPROVE", []), done.stdout
    assert done.returncode == 0


def test_the_reviewer_finds_a_planted_fault(service: Service, tmp_path: Path) -> None:
    found = service("users", "features")
    planted = found.copied(tmp_path / "users")
    schemas = next((planted.root / "src").rglob("schemas.py"))
    schemas.write_text(re.sub(r", examples=\[.*?\]", "", schemas.read_text()))
    said = json.loads(planted.newel("check", ".", "--json").stdout)

    assert [finding["rule"] for finding in said["findings"]] == ["DOC002"]


def test_the_prover_breaks_nothing(service: Service) -> None:
    # ERR007 sends random requests for as long as all others together; test_schemathesis does too.
    probes = [word for name in load_probes() if name != "ERR007" for word in ("--only", name)]
    done = service("inventory", "layered").newel("prove", ".", "--json", *probes)
    report = json.loads(done.stdout)

    assert (report["verdict"], report["findings"]) == ("APPROVE", []), done.stdout
    assert done.returncode == 0


def test_the_prover_breaks_no_chat_and_no_upload(service: Service) -> None:
    probes = ("--only", "WS001", "--only", "UP001")
    done = service("chat", "features").newel("prove", ".", "--json", *probes)
    report = json.loads(done.stdout)

    assert (report["verdict"], report["findings"]) == ("APPROVE", []), done.stdout


@pytest.fixture(scope="module")
def services(service: Service) -> dict[str, Any]:
    return {f"{n}-{layout}": service(n, layout) for n, layout in MADE}


def type_check(folder: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    """Run pyright over several services at once: starting it takes longer than one of them."""
    config = {
        "include": [f"{name}/{part}" for name in names for part in ("src", "tests")],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "executionEnvironments": [{"root": name, "extraPaths": [f"{name}/src"]} for name in names],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )


def test_pyright_finds_nothing_in_strict_mode(services: dict[str, Any]) -> None:
    folder = services["users-features"].root.parent
    done = type_check(folder, list(services))

    assert done.returncode == 0, done.stdout
    for found in services.values():
        assert 'typeCheckingMode = "strict"' in (found.root / "pyproject.toml").read_text()


def test_pyright_finds_a_planted_fault(service: Service, tmp_path: Path) -> None:
    service("users", "features").copied(tmp_path / "users")
    models = next((tmp_path / "users/src").rglob("models.py"))
    models.write_text(models.read_text() + '\nUser(emial="x", password_hash="!")\n')
    settings = next((tmp_path / "users/src").rglob("settings.py"))
    settings.write_text(settings.read_text() + "    payment_key: str\n")  # that is no fault
    done = type_check(tmp_path, ["users"])

    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if " - error: " in line and "emial" in line]
    assert "payment_key" not in done.stdout


def test_ruff_and_ty_are_content_by_the_services_own_settings(services: dict[str, Any]) -> None:
    for name, found in services.items():
        for command in (
            ["ruff", "format", "--check", "."],
            ["ruff", "check", "."],
            ["ty", "check", "--python", sys.prefix],
        ):
            done = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=found.root,
                env=found.environment(),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{name}: {' '.join(command)}\n{done.stdout}"


@all_made
def test_no_secret_reaches_git(service: Service, tmp_path: Path, name: str, layout: str) -> None:
    root = service(name, layout).root
    git = ["git", f"--git-dir={tmp_path}/.git", f"--work-tree={root}"]
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run([*git, "add", "--all"], check=True, cwd=root)
    listed = subprocess.run(
        [*git, "ls-files"], check=True, cwd=root, capture_output=True, text=True
    ).stdout.split()

    secrets = re.findall(r"=([0-9a-f]{32,})$", (root / ".env").read_text(), re.MULTILINE)
    assert len(secrets) == 2
    assert ".env" not in listed
    assert {"pyproject.toml", ".env.example", "migrations/0001_initial.py"} <= set(listed)
    assert not [path for path in listed if path.endswith((".db", ".pyc"))]
    for path in listed:
        assert not any(secret in (root / path).read_text() for secret in secrets), path
    assert (root / ".env").stat().st_mode & 0o777 == 0o600


@every_layout
@every_service
def test_the_same_plan_gives_the_same_text(name: str, layout: Layout, service: Service) -> None:
    def render() -> dict[str, str]:
        plan = plan_sentence(service(name, "features").said["sentence"])
        kernel = Kernel(version="0.1.0", checkout=None)
        shell = render_shell(plan, layout, directory=Path("/srv/x"), kernel=kernel)
        return {f.path: f.text for f in (*shell, *render_features(plan, layout))}

    one, other = render(), render()

    assert {path for path in one if one[path] != other[path]} == {".env"}


@every_layout
def test_both_layouts_have_the_same_endpoints(service: Service, layout: str) -> None:
    routes = json.loads(service("inventory", layout).newel("routes", "--json").stdout)
    features = json.loads(service("inventory", "features").newel("routes", "--json").stdout)

    assert routes == features
    readme = (service("inventory", layout).root / "README.md").read_text()
    for route in routes:
        if route["path"].startswith("/api/v1/"):
            path = route["path"].removeprefix("/api/v1")
            assert f"| `{route['method']} {path}` | {route['access']} |" in readme


# ---------------------------------------------------------------- databases


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with embedded_postgres() as server:
        yield server.url()


@pytest.mark.parametrize("name", ["agents", "blog"])
def test_its_tests_are_green_on_postgresql_by_the_url_alone(
    service: Service, postgres_url: str, name: str
) -> None:
    found = service(name, "features")
    done = found.test(DATABASE_URL=postgres_url)

    assert done.returncode == 0, done.stdout[-4_000:]
    assert f"{found.said['tests']['passed']} passed" in done.stdout


def test_its_jobs_and_events_are_as_good_there(service: Service, postgres_url: str) -> None:
    found = service("inventory", "layered")
    done = found.test("tests/products", DATABASE_URL=postgres_url)

    assert done.returncode == 0, done.stdout[-4_000:]
    assert f"{TO_WRITE['inventory']} xfailed" in done.stdout


def test_its_chats_and_files_are_as_good_there(service: Service, postgres_url: str) -> None:
    done = service("chat", "features").test(
        "tests/test_chat.py", "tests/test_files.py", DATABASE_URL=postgres_url
    )

    assert done.returncode == 0, done.stdout[-4_000:]


def test_the_url_is_what_its_tests_use(service: Service, tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://nobody@/postgres?host={tmp_path}"  # nobody listens there
    done = service("agents", "features").test("-x", DATABASE_URL=url)

    assert done.returncode == 1


# ---------------------------------------------------------------- running it


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


@every_layout
def test_it_is_served_is_ready_and_stops(service: Service, tmp_path: Path, layout: str) -> None:
    found = service("inventory", layout)
    port, database = free_port(), f"sqlite+aiosqlite:///{tmp_path}/served.db"
    assert found.newel("migrate", "up", DATABASE_URL=database).returncode == 0
    with subprocess.Popen(
        [*NEWEL_SERVE, "--port", str(port)],
        cwd=found.root,
        env=found.environment(DATABASE_URL=database),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            ready = until(lambda: answers(f"http://127.0.0.1:{port}/ready"), server)
            paths = answers(f"http://127.0.0.1:{port}/api/openapi.json")["paths"]
        finally:
            server.send_signal(signal.SIGTERM)
            output, _ = server.communicate(timeout=30)

    assert ready["status"] == "ok"
    assert ready["checks"]["database"]["status"] == "ok"
    assert "/api/v1/products/{product_id}" in paths
    assert server.returncode == 0, output
    assert "Traceback" not in output


NEWEL_SERVE = [str(Path(sys.executable).parent / "newel"), "serve", "--host", "127.0.0.1"]


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    end = time.monotonic() + 30
    while True:
        try:
            return condition()
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "not there after 30 s"
            time.sleep(0.05)


# ---------------------------------------------------------------- several processes

AGENT = {
    "name": "Marvin",
    "model_name": "m-1",
    "system_prompt": "Answer with a sigh.",
    "config": {},
}
USES = 40
PASSWORD = "correct horse battery 7"


def test_two_processes_are_one_service_and_its_history_goes_back_and_forth(
    service: Service, postgres_url: str, tmp_path: Path
) -> None:
    found = service("agents", "features")
    with open_databases(postgres_url, directory=tmp_path) as databases:
        url = databases.create()
        assert found.newel("migrate", "up", DATABASE_URL=url).returncode == 0
        asyncio.run(use_both(found, url, tmp_path))
        go_back_and_forth(found, url)
        databases.drop(url)


async def unless_busy(client: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> int:
    """Ask until there is a place for it, which on a slow machine there is not for all at once."""
    while (answer := await client.get(path, headers=headers)).status_code == 503:
        assert answer.headers["retry-after"]
    return answer.status_code


async def use_both(found: Any, url: str, folder: Path) -> None:
    """Use a service behind the HAProxy that it came with, now one process of it, now the other."""
    environment = found.environment(
        DATABASE_URL=url,
        API_LIMIT=f"{USES}/day",  # what comes back of it during the test is less than one
        SESSION_MEMORY_SECONDS="60",  # so that only the other process's word ends it sooner
    )
    settings = found.root / "deploy/haproxy.cfg"
    topology = Topology(
        service=found.root, environment=environment, folder=folder, proxy_settings=settings
    )
    async with topology, AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(client(web.url)) for web in topology.webs]
        outside = await stack.enter_async_context(client(topology.url, address="127.0.0.2"))
        ann, bob = await log_in(one, "ann"), await log_in(outside, "bob")

        assert (await two.get("/auth/me", headers=ann)).status_code == 200
        await ask_both_once(one, two, ann)
        sessions = (await one.get("/auth/sessions", headers=bob)).json()["items"]
        assert [session["ip"] for session in sessions] == ["127.0.0.2"], "as HAProxy says"
        asked = [unless_busy(each, "/auth/me", bob) for each in (one, two) * (5 * USES // 2)]
        statuses = Counter(await asyncio.gather(*asked))
        assert statuses == {200: USES - 1, 429: 4 * USES + 1}, "one was used by the list above"

        assert (await one.post("/auth/logout", headers=ann)).status_code == 204
        end = time.monotonic() + 5
        while (await two.get("/auth/me", headers=ann)).status_code != 401:
            assert time.monotonic() < end, "the other process has not heard of it"
            await asyncio.sleep(0.5)


def client(url: str, **transport: str) -> httpx2.AsyncClient:
    settings: dict[str, Any] = {"trust_env": False, "timeout": 60}
    if transport:
        settings["transport"] = httpx2.AsyncHTTPTransport(local_address=transport["address"])
    return httpx2.AsyncClient(base_url=f"{url}/api/v1", **settings)


async def log_in(process: httpx2.AsyncClient, name: str) -> dict[str, str]:
    """Return the headers of a new user; what they say of their address is not believed."""
    forged = {"X-Forwarded-For": "203.0.113.9"} if name == "bob" else {}
    body = {"email": f"{name}@example.com", "password": PASSWORD}
    made = await process.post("/auth/register", json=body)
    assert made.status_code == 201, made.text
    form = {"username": body["email"], "password": PASSWORD}
    tokens = await process.post("/auth/login", data=form, headers=forged)
    return {"Authorization": f"Bearer {tokens.json()['access_token']}"}


async def ask_both_once(
    one: httpx2.AsyncClient, two: httpx2.AsyncClient, caller: dict[str, str]
) -> None:
    """Send a request with one key to both processes, many times at once: one effect."""
    headers = {**caller, "Idempotency-Key": "once-and-only-once"}
    asked = [each.post("/agents", json=AGENT, headers=headers) for each in (one, two) * 10]
    answers = await asyncio.gather(*asked)
    made = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in made}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in made) == 1
    assert (await two.get("/agents", headers=caller)).json()["total"] == 1


def test_the_history_of_a_file_with_rows_goes_back_and_forth(
    service: Service, tmp_path: Path
) -> None:
    found, url = service("blog", "features"), f"sqlite+aiosqlite:///{tmp_path}/filled.db"
    assert found.newel("migrate", "up", DATABASE_URL=url).returncode == 0
    administrator = ("admin", "create", "--email", "ann@example.com")
    made = found.newel(*administrator, DATABASE_URL=url, NEWEL_ADMIN_PASSWORD=PASSWORD)
    assert made.returncode == 0, made.stderr

    go_back_and_forth(found, url)


def go_back_and_forth(found: Any, url: str) -> None:
    """Take the tables away, with their rows, and make them again as the entities say."""
    for words in (("down", "base"), ("up",), ("check",)):
        done = found.newel("migrate", *words, DATABASE_URL=url)
        assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- the command


def test_it_starts_from_a_plan_that_newel_plan_wrote(service: Service, tmp_path: Path) -> None:
    found = service("inventory", "features")
    sentence = found.said["sentence"]
    (tmp_path / "plan.yaml").write_text(found.newel("plan", sentence).stdout)

    planned = json.loads(found.newel("plan", str(tmp_path / "plan.yaml"), "--json").stdout)

    assert planned == json.loads(found.newel("plan", sentence, "--json").stdout)


def test_a_second_time_it_keeps_what_was_edited(service: Service, tmp_path: Path) -> None:
    found = service("users", "features")
    root = tmp_path / "users"
    found.copied(root)
    edited = next((root / "src").rglob("models.py"))
    edited.write_text(edited.read_text() + "# mine\n")
    done = found.newel("new", found.said["sentence"], str(root))

    assert done.returncode == 2
    assert "of yours that would be lost" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert edited.read_text().endswith("# mine\n")


def test_interrupted_it_leaves_nothing(service: Service, tmp_path: Path) -> None:
    found = service("users", "features")
    with subprocess.Popen(
        [NEWEL_SERVE[0], "new", found.said["sentence"], "shop"],
        cwd=tmp_path,
        env=found.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + 30
        while not any(tmp_path.glob(".shop.*/pyproject.toml")):
            assert time.monotonic() < end
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert errors == "Interrupted: nothing was written.\n"
    assert not any(tmp_path.iterdir())
