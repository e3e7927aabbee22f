"""The figures of a scenario: each with what it may be at most, and how they are told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import markdown
from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "Result", "as_table", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure; ``most`` is ``None`` for what only tells how much was done.

    ``examples`` are some of the cases that it counts.
    """

    name: str
    value: float
    most: float | None = None
    examples: Sequence[str] = ()

    @property
    def missed(self) -> bool:
        return self.most is not None and self.value > self.most

    @property
    def said(self) -> str:
        return f"{self.value:,.0f}" if float(self.value).is_integer() else f"{self.value:,.2f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run of a scenario found."""

    scenario: str
    database: str
    seed: int
    sabotage: str | None
    blows: Mapping[str, int]
    seconds: float
    figures: Sequence[Figure]
    skipped: str | None = None
    """Why it was not run."""

    @property
    def missed(self) -> list[Figure]:
        return [one for one in self.figures if one.missed]

    def line(self) -> str:
        """Return everything in one line: what was done, what was missed, or that nothing was."""
        if self.skipped is not None:
            return f"{self.scenario} on {self.database}: skipped: {self.skipped}"
        done = ", ".join(f"{one.said} {one.name}" for one in self.figures if one.most is None)
        found = ", ".join(f"{one.said} {one.name}" for one in self.missed) or "all promises kept"
        planted = f" with {self.sabotage}" if self.sabotage else ""
        return f"{self.scenario} on {self.database}{planted}, seed {self.seed}: {done}: {found}"

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        figures = [
            {
                "name": one.name,
                "value": one.value,
                "most": one.most,
                "missed": one.missed,
                "examples": list(one.examples),
            }
            for one in self.figures
        ]
        return {
            "scenario": self.scenario,
            "database": self.database,
            "seed": self.seed,
            "sabotage": self.sabotage,
            "blows": dict(self.blows),
            "seconds": self.seconds,
            "figures": figures,
            "skipped": self.skipped,
        }


def show(result: Result, *, as_json: bool) -> None:
    """Print a result: one line on standard output; for people a table of it on standard error."""
    if as_json:
        print(json.dumps(result.plain()))
        return
    console = Console(stderr=True)
    table = Table("", "", "at most", title=f"{result.scenario} on {result.database}")
    for one in result.figures:
        most = "" if one.most is None else f"{one.most:g}{' missed' * one.missed}"
        table.add_row(one.name, one.said, most)
    console.print(table)
    for one in result.missed:
        for example in one.examples:
            console.print(f"{one.name}: {example}", markup=False)
    print(result.line())


def as_table(results: Sequence[Result]) -> str:
    """Return results beside each other, as the docs show them."""
    head = ["", *(one.database for one in results), "at most"]
    rows = [
        [
            figures[0].name,
            *(one.said for one in figures),
            "" if figures[0].most is None else f"{figures[0].most:g}",
        ]
        for figures in zip(*(one.figures for one in results), strict=True)
    ]
    return markdown(head, rows)
