"""No test holds up all others: one that cannot be ended ends its process and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUCK_AFTERWARDS = """
import threading
import pytest

@pytest.fixture
def never_ends():
    yield
    threading.Event().wait()

def test_stuck(never_ends): ...
"""
STUCK = """
import threading
import pytest

@pytest.mark.timeout(1)
def test_stuck():
    while True:
        never_ends()

def never_ends():
    try:
        threading.Event().wait()
    except BaseException:
        ...
"""
STOPPED = """
import os
import signal
import pytest

@pytest.mark.timeout(1)
def test_stuck():
    never_ends()

def never_ends():
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        ...
"""
CAPTURES = """
import sys

def test_captures(capsys):
    print("said", file=sys.stderr)

def test_next(): ...
"""


COLLECTS = """
from coverage import Coverage

def test_collects():
    counting = Coverage.current()._collector
    counting.lock_data()  # as while a new file is looked at
    exec(compile("def seen(): ...", "called_by_the_collector.py", "exec"), names := {})
    names["seen"]()
    counting.unlock_data()
"""


def copy_conftest(folder: Path, text: str, replaced_by: str) -> None:
    conftest = (ROOT / "conftest.py").read_text()
    assert text in conftest
    (folder / "conftest.py").write_text(conftest.replace(text, replaced_by))
    (folder / "scripts").symlink_to(ROOT / "scripts")


def run(folder: Path, *, seconds: int) -> str:
    copy_conftest(folder, "GRACE_SECONDS = 60", f"GRACE_SECONDS = {seconds}")
    command = [sys.executable, "-m", "pytest", "-n", "1", "--max-worker-restart", "0", str(folder)]
    ran = subprocess.run(
        [*command, "--rootdir", str(folder), "-c", "/dev/null"],
        capture_output=True, text=True, timeout=90, check=False, cwd=folder,
    )  # fmt: skip
    return ran.stdout + ran.stderr


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    ("code", "state"), [(STUCK, "sleeping"), (STUCK_AFTERWARDS, "sleeping"), (STOPPED, "stopped")]
)
def test_a_test_that_cannot_be_ended_is_named(tmp_path: Path, code: str, state: str) -> None:
    (tmp_path / "test_stuck.py").write_text(code)

    said = run(tmp_path, seconds=1)

    assert "crashed while running 'test_stuck.py::test_stuck'" in said
    assert "in never_ends" in said, "where it stands"
    assert f"({state})" in said, "what its process does"


@pytest.mark.timeout(100)
@pytest.mark.parametrize("sabotaged", [False, True])
def test_coverage_does_not_wait_for_itself(tmp_path: Path, sabotaged: bool) -> None:
    """Without our hook, as the negative control, it does."""
    hook = "def pytest_sessionstart()"
    copy_conftest(tmp_path, hook, "def unused()" if sabotaged else hook)
    (tmp_path / "test_collects.py").write_text(COLLECTS)
    command = [sys.executable, "-m", "pytest", "--timeout", "5", "--timeout-method", "thread"]
    ran = subprocess.run(
        [*command, "--cov", "--rootdir", str(tmp_path), "-c", "/dev/null", str(tmp_path)],
        capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ("1 passed" in ran.stdout) is not sabotaged, ran.stdout + ran.stderr


@pytest.mark.timeout(100)
def test_a_test_that_captures_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "test_captures.py").write_text(CAPTURES)

    said = run(tmp_path, seconds=60)

    assert "2 passed" in said
    assert "error" not in said.lower()
