"""The tools that read the code: each is content with this repository, and none is asleep.

For every tool there is a small workspace with this repository's configuration and one fault in it.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sysconfig.get_path("scripts"))

TOOLS: Mapping[str, list[str]] = {
    "format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    "lint": [str(BIN / "ruff"), "check", "--quiet", "."],
    "ty": [str(BIN / "ty"), "check", "--output-format", "concise"],
    "pyright": [str(BIN / "pyright")],
    "public types": [str(BIN / "pyright"), "--verifytypes", "newel", "--ignoreexternal"],
    "layers": [str(BIN / "lint-imports"), "--no-cache", "--no-logo"],
    "locks": [sys.executable, "scripts/lock.py", "--check"],
}


def run(tool: str, root: Path) -> subprocess.CompletedProcess[str]:
    # The sources below `root`, not the ones that are installed; and `--verifytypes` asks the first
    # `python` of the PATH where the dependencies are.
    sources = os.pathsep.join(str(path) for path in sorted(root.glob("packages/*/src")))
    return subprocess.run(
        TOOLS[tool],
        cwd=root,
        env={
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": sources,
            "NO_COLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.check
@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", TOOLS)
def test_is_content_with_the_repository(tool: str) -> None:
    done = run(tool, ROOT)
    if done.returncode:
        pytest.fail(f"{tool} found faults:\n{done.stdout}", pytrace=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a workspace with this one's configuration and a kernel of four modules."""
    for name in ("pyproject.toml", "packages/newel/pyproject.toml", "requirements", "scripts"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for name in ("apps", "probes", "rules"):  # they import the tools, which are not here
        (tmp_path / f"scripts/{name}.py").unlink()
    tools = tmp_path / "packages/newel-tools"
    (tools / "src/newel_tools").mkdir(parents=True)
    shutil.copy(ROOT / "packages/newel-tools/pyproject.toml", tools)
    kernel = tmp_path / "packages/newel/src/newel"
    kernel.mkdir(parents=True)
    (kernel / "py.typed").touch()
    for name in ("__init__", "cli", "ids", "errors", "clock"):
        (kernel / f"{name}.py").write_text(f'"""The {name} of a small kernel."""\n')
    (kernel / "errors.py").write_text('"""One error."""\n\n\nclass Broken(Exception):\n    pass\n')
    (tools / "src/newel_tools/__init__.py").write_text('"""Small tools."""\n')
    for name in ("new", "commands", "errors"):
        (tools / f"src/newel_tools/{name}.py").write_text(f'"""The {name} of small tools."""\n')
    for room in ("plan", "planner", "generator"):
        (tools / "src/newel_tools" / room).mkdir()
        (tools / "src/newel_tools" / room / "__init__.py").write_text(f'"""A small {room}."""\n')
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


KERNEL = "packages/newel/src/newel"
ROOMS = "packages/newel-tools/src/newel_tools"

FAULTS = [
    ("format", f"{KERNEL}/ids.py", "__all__ = [ 'a' ]\na = 1\n"),
    ("lint", f"{KERNEL}/ids.py", "import os\n"),
    ("lint", "packages/newel/tests/test_ids.py", "def test_it():\n    breakpoint()\n"),
    ("ty", f"{KERNEL}/ids.py", 'one: int = "1"\n'),
    ("ty", "scripts/lock.py", 'one: int = "1"\n'),
    ("pyright", f"{KERNEL}/ids.py", "def same(value):\n    return value\n"),
    ("pyright", f"{ROOMS}/plan/names.py", "def same(x):\n    return x\n"),
    ("public types", f"{KERNEL}/ids.py", "def same(value):\n    return value\n"),
    ("layers", f"{KERNEL}/ids.py", "import newel.cli\n"),
    ("layers", f"{KERNEL}/ids.py", "import newel.clock\n"),
    ("layers", f"{KERNEL}/unplaced.py", ""),
    ("layers", f"{KERNEL}/cli.py", "import newel_tools\n"),
    ("layers", f"{KERNEL}/cli.py", "def later():\n    import asyncpg\n"),
    ("layers", f"{ROOMS}/plan/names.py", "import newel.ids\n"),
    ("layers", f"{ROOMS}/planner/parts.py", "import newel_tools.generator\n"),
    ("layers", f"{ROOMS}/plan/names.py", "import newel_tools.planner\n"),
    ("layers", f"{ROOMS}/unplaced.py", ""),
    ("locks", "packages/newel/pyproject.toml", '[project]\ndependencies = ["other"]\n'),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("tool", "path", "fault"), FAULTS)
def test_finds_a_planted_fault(workspace: Path, tool: str, path: str, fault: str) -> None:
    (workspace / path).parent.mkdir(parents=True, exist_ok=True)
    (workspace / path).write_text(fault)

    done = run(tool, workspace)

    assert done.returncode == 1, done.stdout
    assert Path(path).stem in done.stdout or "unformatted" in done.stdout or tool == "locks"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", TOOLS)
def test_is_content_without_the_fault(workspace: Path, tool: str) -> None:
    done = run(tool, workspace)

    assert done.returncode == 0, done.stdout
