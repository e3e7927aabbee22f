"""What a run shows to people: progress while it goes on, findings, a table, the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from newel_tools.check.finding import Finding, Severity, Verdict
from newel_tools.prove.probe import Evidence, Probe
from newel_tools.prove.run import Report

__all__ = ["explain", "progress", "show_report"]

_STYLES: Final[dict[Severity, str]] = {"block": "bold red", "change": "yellow", "note": "cyan"}
_VERDICTS: Final[dict[Verdict, str]] = {
    "APPROVE": "bold green",
    "REQUEST CHANGES": "bold yellow",
    "BLOCK": "bold red",
}
_SHOWN: Final = 5  # other routes that are named


@contextmanager
def progress(console: Console) -> Generator[Callable[[str], None]]:
    """Show what is being done: one line that changes on a terminal, a line each elsewhere."""
    if not console.is_terminal:
        yield lambda said: console.print(Text(said, "dim"), soft_wrap=True)
        return
    with console.status("begin") as status:
        yield lambda said: status.update(escape(said))


def show_report(console: Console, report: Report) -> None:
    """Print every finding with the request that shows it, then a table, the notes, the verdict."""
    for result in report.broken:
        if result.finding is not None:
            _show_finding(console, result.finding, result.evidence)
    _show_table(console, report)
    if report.ways_in and report.broken:
        console.print("$USER_TOKEN and the like are what these answer:", style="dim")
        for line in report.ways_in:
            console.print(Text(f"  $ {line}", "green"), soft_wrap=True)
        console.print()
    for note in report.notes:
        console.print(Text("note: ", "cyan") + Text(note), soft_wrap=True)
    _show_verdict(console, report)


def _show_finding(console: Console, finding: Finding, evidence: Evidence) -> None:
    head = Text.assemble(
        (finding.rule, "bold"), "  ", (finding.severity, _STYLES[finding.severity])
    )
    head.append(f"  {finding.route or 'the application'}", "bold")
    console.print(head, soft_wrap=True)
    console.print(Text(f"  {finding.what}"), soft_wrap=True)
    if finding.file:
        console.print(Text(f"  at {finding.file}:{finding.line}"), soft_wrap=True)
    if finding.also:
        more = len(finding.also) - _SHOWN
        text = ", ".join(finding.also[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        console.print(Text(f"  also: {text}", "dim"), soft_wrap=True)
    console.print(f"  why: {escape(finding.why)}", highlight=False, soft_wrap=True)
    console.print(f"  fix: {escape(finding.fix)}", highlight=False, soft_wrap=True)
    for detail in evidence.details:
        console.print(Text(f"  {detail}", "dim"), soft_wrap=True)
    for line in evidence.curl:
        console.print(Text(f"  $ {line}", "green"), soft_wrap=True)
    if evidence.answer:
        console.print(Text(f"  > {evidence.answer[:300]}", "dim"), soft_wrap=True)
    console.print()


def _show_table(console: Console, report: Report) -> None:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("probe", "promise"):
        table.add_column(name, overflow="fold")
    for name in ("kept", "broke", "not tried"):
        table.add_column(name, justify="right")
    for probe, title in report.titles.items():
        states = Counter(result.state for result in report.results if result.probe == probe)
        broke = Text(str(states["broke"]), "bold red") if states["broke"] else Text("")
        table.add_row(probe, title, str(states["kept"] or ""), broke, str(states["skipped"] or ""))
    console.print(table)
    console.print()


def _show_verdict(console: Console, report: Report) -> None:
    asked = Counter(finding.severity for finding in report.findings)
    names: dict[Severity, str] = {"block": "to block", "change": "to change", "note": "to note"}
    counts = [f"{asked[key]} {name}" for key, name in names.items() if asked[key]]
    console.print(Text(report.verdict, _VERDICTS[report.verdict]), end="")
    console.print(f": {', '.join(counts) or 'nothing gave way'}", highlight=False)
    console.print(
        f"{report.application}: {len(report.routes)} routes, {report.requests} requests as "
        f"{', '.join(report.callers) or 'anonymous'}, {report.seconds:.1f} s",
        style="dim",
        highlight=False,
    )


def explain(console: Console, probe: Probe) -> None:
    """Print a probe as its page of the documentation has it."""
    console.print(Text.assemble((f"{probe.id}  {probe.title}", "bold")))
    console.print(Text(probe.severity, _STYLES[probe.severity]))
    said = {"why": probe.why, "fix": probe.fix, "left out": probe.expected}
    for name, text in {**said, "asked for by": probe.seed}.items():
        console.print(f"{name}: {escape(text)}", highlight=False, soft_wrap=True)
    for name, code in (("breaks", probe.bad), ("withstands it", probe.good)):
        console.print(f"\n{name}:", style="bold")
        console.print(code.strip(), markup=False, highlight=False, soft_wrap=True)
