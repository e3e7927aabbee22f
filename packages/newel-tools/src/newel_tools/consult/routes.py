"""Every route of an application and who may call it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from newel_tools.consult.access import access_of
from newel_tools.facts.facts import Facts
from newel_tools.facts.routes import Route

__all__ = ["Row", "routes_of", "show_routes"]

_DOCUMENTATION: Final = "-"
_WIDEST: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method of one route.

    ``access`` is what a caller needs, ``public`` where the route says so, ``open`` where nothing
    guards it, ``-`` for the pages of the documentation and for mounts.
    """

    method: str
    path: str
    access: str
    name: str
    summary: str | None = None
    in_document: bool = True
    deprecated: bool = False
    place: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row for machines; the first four keys are those of the kernel's command."""
        return {
            "method": self.method,
            "path": self.path,
            "access": self.access,
            "name": self.name,
            "summary": self.summary,
            "in_document": self.in_document,
            "deprecated": self.deprecated,
            "place": self.place,
        }


def routes_of(facts: Facts) -> list[Row]:
    """Return the routes by path and method; a websocket's method is ``WS``, a mount's ``*``."""
    rows = [row for route in facts.routes for row in _rows(route)]
    return sorted(rows, key=lambda row: (row.path, row.method))


def _rows(route: Route) -> Iterator[Row]:
    described = route.kind in ("http", "websocket")
    place = route.endpoint
    where = f"{place.file}:{place.line}" if place is not None and place.file else None
    methods = sorted(set(route.methods) - {"HEAD"}) or ["WS" if route.kind == "websocket" else "*"]
    for method in methods:
        yield Row(
            method=method,
            path=route.path,
            access=str(access_of(route)) if described else _DOCUMENTATION,
            name=route.name,
            summary=route.summary,
            in_document=route.in_schema,
            deprecated=route.deprecated,
            place=where,
        )


def show_routes(console: Console, rows: list[Row]) -> None:
    """Show the routes as a table; notes say what a client cannot see."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("METHOD", "PATH", "ACCESS", "NAME"):
        table.add_column(title, no_wrap=True)
    styles = {"open": "yellow", "public": "green", _DOCUMENTATION: "dim"}
    for row in rows:
        notes = [
            word
            for word, is_so in (("hidden", not row.in_document), ("deprecated", row.deprecated))
            if is_so and row.access != _DOCUMENTATION
        ]
        name = f"{row.name} ({', '.join(notes)})" if notes else row.name
        style = styles.get(row.access, "")
        table.add_row(
            row.method, row.path, f"[{style}]{row.access}[/]" if style else row.access, name
        )
    # A path in two halves can be neither read nor copied: lines may be longer than the terminal.
    options = console.options.update(width=_WIDEST)
    console.width = max(console.width, console.measure(table, options=options).maximum)
    console.print(table)
