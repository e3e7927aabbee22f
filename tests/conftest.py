"""Services that `newel new` made, for the tests that look at them; each is made once a session."""

import json
import os
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment(self.root) | more

    def newel(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run([NEWEL, *arguments], self.root, self.environment(**more))

    def test(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        plugins = ["-p", "anyio", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", *plugins, *arguments]
        alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return run(command, self.root, self.environment(**alone, **more))


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


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Return the service of a sentence in a layout; it has passed all checks of `newel new`."""
    made: dict[tuple[str, str], Generated] = {}
    folder = tmp_path_factory.mktemp("services")

    def generate(name: str, layout: str) -> Generated:
        if (name, layout) not in made:
            root = folder / f"{name}-{layout}"
            before = cpu_seconds()
            done = run(
                [NEWEL, "new", SENTENCES[name], root, "--layout", layout, "--json"],
                folder,
                dict(os.environ),
            )
            said = json.loads(done.stdout or "{}")
            failed = [step for step in said.get("steps", []) if not step["ok"]]
            said_of = "\n".join(f"{step['name']}: {step['output'][-4_000:]}" for step in failed)
            assert done.returncode == 0, f"{said_of}\n{done.stderr}"
            made[name, layout] = Generated(root, said, cpu_seconds() - before)
        return made[name, layout]

    return generate
