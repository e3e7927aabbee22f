"""Compile requirements/*.lock from the pyproject files, or tell whether that was forgotten.

The lock's first line carries a digest of every requirement it was compiled from, so that the
check needs neither the network nor the registry's present state.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "packages/newel/pyproject.toml", "packages/newel-tools/pyproject.toml")
UV_TOOL = "requirements/uv-tool.lock"
DEV = "requirements/dev.lock"
PEERS = "requirements/peers.lock"
MARK = "# compiled by `make lock` from requirements with sha256 "


def digest(root: Path) -> str:
    """Return the SHA-256, in hex, of all that the pyproject files below ``root`` require."""
    seen = hashlib.sha256()
    for source in SOURCES:
        content = tomllib.loads((root / source).read_text())
        project = content.get("project", {})
        for asked in (
            project.get("requires-python"),
            project.get("dependencies"),
            project.get("optional-dependencies"),
            content.get("dependency-groups"),
            content.get("build-system"),
        ):
            seen.update(f"{source} {asked!r}\n".encode())
    return seen.hexdigest()


def stale(root: Path) -> list[str]:
    """Return the locks below ``root`` that were compiled from other requirements."""
    wanted = MARK + digest(root)
    return [
        lock
        for lock in (UV_TOOL, DEV, PEERS)
        if (root / lock).read_text().partition("\n")[0] != wanted
    ]


def compile_lock(lock: str, *arguments: str) -> None:
    """Compile one lock: for every platform, with hashes, without a registry's address."""
    uv = Path(sysconfig.get_path("scripts"), "uv")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header"]
    subprocess.run([*command, "--output-file", lock, *arguments], cwd=ROOT, check=True)
    path = ROOT / lock
    path.write_text(f"{MARK}{digest(ROOT)}\n{path.read_text()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("--check", action="store_true", help="only tell which locks are stale")
    options = parser.parse_args()
    if options.check:
        for lock in (forgotten := stale(ROOT)):
            print(f"{lock} was compiled from other requirements: run `make lock`")
        return 1 if forgotten else 0
    upgrade = ["--upgrade"] if options.upgrade else []
    compile_lock(UV_TOOL, "--group", "pyproject.toml:install", *upgrade)
    compile_lock(
        DEV,
        "--group",
        "pyproject.toml:dev",
        "--all-extras",
        "--constraint",
        UV_TOOL,
        *SOURCES[1:],
        *upgrade,
    )
    # The same versions of what both need, or the figures of benchmarks/ would compare those.
    compile_lock(PEERS, "--group", "pyproject.toml:peers", "--constraint", DEV, *upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
