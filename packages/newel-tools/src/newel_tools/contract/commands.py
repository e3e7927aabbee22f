"""``newel contract``: has the API changed for those who call it, and was that agreed on?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from newel_tools.application import (
    AppName,
    AppPython,
    AsJson,
    ProjectFolder,
    document_of,
    read_application,
)
from newel_tools.contract.agreement import FILE, Agreement, place_of, read_agreement
from newel_tools.contract.baseline import (
    FOLDER,
    ROUTES,
    Version,
    by_version,
    read_baseline,
    write_baseline,
)
from newel_tools.contract.changes import Group, grouped
from newel_tools.contract.contract import compare
from newel_tools.contract.hidden import compare_hidden, hidden_facts
from newel_tools.contract.report import as_json as groups_as_json
from newel_tools.contract.report import github_lines, show_groups
from newel_tools.openapi.document import Document, DocumentError, read_document
from newel_tools.refusal import refused

__all__ = ["Standing", "accept", "agreed_standing", "check", "contract", "diff", "standing_of"]

contract: typer.Typer = typer.Typer(help="Hold the API to what its clients were told.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an application stands against what was agreed on; ``groups`` are by version."""

    folder: Path
    present: Mapping[Version, Document]
    baseline: Mapping[Version, Document]
    groups: Mapping[Version, list[Group]]
    agreement: Agreement

    @property
    def changes(self) -> list[Group]:
        """All changes of all versions."""
        return [group for groups in self.groups.values() for group in groups]

    @property
    def breaks(self) -> list[Group]:
        """The breaks that nobody agreed on."""
        return [
            group
            for group in self.changes
            if group.first.breaks and not self.agreement.covers(group)
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the standing for machines."""
        return {
            "ok": not self.breaks,
            "versions": [
                {
                    "version": version.name or None,
                    "baseline": str(self.folder / version.file),
                    "changes": groups_as_json(groups, agreement=self.agreement),
                }
                for version, groups in self.groups.items()
            ],
        }


def standing_of(project: Path, *, app: str | None = None, python: Path | None = None) -> Standing:
    """Compare the application in ``project`` with its baseline; nothing is written.

    Raises ``ProjectError`` and ``DocumentError``.
    """
    facts = read_application(project, name=app, python=python)
    content = {**document_of(facts), ROUTES: hidden_facts(facts)}
    present = by_version(content)
    folder = (project if project.is_dir() else project.parent) / FOLDER
    baseline = read_baseline(folder)
    groups: dict[Version, list[Group]] = {}
    for version, document in baseline.items():
        now = present.get(version) or Document({**document.content, "paths": {}, ROUTES: {}})
        groups[version] = grouped([*compare(document, now), *compare_hidden(document, now)])
    return Standing(
        folder=folder,
        present=present,
        baseline=baseline,
        groups=groups,
        agreement=read_agreement(folder / FILE),
    )


def agreed_standing(
    project: Path, *, app: str | None = None, python: Path | None = None
) -> Standing:
    """Compare the application with a baseline that is there; raises ``DocumentError`` otherwise."""
    standing = standing_of(project, app=app, python=python)
    if not standing.baseline:
        raise DocumentError(
            f"there is no contract in {standing.folder}",
            fix="run `newel contract accept` once and commit what it writes",
        )
    return standing


@contract.command("check")
def check(
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    as_json: AsJson = False,
) -> None:
    """Fail when the API breaks a client and nobody agreed on that."""
    with refused(as_json=as_json):
        standing = agreed_standing(project, app=app, python=python)
        if as_json:
            typer.echo(json.dumps(standing.as_json(), indent=2))
        else:
            _show(standing)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github_lines(standing.breaks):
                typer.echo(line, err=as_json)  # the runner reads both streams
    if standing.breaks:
        raise typer.Exit(1)


@contract.command("accept")
def accept(
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why clients are broken on purpose.")
    ] = None,
) -> None:
    """Make the present API the contract; breaks need a reason, which is kept."""
    with refused(as_json=False):
        standing = standing_of(project, app=app, python=python)
        if standing.breaks and not (reason or "").strip():
            show_groups(Console(soft_wrap=True), standing.breaks, agreement=standing.agreement)
            raise DocumentError(
                f"{_count(len(standing.breaks), 'break')} that nobody agreed on",
                fix='take it back, make a new version, or run with --reason "who agreed, and why"',
            )
        broken = [group for group in standing.changes if group.first.breaks]
        written = write_baseline(standing.folder, standing.present)
        if broken:
            settled = standing.agreement.settled(broken, reason=reason)
            settled.write(standing.folder / FILE)
            written.append(standing.folder / FILE)
    for path in written:
        typer.echo(f"{'wrote' if path.exists() else 'removed'} {path}")
    typer.echo(f"{_count(len(broken), 'break')} accepted" if broken else "nothing breaks")


@contract.command("diff")
def diff(
    old: Annotated[Path, typer.Argument(help="An OpenAPI document, JSON or YAML.")],
    new: Annotated[Path, typer.Argument(help="Its successor.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Compare two documents; exit code 1 when the second breaks clients of the first."""
    with refused(as_json=as_json):
        before, after = read_document(old), read_document(new)
        groups = grouped([*compare(before, after), *compare_hidden(before, after)])
        breaks = [group for group in groups if group.first.breaks]
        if as_json:
            changes = groups_as_json(groups, agreement=Agreement())
            typer.echo(json.dumps({"ok": not breaks, "changes": changes}, indent=2))
        else:
            console = Console(soft_wrap=True)
            show_groups(console, groups, agreement=Agreement())
            _summary(console, groups, agreed=0)
    if breaks:
        raise typer.Exit(1)


def _show(standing: Standing) -> None:
    console = Console(soft_wrap=True)
    for version, groups in standing.groups.items():
        if not groups:
            console.print(f"[bold]{FOLDER}/{version.file}[/]: unchanged", highlight=False)
            continue
        console.print(f"[bold]{FOLDER}/{version.file}[/]", highlight=False)
        show_groups(console, groups, agreement=standing.agreement)
        agreed = sum(standing.agreement.covers(group) for group in groups)
        _summary(console, groups, agreed=agreed)
    for version in standing.present.keys() - standing.baseline.keys():
        typer.echo(f"{version.name or 'a part without a version'} is new: `newel contract accept`")
    for entry in standing.agreement.stale(standing.changes):
        typer.echo(f"{FILE}: {entry.place} does not change; remove the entry of {entry.rule}")
    if standing.breaks:
        first = standing.breaks[0]
        typer.echo("To agree on a break, say in contract/acknowledged.toml why:")
        typer.echo(f'  [[change]]\n  rule = "{first.first.rule}"')
        typer.echo(f'  place = "{place_of(first)}"\n  reason = "..."')


def _summary(console: Console, groups: list[Group], *, agreed: int) -> None:
    breaks = sum(group.first.breaks for group in groups)
    parts = [_count(breaks, "break")]
    parts += [f"{agreed} agreed on"] if agreed else []
    parts.append(_count(len(groups) - breaks, "safe change"))
    console.print(", ".join(parts), highlight=False)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
