"""Where a request's time goes: a flame graph of one variant's server under load.

    python -m benchmarks.profile newel get      # .benchmarks/profile-newel-get.svg

py-spy reads the server's stack 500 times a second from outside and changes nothing in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.databases import prepared
from benchmarks.load import load_command
from benchmarks.peers_environment import ensure_peers
from benchmarks.performance import OPERATIONS
from benchmarks.servers import (
    ROOT,
    STATE,
    VARIANTS,
    BenchmarkError,
    Variant,
    pinned,
    serving,
)
from benchmarks.service import newel_service

CONNECTIONS = 16


def profile(variant: Variant, operation: str, *, seconds: int, output: Path) -> None:
    """Write the flame graph of ``operation`` to ``output``, an SVG."""
    if variant.home == "peers":
        ensure_peers()
    service = newel_service()
    with (
        pinned() as (core, _),
        tempfile.TemporaryDirectory() as directory,
        prepared("postgresql", service=service, directory=Path(directory)) as database,
        serving(
            variant,
            variables=database.environment(),
            directory=service if variant.home == "newel" else ROOT,
            core=core,
        ) as server,
        subprocess.Popen(
            load_command(
                database.workload,
                operation,
                port=server.port,
                connections=CONNECTIONS,
                seconds=seconds + 2.0,
            ),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        ),
    ):
        record(server.pid, seconds=seconds, output=output)


def record(pid: int, *, seconds: int, output: Path) -> None:
    """Have py-spy look at a process."""
    py_spy = Path(sysconfig.get_path("scripts"), "py-spy")
    options = ["--rate", "500", "--duration", str(seconds), "--output", str(output)]
    done = subprocess.run(
        [py_spy, "record", "--pid", str(pid), *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise BenchmarkError(
            f"py-spy cannot look into the server: {said[-1]}",
            "run it as root, or allow it: sysctl kernel.yama.ptrace_scope=0",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw where the time of a request goes.")
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("variant", choices=names)
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    [variant] = [each for each in VARIANTS if each.name == options.variant]
    output = STATE / f"profile-{options.variant}-{options.operation}.svg"
    try:
        profile(variant, options.operation, seconds=options.seconds, output=output)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
