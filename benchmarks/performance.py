"""The tables of docs/performance.md that `make bench` prints.

Other projects' libraries appear as a group: which one is best or worst at something is for those
who run this, on their own terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.report import Measured, Report, markdown, statement_text
from benchmarks.servers import LIBRARIES

OPERATIONS = ("get", "list", "post", "patch", "delete")
NAMES = {"get": "GET one", "list": "GET list", "post": "POST", "patch": "PATCH", "delete": "DELETE"}
OWN = ("floor", "hand", "hand+", "newel", "newel-web")

Load = tuple[str, str, int]


def page(report: Report) -> str:
    """Return the tables: CPU, ratios, load, statements and memory."""
    postgresql, sqlite = ("postgresql", 16), ("sqlite", 16)
    parts = [
        "Server CPU a request in microseconds (and by the floor's), PostgreSQL, 16 connections:",
        _costs(report, *postgresql),
        "newel's CPU by that of the others, round by round:",
        _ratios(report, *postgresql),
        "SQL statements a request + what frames them (BEGIN, COMMIT, ROLLBACK, pings); memory:",
        _statements(report, *postgresql),
        "Requests a second, p50 and p99 in milliseconds by connections, PostgreSQL:",
        _loads(report),
        "Server CPU a request on SQLite (WAL, synchronous=FULL), 16 connections:",
        _costs(report, *sqlite),
    ]
    return "\n\n".join(parts)


def libraries(report: Report, load: Load) -> list[Measured]:
    """Return the measurements of other projects' libraries, the cheapest first."""
    found = [one for one in report.measured if one.load == load and one.variant in LIBRARIES]
    return sorted(found, key=lambda one: one.middle("cpu_us"))


def _rows(
    report: Report, backend: str, connections: int, cell: Callable[[Measured], str]
) -> list[list[str]]:
    loads = [(backend, operation, connections) for operation in OPERATIONS]
    rows: list[list[str]] = []
    for variant in OWN:
        found = [report.find(variant, load) for load in loads]
        if any(found):
            rows.append([variant, *("" if one is None else cell(one) for one in found)])
    groups = [libraries(report, load) for load in loads]
    if any(groups):
        many = len(LIBRARIES)
        for label, place in (("cheapest", 0), ("most expensive", -1)):
            cells = [cell(group[place]) if group else "" for group in groups]
            rows.append([f"libraries, {label} of {many}", *cells])
    return rows


def _costs(report: Report, backend: str, connections: int) -> str:
    def cell(one: Measured) -> str:
        ratio = report.ratio(one, "floor")
        return f"{one.middle('cpu_us'):.0f}" + ("" if ratio is None else f" ({ratio:.1f})")

    head = ["", *(NAMES[operation] for operation in OPERATIONS)]
    return markdown(head, _rows(report, backend, connections, cell))


def _ratios(report: Report, backend: str, connections: int) -> str:
    def against(others: Callable[[Load], Sequence[Measured]]) -> list[str]:
        cells: list[str] = []
        for operation in OPERATIONS:
            load = (backend, operation, connections)
            mine, theirs = report.find("newel", load), others(load)
            cells.append(f"{mine.ratio(theirs[0]):.2f}" if mine and theirs else "")
        return cells

    def one(variant: str) -> Callable[[Load], Sequence[Measured]]:
        def found(load: Load) -> Sequence[Measured]:
            measured = report.find(variant, load)
            return [] if measured is None else [measured]

        return found

    rows = [
        [f"newel / {variant}", *against(one(variant))]
        for variant in OWN
        if not variant.startswith("newel")
    ]
    rows.append(["newel / cheapest library", *against(lambda load: libraries(report, load))])
    return markdown(["", *(NAMES[operation] for operation in OPERATIONS)], rows)


def _statements(report: Report, backend: str, connections: int) -> str:
    rows = _rows(report, backend, connections, statement_text)
    for row in rows:
        one = report.find(row[0], (backend, "get", connections))
        row.append("" if one is None else f"{one.resident_bytes / 2**20:.0f} MiB")
    head = ["", *(NAMES[operation] for operation in OPERATIONS), "memory"]
    return markdown(head, rows)


def _loads(report: Report) -> str:
    rows: list[list[str]] = []
    for operation in OPERATIONS:
        for variant in OWN:
            cells: list[str] = []
            for connections in (1, 16, 64):
                one = report.find(variant, ("postgresql", operation, connections))
                cells.append("" if one is None else _load(one))
            if any(cells):
                rows.append([f"{NAMES[operation]}, {variant}", *cells])
    return markdown(["", "1", "16", "64"], rows)


def _load(one: Measured) -> str:
    p50, p99 = one.middle("p50_ms"), one.middle("p99_ms")
    return f"{one.requests_per_second:.0f}/s, {p50:.1f}, {p99:.1f}"
