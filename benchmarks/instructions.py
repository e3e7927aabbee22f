"""How many processor instructions a request takes: a figure that no other load disturbs.

    python -m benchmarks.instructions            # compares newel's with the committed figures
    python -m benchmarks.instructions --accept   # writes them, after a change that was meant
    python -m benchmarks.instructions --all      # all variants, into docs/performance.md; 15 min

A variant runs in one process under callgrind, called through ASGI, on a real PostgreSQL outside.
Each operation is asked N and then 2N times; the difference by N is what one request takes, without
what starting and stopping the count adds. Only the same build of Python on the same kind of machine
takes the same number, so on another one nothing is compared, and that is said.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.counted import OPERATIONS, PAIRS, REQUESTS
from benchmarks.databases import prepared
from benchmarks.peers_environment import ensure_peers
from benchmarks.performance import NAMES
from benchmarks.report import RESULTS, markdown, save, write_section
from benchmarks.servers import (
    LIBRARIES,
    PEERS_PYTHON,
    ROOT,
    VARIANTS,
    BenchmarkError,
    Variant,
    inherited,
)
from benchmarks.service import newel_service

VARIANT = {variant.name: variant for variant in VARIANTS}
NEWEL = "newel-web"
"""With ROLE=web: what runs by the clock is no part of a request."""

BARE = replace(VARIANT[NEWEL], name="newel-web, no middleware", module="variants.bare")

ALLOWED = 1.03
"""How much more a request may take than the committed figure."""

FIGURES = RESULTS / "instructions.json"


def build() -> str:
    """Return what has to be the same for two figures to be comparable."""
    valgrind = subprocess.run(
        ["valgrind", "--version"],  # noqa: S607 - whichever is installed
        capture_output=True,
        text=True,
        check=True,
    )
    libc = " ".join(platform.libc_ver())
    return f"{sys.version}, {platform.machine()}, {libc}, {valgrind.stdout.strip()}"


def measure(variant: Variant = VARIANT[NEWEL]) -> dict[str, int]:
    """Return the instructions a request takes, by operation."""
    if shutil.which("valgrind") is None:
        raise BenchmarkError("There is no valgrind here.", "install it: apt install valgrind")
    service = newel_service()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        with prepared("postgresql", service=service, directory=directory) as database:
            command = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
            command += [f"--callgrind-out-file={directory / 'count'}"]
            command += [str(PEERS_PYTHON) if variant.home == "peers" else sys.executable]
            command += ["-m", "benchmarks.counted", str(database.workload)]
            if variant.module:
                command.append(f"benchmarks.{variant.module}:build")
            # Counts are only compared with each other when the same dictionaries collide.
            variables = database.environment() | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                command,
                cwd=service,
                env={**inherited(), **variables, **variant.variables},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if not line.startswith("==")]
            raise BenchmarkError(f"callgrind failed: {said[-1:]}", "run it by hand")
        dumps = range(1, 2 * PAIRS * len(OPERATIONS) + 1)
        counts = [_count(directory / f"count.{number}") for number in dumps]
    starts = range(0, len(counts), 2 * PAIRS)
    return {
        operation: _difference(counts[start : start + 2 * PAIRS])
        for operation, start in zip(OPERATIONS, starts, strict=True)
    }


def measure_all() -> str:
    """Return the table of all variants; the libraries as a group, see benchmarks.performance."""
    ensure_peers()
    counted: dict[str, dict[str, int]] = {}
    variants = [VARIANT[name] for name in ("floor", "hand", "hand+", NEWEL, *LIBRARIES)]
    for variant in (*variants, BARE):
        print(f"{variant.name} ...", file=sys.stderr)
        counted[variant.name] = measure(variant)
    return table(counted)


def table(counted: Mapping[str, Mapping[str, int]]) -> str:
    """Return instructions by variant and operation, in thousands, and newel's by the others'."""
    rows = {name: [each[operation] for operation in OPERATIONS] for name, each in counted.items()}
    libraries = list(zip(*(rows.pop(name) for name in LIBRARIES), strict=True))
    rows[f"libraries, cheapest of {len(LIBRARIES)}"] = list(map(min, libraries))
    rows[f"libraries, most expensive of {len(LIBRARIES)}"] = list(map(max, libraries))
    newel = rows[NEWEL]
    cells = [[name, *(f"{count // 1000:,}" for count in row)] for name, row in rows.items()]
    shares = [
        [f"newel / {name}", *(f"{mine / its:.2f}" for mine, its in zip(newel, row, strict=True))]
        for name, row in rows.items()
        if name != NEWEL
    ]
    return markdown(["", *(NAMES[operation] for operation in OPERATIONS)], [*cells, *shares])


def _difference(counts: Sequence[int]) -> int:
    """Return what one request takes, from the counts of N and 2N requests in turn."""
    return (min(counts[1::2]) - min(counts[::2])) // REQUESTS


def _count(path: Path) -> int:
    [number] = re.findall(r"^summary: (\d+)$", path.read_text(), re.MULTILINE)
    return int(number)


def exceeded(measured: Mapping[str, int], committed: Mapping[str, int]) -> Sequence[str]:
    """Return a line for each operation that takes more than it may."""
    return [
        f"{operation} takes {measured[operation]:,} instructions, "
        f"{measured[operation] / was - 1:+.1%} of {was:,}; {ALLOWED - 1:+.0%} is allowed"
        for operation, was in committed.items()
        if measured[operation] > was * ALLOWED
    ]


def compare() -> tuple[Sequence[str], str]:
    """Measure and compare; return what is exceeded, and what to tell.

    Nothing is measured where nothing can be compared.
    """
    committed: dict[str, Any] = json.loads(FIGURES.read_text())["figures"]
    if shutil.which("valgrind") is None:
        return [], "not compared: there is no valgrind here"
    if committed["build"] != build():
        return [], f"not compared: the figures are of {committed['build']}, this is {build()}"
    measured = measure()
    told = ", ".join(f"{operation} {count:,}" for operation, count in measured.items())
    return exceeded(measured, committed["instructions"]), told


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the instructions a request takes.")
    parser.add_argument("--accept", action="store_true", help="write the committed figures")
    parser.add_argument("--all", action="store_true", help="print all variants into the docs")
    options = parser.parse_args()
    try:
        if options.all:
            write_section("instructions", measure_all())
            return 0
        if options.accept:
            measured = measure()
            save("instructions", {"build": build(), "instructions": measured})
            print(json.dumps(measured))
            return 0
        faults, told = compare()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    print(*faults, told, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
