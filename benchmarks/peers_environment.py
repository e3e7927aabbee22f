"""The environment of the variants that need other projects' packages, in .benchmarks/peers."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.servers import PEERS_PYTHON, ROOT, BenchmarkError

LOCK = ROOT / "requirements/peers.lock"


def ensure_peers() -> None:
    """Install what requirements/peers.lock pins, by hash, unless it is installed already."""
    directory = PEERS_PYTHON.parents[1]
    installed = directory / "installed.lock"
    if installed.is_file() and installed.read_bytes() == LOCK.read_bytes():
        return
    print("installing what requirements/peers.lock pins ...", file=sys.stderr, flush=True)
    _run_uv("venv", "--quiet", "--clear", "--python", sys.executable, str(directory))
    _run_uv("pip", "sync", "--quiet", "--python", str(PEERS_PYTHON), "--require-hashes", str(LOCK))
    installed.write_bytes(LOCK.read_bytes())


def _run_uv(*arguments: str) -> None:
    uv = Path(sysconfig.get_path("scripts"), "uv")
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["uv said nothing"]
        raise BenchmarkError(
            f"The peers' packages cannot be installed: {said[0]}",
            "it needs a package registry; without one: make bench ARGS=--quick",
        )
