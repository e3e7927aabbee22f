"""What `newel contract` shows: the breaks first, then the rest in a line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from newel_tools.contract.agreement import Agreement, place_of
from newel_tools.contract.changes import Group
from newel_tools.contract.rules import Level

__all__ = ["as_json", "github_lines", "show_groups"]

_STYLES: Final = {Level.ERROR: "bold red", Level.WARNING: "bold yellow", Level.INFO: "dim"}
_WORDS: Final = {Level.ERROR: "BREAKS", Level.WARNING: "MAY BREAK", Level.INFO: "safe"}
_PLACES: Final = 3  # operations named of one change
_SAFE: Final = 20  # safe changes shown


def show_groups(console: Console, groups: Sequence[Group], *, agreement: Agreement) -> None:
    """Show the breaks with their places and what was agreed on, then the safe changes."""

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    breaks = [group for group in groups if group.first.breaks]
    for group in breaks:
        first, entry = group.first, agreement.entry(group)
        word, style = _WORDS[first.level], _STYLES[first.level]
        if entry is not None:
            word, style = "agreed", "green"
        say(f"[{style}]{word:<10}[/]{escape(place_of(group))}: {escape(first.text)}")
        say(f"          [dim]{escape(_where(group))}[/]")
        say(f"          [dim]{first.rule}[/]")
        if entry is not None:
            say(f"          [green]{escape(entry.reason)}[/]")
    safe = [group for group in groups if not group.first.breaks]
    for group in safe[:_SAFE]:
        say(f"[dim]safe      {escape(place_of(group))}: {escape(group.first.text)}[/]")
    if len(safe) > _SAFE:
        say(f"[dim]          and {len(safe) - _SAFE} more; --json has all[/]")


def as_json(groups: Iterable[Group], *, agreement: Agreement) -> list[dict[str, Any]]:
    """Return every change for machines, with the reason of those that were agreed on."""
    found: list[dict[str, Any]] = []
    for group in groups:
        entry = agreement.entry(group)
        reason = None if entry is None else entry.reason
        found += [{**change.as_json(), "agreed": reason} for change in group.changes]
    return found


def github_lines(groups: Iterable[Group]) -> list[str]:
    """Return GitHub's workflow commands for breaks, one for each cause."""
    lines: list[str] = []
    for group in groups:
        kind = "error" if group.first.level is Level.ERROR else "warning"
        text = f"{place_of(group)}: {group.first.text} ({_where(group)})"
        lines.append(f"::{kind} title={group.first.rule}::{_escaped(text)}")
    return lines


def _where(group: Group) -> str:
    first = group.first
    if first.subject is None:
        return first.where or "the whole operation"
    named = group.places[:_PLACES]
    more = len(group.places) - len(named)
    return f"{', '.join(named)}{f' and {more} more' if more else ''}, {first.where}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
