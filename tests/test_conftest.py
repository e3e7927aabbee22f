"""No test holds up all others: one that cannot be torn down ends its process and is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUCK = """
import threading
import pytest

@pytest.fixture
def never_ends():
    yield
    threading.Event().wait()

def test_stuck(never_ends): ...
"""
CAPTURES = """
import sys

def test_captures(capsys):
    print("said", file=sys.stderr)

def test_next(): ...
"""


def run(folder: Path, *, seconds: int) -> str:
    conftest = (ROOT / "conftest.py").read_text()
    limit = "TEAR_DOWN_SECONDS = 120"
    assert limit in conftest
    (folder / "conftest.py").write_text(conftest.replace(limit, f"TEAR_DOWN_SECONDS = {seconds}"))
    command = [sys.executable, "-m", "pytest", "-n", "1", "--max-worker-restart", "0", str(folder)]
    ran = subprocess.run(
        [*command, "--rootdir", str(folder), "-c", "/dev/null"],
        capture_output=True, text=True, timeout=90, check=False, cwd=folder,
    )  # fmt: skip
    return ran.stdout + ran.stderr


@pytest.mark.timeout(100)
def test_a_test_that_cannot_be_torn_down_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_stuck.py").write_text(STUCK)

    said = run(tmp_path, seconds=1)

    assert "crashed while running 'test_stuck.py::test_stuck'" in said
    assert "in never_ends" in said, "where it stands"


@pytest.mark.timeout(100)
def test_a_test_that_captures_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "test_captures.py").write_text(CAPTURES)

    said = run(tmp_path, seconds=60)

    assert "2 passed" in said
    assert "error" not in said.lower()
