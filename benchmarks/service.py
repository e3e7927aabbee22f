"""The newel variant: what `newel new` prints, made again whenever the generator has changed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.servers import ROOT, STATE, BenchmarkError

SENTENCE = (
    "agent management API: agents (name str(3..64), description text optional, "
    "model_name str(128), system_prompt text(10..), config json, is_active bool = true), "
    "owned by users, with soft delete"
)
GENERATOR = ROOT / "packages/newel-tools/src"


def newel_service() -> Path:
    """Return the directory of the generated service, as it was printed: every default on.

    While the generator is being worked on and prints nothing that runs, the service that it
    printed last is measured, and that is said.
    """
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes may ask for it at once
        return _present_or_generated()


def _present_or_generated() -> Path:
    directory = STATE / f"service-{_digest()}"
    if directory.is_dir():
        return directory
    print("generating the newel service ...", file=sys.stderr, flush=True)
    older = sorted(STATE.glob("service-*"), key=lambda path: path.stat().st_mtime)
    problem = _generate(directory)
    if problem is None:
        for path in older:
            shutil.rmtree(path)
        return directory
    if not older:
        raise BenchmarkError(f"`newel new` failed: {problem}", f'run: newel new "{SENTENCE}"')
    print(f"`newel new` failed: {problem}\nmeasuring the service it printed last", file=sys.stderr)
    return older[-1]


def _generate(directory: Path) -> str | None:
    """Print the service into ``directory``; return what went wrong."""
    newel = Path(sysconfig.get_path("scripts"), "newel")
    with tempfile.TemporaryDirectory(dir=STATE, prefix="new-") as temporary:
        printed = Path(temporary, "service")
        done = subprocess.run(
            [newel, "new", SENTENCE, printed], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            return said[-1].strip()
        printed.rename(directory)
    return None


def _digest() -> str:
    """Return what stands for the generator's sources: another one prints another service."""
    seen = hashlib.sha256(SENTENCE.encode())
    for path in sorted(GENERATOR.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            seen.update(path.relative_to(GENERATOR).as_posix().encode())
            seen.update(path.read_bytes())
    return seen.hexdigest()[:16]
