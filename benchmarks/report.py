"""What was measured, as JSON for machines and as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one operation of one variant: medians over the rounds."""

    backend: str
    variant: str
    operation: str
    connections: int
    cpu_us: float
    cpu_us_lowest: float
    cpu_us_highest: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    resident_bytes: int
    statements: dict[str, float] | None
    samples: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run."""

    measured: Sequence[Measured]

    def ratio(self, one: Measured, to: str) -> float | None:
        """Return the CPU of ``one`` by that of the variant ``to`` under the same load."""
        for other in self.measured:
            same = (other.backend, other.operation, other.connections)
            if other.variant == to and same == (one.backend, one.operation, one.connections):
                return one.cpu_us / other.cpu_us
        return None


def show(report: Report, *, seconds: float) -> None:
    """Print the tables."""
    console = Console(width=max(110, Console().width))
    table = Table(title=f"CPU of the server a request; {seconds:.0f} s")
    for name in (
        "operation",
        "variant",
        "CPU us",
        "(range)",
        "/floor",
        "/hand",
        "req/s",
        "p50 ms",
        "p99 ms",
        "SQL",
        "MiB",
    ):
        table.add_column(name, justify="left" if name in {"operation", "variant"} else "right")
    before = None
    for one in report.measured:
        place = f"{one.operation} x{one.connections} {one.backend}"
        if before not in {None, place}:
            table.add_section()
        ratios = [report.ratio(one, to) for to in ("floor", "hand")]
        table.add_row(
            place if place != before else "",
            one.variant,
            f"{one.cpu_us:.0f}",
            f"{one.cpu_us_lowest:.0f}-{one.cpu_us_highest:.0f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
            f"{one.requests_per_second:.0f}",
            f"{one.p50_ms:.1f}",
            f"{one.p99_ms:.1f}",
            ""
            if one.statements is None
            else f"{one.statements['work']:g}+{one.statements['frame']:g}",
            f"{one.resident_bytes / 2**20:.0f}",
        )
        before = place
    console.print(table)
