"""Services that `newel new` made, for the tests that look at them; each is made once a session."""

import fcntl
import json
import os
import resource
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sample_forks import forks

from newel_tools.generator.steps import clean_environment

NEWEL = Path(sysconfig.get_path("scripts"), "newel")

SENTENCES = {
    "users": "Create user management API with auth",
    "agents": (
        "agent management API: agents (name str(3..64), description text optional, "
        "model_name str(128), system_prompt text(10..), config json, is_active bool = true), "
        "owned by users"
    ),
    "blog": "blog with posts, comments and tags; posts belong to users; comments are moderated",
    "inventory": (
        "inventory API: products (name, sku unique, price decimal, stock int) and warehouses, "
        "stock movements event to kafka, nightly report job"
    ),
    "chat": "team chat with file uploads",
}


@dataclass(frozen=True)
class Generated:
    """A service and what `newel new --json` said of it."""

    root: Path
    said: Mapping[str, Any]
    cpu_seconds: float

    @property
    def package(self) -> Path:
        return self.root / "src" / self.said["service"]

    def copied(self, to: Path) -> "Generated":
        """Return a copy to change; without what the other worker writes at this moment."""
        passing = shutil.ignore_patterns("__pycache__", ".*_cache")
        return replace(self, root=shutil.copytree(self.root, to, ignore=passing))

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment(self.root) | more

    def newel(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run([NEWEL, *arguments], self.root, self.environment(**more))

    def test(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        plugins = ["-p", "anyio.pytest_plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
        words = ["-m", "pytest", "-q", *plugins, *arguments]
        alone = self.environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **more)
        return forks().run(words, self.root, alone, timeout_seconds=280)


def run(
    command: list[Any], directory: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Service = Callable[[str, str], Generated]


@pytest.fixture(autouse=True, scope="module")
def _uncounted() -> Generator[None]:
    """Start no process whose lines are counted: the packages' own tests do, at half the speed."""
    taken = os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    yield
    if taken is not None:
        os.environ["COVERAGE_PROCESS_CONFIG"] = taken


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count no lines here either."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Return the service of a sentence in a layout; it has passed all checks of `newel new`.

    Both workers of a run have the same one: nobody writes into it, a copy is what is changed.
    """
    of_run = tmp_path_factory.getbasetemp()
    folder = (of_run.parent if "PYTEST_XDIST_WORKER" in os.environ else of_run) / "services"
    folder.mkdir(exist_ok=True)

    def generate(name: str, layout: str) -> Generated:
        root, note = folder / f"{name}-{layout}", folder / f"{name}-{layout}.json"
        with Path(f"{root}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not note.exists():
                note.write_text(json.dumps(make(SENTENCES[name], root, layout)))
        noted = json.loads(note.read_text())
        return Generated(root, noted["said"], noted["cpu_seconds"])

    return generate


def make(sentence: str, root: Path, layout: str) -> dict[str, Any]:
    before = cpu_seconds()
    done = run(
        [NEWEL, "new", sentence, root, "--layout", layout, "--json"], root.parent, dict(os.environ)
    )
    said = json.loads(done.stdout or "{}")
    failed = [step for step in said.get("steps", []) if not step["ok"]]
    said_of = "\n".join(f"{step['name']}: {step['output'][-4_000:]}" for step in failed)
    assert done.returncode == 0, f"{said_of}\n{done.stderr}"
    return {"said": said, "cpu_seconds": cpu_seconds() - before}
