"""What was measured, as JSON for machines, in the terminal, and as the tables of the docs."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.servers import ROOT, BenchmarkError

PAGE = ROOT / "docs/performance.md"
RESULTS = ROOT / "benchmarks/results"
PACKAGES = ("fastapi", "starlette", "sqlalchemy", "asyncpg", "pydantic", "uvicorn", "uvloop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one measurement saw."""

    cpu_us: float
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One operation of one variant under one load: a sample of every round, in their order.

    ``statements`` are the SQL statements a request: those that work, those that frame them.
    """

    backend: str
    variant: str
    operation: str
    connections: int
    samples: Sequence[Sample]
    resident_bytes: int
    statements: tuple[float, float] | None

    @property
    def load(self) -> tuple[str, str, int]:
        """What makes two measurements comparable."""
        return self.backend, self.operation, self.connections

    def middle(self, figure: str) -> float:
        """Return the median of a figure of the samples."""
        return median(getattr(sample, figure) for sample in self.samples)

    @property
    def requests_per_second(self) -> float:
        return median(sample.requests / sample.seconds for sample in self.samples)

    def ratio(self, other: Measured) -> float:
        """Return how much CPU this costs by what ``other`` costs: the median of the rounds' ratios.

        Round by round, because what disturbs the machine lasts longer than a round's neighbours.
        """
        pairs = zip(self.samples, other.samples, strict=True)
        return median(mine.cpu_us / its.cpu_us for mine, its in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run of ``benchmarks.bench``."""

    measured: Sequence[Measured]

    def ratio(self, one: Measured, to: str) -> float | None:
        """Return the ratio to the variant ``to`` under the same load, if that was measured."""
        for other in self.measured:
            if other.variant == to and other.load == one.load:
                return one.ratio(other)
        return None

    def find(self, variant: str, load: tuple[str, str, int]) -> Measured | None:
        """Return a measurement."""
        found = [one for one in self.measured if one.variant == variant and one.load == load]
        return found[0] if found else None


def show(report: Report, *, seconds: float) -> None:
    """Print everything in the terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    table = Table(title=f"server CPU a request, medians of interleaved rounds ({seconds:.0f} s)")
    table.add_column("load")
    table.add_column("variant", no_wrap=True)
    for name in ("CPU us", "range", "/floor", "/hand", "req/s", "p50 ms", "p99 ms", "SQL", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for one in report.measured:
        if before not in {None, one.load}:
            table.add_section()
        backend, operation, connections = one.load
        place = f"{operation} x{connections} {backend}" if one.load != before else ""
        table.add_row(place, one.variant, *_cells(report, one))
        before = one.load
    console.print(table)


def _cells(report: Report, one: Measured) -> list[str]:
    cpu = [sample.cpu_us for sample in one.samples]
    ratios = [report.ratio(one, to) for to in ("floor", "hand")]
    return [
        f"{median(cpu):.0f}",
        f"{min(cpu):.0f}-{max(cpu):.0f}",
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        f"{one.requests_per_second:.0f}",
        f"{one.middle('p50_ms'):.1f}",
        f"{one.middle('p99_ms'):.1f}",
        statement_text(one),
        f"{one.resident_bytes / 2**20:.0f}",
    ]


def statement_text(one: Measured) -> str:
    """Return the statements a request, ``2 + 4``: those that work, those that frame them."""
    if one.statements is None:
        return ""
    return " + ".join(f"{number:g}" for number in one.statements)


def save(name: str, figures: Any, *, directory: Path = RESULTS) -> Path:
    """Write figures as JSON, with where and on what they were taken; return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"taken": taken(), "figures": figures}, indent=1) + "\n")
    return path


def tell(measure: Callable[[], str]) -> int:
    """Print what ``measure`` returns, or what went wrong; return the exit code."""
    try:
        print(measure())
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def taken() -> dict[str, Any]:
    """Return when, at which commit and on what figures are taken."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - the developer's own git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "processor": _processor(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    models = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return f"{models[0]}, {len(models)} cores" if models else platform.machine()


def plain(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """Return measurements as JSON values."""
    return [asdict(one) for one in measured]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def write_section(name: str, text: str, *, page: Path = PAGE, by: str = "benchmarks") -> None:
    """Put ``text`` between the two markers of ``name`` on the page of the docs."""
    start, end = f"<!-- begin {name}: printed by {by}/ -->", f"<!-- end {name} -->"
    content = page.read_text()
    if content.count(start) != 1 or content.count(end) != 1:
        raise BenchmarkError(
            f"{page.name} has no place for {name}.", f"add the lines {start} and {end}"
        )
    before, _, rest = content.partition(start)
    after = rest.partition(end)[2]
    stamp = taken()
    origin = f"Python {stamp['python']}, {stamp['processor']}, {stamp['at'][:10]}."
    page.write_text(f"{before}{start}\n\n{text}\n\n{origin}\n\n{end}{after}")
