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
    template = environment.get_template("page.html.j2")
    return template.render(report=report, rows=_rows(report), meaning=_meaning(report))


def _meaning(report: Report) -> str:
    """Say in a sentence what the verdict asks for."""
    asked = [finding.severity for finding in report.findings]
    words = {"block": "to mend before a release", "change": "to mend soon", "note": "to know of"}
    said = [f"{asked.count(key)} {text}" for key, text in words.items() if key in asked]
    if report.is_locked_out:
        said.append("little was tried, for nobody was let in")
    return ", ".join(said) or "Nothing gave way."


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
