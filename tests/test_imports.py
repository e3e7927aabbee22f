"""Nothing happens on import: no socket, no thread, no file, little work, no circle."""

import graphlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU_SECONDS = 1.2
# What a service of this kind imports in any case is most of the cost, and machines differ.
LIBRARIES = ["fastapi", "sqlalchemy.ext.asyncio", "structlog", "jwt", "pydantic_settings"]
CPU_RATIO = 1.6  # 1.45 on a calm machine; the goal is 1.15
# Drivers, commands, and what a setting or a rare request asks for: 5 to 400 ms, up to 10 MiB each.
NEEDLESS = {
    *("aiosqlite", "alembic", "asyncpg", "psycopg", "typer"),
    "sqlalchemy.dialects.oracle",
    *("PIL", "aiosmtplib", "faststream", "nats", "obstore", "prometheus_client", "redis"),
    *("opentelemetry.sdk", "opentelemetry.exporter", "sentry_sdk"),
}
# Modules for tests import test tools, which no service pays for.
FOR_TESTS = {"testing", "embedded"}
MODULES = sorted(
    f"newel.{path.stem}"
    for path in (ROOT / "packages/newel/src/newel").glob("*.py")
    if not path.stem.startswith("_") and path.stem not in FOR_TESTS
)

PROBE = """
import json, os, resource, sys, threading
acts = []
def watch(event, arguments):
    if event.startswith("socket."):
        acts.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR) and arguments[0] != os.devnull:
            acts.append(f"writes {arguments[0]}")
    elif event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        acts.append(event)
sys.addaudithook(watch)
for name in sys.argv[1:]:
    __import__(name)
used = resource.getrusage(resource.RUSAGE_SELF)
acts += [f"thread {thread.name}" for thread in threading.enumerate()[1:]]
print(json.dumps({"acts": acts, "cpu": used.ru_utime + used.ru_stime, "loaded": list(sys.modules)}))
"""


def importing(modules: Iterable[str], path: Path | None = None) -> dict:
    """Import modules in a new interpreter; return their acts, the CPU seconds, what was loaded."""
    # Coverage would be measured too, and writes its file.
    environ = {name: value for name, value in os.environ.items() if "COV" not in name}
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, *modules],
        env={**environ, "PYTHONPATH": str(path or "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_every_module_does_nothing() -> None:
    assert importing(MODULES)["acts"] == []


def cpu_ratio(module: str) -> float:
    """Return what importing ``module`` costs, as a multiple of what its libraries cost."""
    rounds = [(importing([module]), importing(LIBRARIES)) for _ in range(2)]
    return min(mine["cpu"] for mine, _ in rounds) / min(floor["cpu"] for _, floor in rounds)


def test_importing_the_kernel_is_cheap() -> None:
    assert importing(["newel"])["cpu"] < CPU_SECONDS


def test_importing_a_whole_service_costs_little_more_than_its_libraries() -> None:
    assert cpu_ratio("newel.app") < CPU_RATIO


def needless(loaded: Iterable[str]) -> set[str]:
    """Return what a service has loaded that none of its usual requests asks for."""
    return NEEDLESS & set(loaded)


@pytest.mark.parametrize(
    "modules", [["newel.app", "newel.accounts"], ["agent_management.application"]]
)
def test_a_service_does_not_load_what_its_usual_requests_do_not_need(modules: list[str]) -> None:
    service = importing(modules, ROOT / "apps/agents/src")

    assert needless(service["loaded"]) == set()


def test_the_server_is_loaded_by_what_serves() -> None:
    assert "uvicorn" not in importing(["newel.app", "newel.accounts"])["loaded"]


def test_a_service_that_loads_more_is_seen(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("from newel.drivers import prometheus\n")

    loaded = importing(["newel.app", "heavy"], tmp_path)["loaded"]
    assert needless(loaded) == {"prometheus_client"}


@pytest.mark.parametrize(
    "act",
    [
        "import socket; socket.socket().close()",
        "import socket; socket.getaddrinfo('127.0.0.1', 80)",
        "import threading; threading.Timer(0.5, print).start()",
        "open(__file__ + '.log', 'w').close()",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
    ],
)
def test_a_module_that_acts_on_import_is_seen(tmp_path: Path, act: str) -> None:
    (tmp_path / "busy.py").write_text(act + "\n")

    assert importing(["busy"], tmp_path)["acts"]


def test_a_module_that_works_on_import_is_seen(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(
        f"import time\nwhile time.process_time() < {CPU_SECONDS}: pass\n"
    )

    assert importing(["busy"], tmp_path)["cpu"] >= CPU_SECONDS


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, or nothing."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", ["newel", "newel_tools"])
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    # The tools' rules and their review name each other's types; nothing of that is imported.
    types_apart = package == "newel_tools"
    graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=types_apart)

    assert (
        circle({name: graph.find_modules_directly_imported_by(name) for name in graph.modules})
        == []
    )


def test_a_circle_is_seen() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
