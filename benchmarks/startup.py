"""What starting costs: the CPU of the imports, and the time to the first answer."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.databases import prepared
from benchmarks.report import markdown, tell
from benchmarks.servers import ROOT, VARIANTS, BenchmarkError, inherited, pinned, serving
from benchmarks.service import newel_service

NAME = "startup"
ROUNDS = 9
IMPORTS: Mapping[str, str] = {
    "nothing": "pass",
    "fastapi + sqlalchemy": "import fastapi, sqlalchemy.ext.asyncio, sqlalchemy.orm",
    "hand": "import benchmarks.variants.hand",
    "newel": "import newel.app, newel.accounts",
    "the newel service": "import agent_management.application",
}


def measure() -> str:
    """Return the table."""
    service = newel_service()
    with pinned() as (core, _):
        return _table(import_seconds(service), first_answers(service, core))


def _table(imports: Mapping[str, Sequence[float]], answers: Mapping[str, float]) -> str:
    base = imports["fastapi + sqlalchemy"]
    rows = [
        [f"import: {name}", f"{median(spent):.2f} s CPU ({_ratio(spent, base):.2f})"]
        for name, spent in imports.items()
    ]
    rows += [[f"first answer: {name}", f"{seconds:.2f} s"] for name, seconds in answers.items()]
    return markdown(["what", "median"], rows)


def _ratio(spent: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios, round by round: what slows one down slows both."""
    return median(one / other for one, other in zip(spent, base, strict=True))


def import_seconds(service: Path) -> dict[str, list[float]]:
    """Return the CPU seconds of each import, a new process each time, bytecode compiled before."""
    samples: dict[str, list[float]] = {name: [] for name in IMPORTS}
    path = os.pathsep.join((str(ROOT), str(service / "src")))
    for number in range(ROUNDS + 1):
        for name, code in IMPORTS.items():
            spent = _cpu_of([sys.executable, "-c", code], path)
            if number:  # the first time compiles
                samples[name].append(spent)
    return samples


def _cpu_of(command: Sequence[str], path: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env={**inherited(), "PYTHONPATH": path}, check=False)
    if done.returncode:
        raise BenchmarkError(f"It cannot be imported: {command[-1]}", "read the lines above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_answers(service: Path, core: int) -> dict[str, float]:
    """Return the seconds from starting the server's process to its first answer."""
    variants = [each for each in VARIANTS if each.name in {"hand", "newel"}]
    samples: dict[str, list[float]] = {variant.name: [] for variant in variants}
    with (
        tempfile.TemporaryDirectory() as directory,
        prepared("postgresql", service=service, directory=Path(directory)) as database,
    ):
        for _ in range(ROUNDS):
            for variant in variants:
                start = time.perf_counter()
                with serving(
                    variant,
                    variables=database.environment(),
                    directory=service if variant.home == "newel" else ROOT,
                    core=core,
                ):
                    samples[variant.name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in samples.items()}


if __name__ == "__main__":
    sys.exit(tell(measure))
