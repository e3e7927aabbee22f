"""The report for a browser: one file with the verdict, the matrix and the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from newel_tools.prove.run import Report

__all__ = ["page", "write_page"]

_ORDER: Final = ("broke", "kept", "skipped")


def write_page(report: Report, path: Path) -> None:
    """Write the page; everything it needs is inside, it asks for nothing over the network."""
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """Return the page's HTML."""
    environment = Environment(
        loader=PackageLoader("newel_tools.prove", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(report=report, rows=_rows(report))


def _rows(report: Report) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the matrix: each route, with the probes, their states and the reasons."""
    states: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for result in report.results:
        why = result.finding.what if result.finding is not None else result.why
        states.setdefault((result.route, result.probe), []).append((result.state, why))
    routes = [*report.routes]
    routes += sorted({result.route for result in report.results} - {*routes, ""})
    rows: list[tuple[str, list[tuple[str, str, str]]]] = []
    for route in routes:
        cells: list[tuple[str, str, str]] = []
        for probe in report.titles:
            found = sorted(states.get((route, probe), []), key=lambda cell: _ORDER.index(cell[0]))
            state, why = found[0] if found else ("", "")
            cells.append((probe, state, why))
        rows.append((route, cells))
    return rows
