"""A report for people: what was found, rule by rule, with the code around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.text import Text

from newel_tools.check.causes import Cause
from newel_tools.check.check import Report
from newel_tools.check.finding import Finding, Severity, Verdict
from newel_tools.check.rule import Rule

__all__ = ["explain", "show_report"]

_STYLES: Final[dict[Severity, str]] = {"block": "bold red", "change": "yellow", "note": "cyan"}
_VERDICTS: Final[dict[Verdict, str]] = {
    "APPROVE": "bold green",
    "REQUEST CHANGES": "bold yellow",
    "BLOCK": "bold red",
}
_AROUND: Final = 1  # lines of code shown above and below
_SHOWN: Final = 5  # other routes and places that are named


def show_report(console: Console, report: Report) -> None:
    """Print every finding with its rule's reason and fix once, then the notes and the verdict."""
    for rule, group in groupby(
        report.causes, key=lambda cause: (cause.finding.severity, cause.finding.rule)
    ):
        _show_rule(console, report, rule[1], list(group))
    for note in report.notes:
        console.print(Text("note: ", "cyan") + Text(note), soft_wrap=True)
    if report.notes:
        console.print()
    _show_verdict(console, report)


def _show_rule(console: Console, report: Report, rule: str, causes: list[Cause]) -> None:
    first = causes[0].finding
    head = Text.assemble((rule, "bold"), "  ", (first.severity, _STYLES[first.severity]))
    head.append(f"  {first.certainty}", "dim")
    console.print(head)
    console.print(f"  why: {escape(first.why)}", highlight=False)
    console.print(f"  fix: {escape(first.fix)}", highlight=False)
    console.print(f"  asked for by: {escape(first.seed)}", style="dim", highlight=False)
    for cause in causes:
        _show_cause(console, report, cause, known=first.fix)
    console.print()


def _show_cause(console: Console, report: Report, cause: Cause, *, known: str) -> None:
    """Print where it is and what; its fix where it is another than the ``known`` one."""
    finding = cause.finding
    line = Text.assemble(
        "  ",
        (_place(finding) or "the application", "bold"),
        "  ",
        finding.route or "",
        no_wrap=False,
    )
    console.print(line, soft_wrap=True)
    console.print(Text("    " + cause.what), soft_wrap=True)
    if finding.fix != known:
        console.print(Text(f"    fix: {finding.fix}"), soft_wrap=True)
    if finding.also:
        more = len(finding.also) - _SHOWN
        text = ", ".join(finding.also[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        console.print(Text(f"    also: {text}", "dim"), soft_wrap=True)
    if finding.severity != "note":
        for number, code in _frame(report, finding):
            mark = ">" if number == finding.line else " "
            style = "" if number == finding.line else "dim"
            console.print(Text(f"    {mark} {number:>4} | {code}", style), soft_wrap=True)
    for line in _elsewhere(cause):
        console.print(Text(f"    {line}", "dim"), soft_wrap=True)


def _elsewhere(cause: Cause) -> Iterator[str]:
    """Yield what is found at some of the other places, and then where the rest of them are."""
    for other in cause.others[:_SHOWN]:
        yield f"also {_place(other)}  {cause.said_of(other)}"
    rest = sorted(cause.others[_SHOWN:], key=lambda other: (other.file or "", other.line))
    for file, others in groupby(rest, key=lambda other: other.file):
        yield f"also {file}:{', '.join(str(other.line) for other in others)}"


def _place(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}" if finding.file and finding.line else finding.file or ""


def _frame(report: Report, finding: Finding) -> Iterator[tuple[int, str]]:
    module = report.source.files.get(finding.file or "")
    if module is None or not finding.line:
        return
    for number in range(finding.line - _AROUND, finding.line + _AROUND + 1):
        if 1 <= number <= len(module.lines):
            yield number, module.lines[number - 1][:120]


def _show_verdict(console: Console, report: Report) -> None:
    counts = _counts(cause.finding for cause in report.causes)
    rest = [(len(report.known), "in the baseline"), (len(report.allowed), "allowed by a comment")]
    counts += [f"{number} {said}" for number, said in rest if number]
    console.print(Text(report.verdict, _VERDICTS[report.verdict]), end="")
    nothing = "nothing found" if report.facts.is_imported else "nothing found without an import"
    console.print(f": {', '.join(counts) or nothing}", highlight=False)
    routes = sum(route.kind in ("http", "websocket") for route in report.facts.routes)
    unseen = f" of {routes + len(report.unseen)} in the source" if report.unseen else ""
    console.print(
        f"{report.project.application.name}: {routes} routes{unseen}, "
        f"{report.source.lines:,} lines, {report.seconds:.1f} s",
        style="dim",
        highlight=False,
    )


def _counts(findings: Iterable[Finding]) -> list[str]:
    asked = [finding.severity for finding in findings]
    names: dict[Severity, str] = {"block": "to block", "change": "to change", "note": "to note"}
    return [f"{asked.count(key)} {name}" for key, name in names.items() if key in asked]


def explain(console: Console, rule: Rule) -> None:
    """Print a rule as its page of the documentation has it, the examples in colour."""
    console.print(Text.assemble((f"{rule.id}  {rule.title}", "bold")))
    console.print(Text(rule.severity, _STYLES[rule.severity]))
    for name, text in (
        ("why", rule.why),
        ("fix", rule.fix),
        ("left out", rule.expected),
        ("asked for by", rule.seed),
    ):
        console.print(f"{name}: {escape(text)}", highlight=False)
    for name, code in (("breaks it", rule.bad), ("keeps it", rule.good)):
        console.print(f"\n{name}:", style="bold")
        if console.is_terminal:
            console.print(Syntax(code.strip(), "python", background_color="default"))
        else:
            console.print(code.strip(), markup=False, highlight=False, soft_wrap=True)
