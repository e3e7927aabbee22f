"""`make` on a machine that lacks something says so in one line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a PATH directory with what every machine has, and no Python."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "awk", "rm", "touch", "make"):
        (directory / name).symlink_to(shutil.which(name))
    return directory


def make(tools: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Its own copy of the Makefile: nothing here may touch this repository's .venv.
    workspace = tools.parent / "workspace"
    for name in ("Makefile", "requirements", "packages/newel", "packages/newel-tools"):
        target = workspace / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            target.mkdir(exist_ok=True)
            for file in (ROOT / name).iterdir():
                if file.is_file():
                    shutil.copy(file, target)
        else:
            shutil.copy(ROOT / name, target)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        [tools / "make", *arguments],
        cwd=workspace,
        env={**environ, "PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line on standard error that is not make's own."""
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    return line


def test_without_python_it_says_what_is_needed(tools: Path) -> None:
    line = complaint(make(tools, "test"))

    assert "needs Python 3.11 or newer" in line
    assert "found: no python3" in line


def test_with_an_old_python_it_says_which_one_it_found(tools: Path) -> None:
    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.13 && exit 0\nexit 1\n')
    old.chmod(0o755)

    line = complaint(make(tools, "demo"))

    assert line.endswith("found: Python 3.10.13")


TARGETS = (
    *("demo", "test", "bench", "stress", "stress-crash"),
    *("check", "format", "lock", "upgrade", "clean"),
)


@pytest.mark.parametrize("target", TARGETS)
def test_help_lists_every_target(tools: Path, target: str) -> None:
    done = make(tools)

    assert done.returncode == 0
    assert f"  make {target} " in done.stdout


def run_ci(folder: Path, *, first: int, second: int) -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` with commands that end so, in a folder of its own."""
    for name, code in (("bin/make", first), (".venv/bin/pytest", second)):
        command = folder / name
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f'#!/bin/sh\necho "ran {command.name} $*"\nexit {code}\n')
        command.chmod(0o755)
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ".ci/run"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ci_runs_the_readmes_command(tmp_path: Path) -> None:
    done = run_ci(tmp_path, first=0, second=1)

    assert (done.returncode, done.stdout) == (0, "ran make test\n")


@pytest.mark.parametrize("second", [0, 1])
def test_ci_runs_what_failed_once_more_and_says_so(tmp_path: Path, second: int) -> None:
    done = run_ci(tmp_path, first=2, second=second)

    assert done.returncode == second
    assert "What failed runs once more" in done.stdout
    assert "ran pytest" in done.stdout
    assert "--last-failed-no-failures none" in done.stdout
