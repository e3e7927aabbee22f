"""What `newel new` shows: a spinner while it works, a line for each step, the tree, a summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from rich.console import Console
from rich.status import Status
from rich.tree import Tree

from newel_tools.generator.generator import Made, Result
from newel_tools.generator.layout import Layout
from newel_tools.generator.steps import Outcome
from newel_tools.plan.jobs import write_job
from newel_tools.plan.plan import Plan

__all__ = ["ConsoleReport", "SilentReport", "show_plan", "show_result"]

_SHOWN_LINES: Final = 30  # of what a failed step printed


class SilentReport:
    """Says nothing: for `--json`, where only the result counts."""

    def begin(self, what: str) -> None:
        """Do nothing."""

    def wrote(self, files: Sequence[Made]) -> None:
        """Do nothing."""

    def end(self, outcome: Outcome, note: str) -> None:
        """Do nothing."""


class ConsoleReport:
    """Lines on a console; the spinner is left out where there is no terminal."""

    def __init__(self, console: Console, *, title: str) -> None:
        self._console = console
        self._title = title
        self._status: Status | None = None

    def begin(self, what: str) -> None:
        """Show what is being worked on."""
        self.stop()
        self._status = self._console.status(what)
        self._status.start()

    def wrote(self, files: Sequence[Made]) -> None:
        """Show the tree with the number of lines of each file."""
        self.stop()
        self._console.print(_tree(self._title, files), highlight=False)
        self._console.print()

    def end(self, outcome: Outcome, note: str) -> None:
        """Show how a step ended, and the end of its output if it failed."""
        self.stop()
        mark, style = ("ok", "green") if outcome.ok else ("FAILED", "red")
        self._console.print(f"  {outcome.name:<10}", end="", highlight=False)
        self._console.print(f"{mark:<7}", style=style, end="", highlight=False)
        said = note if outcome.ok else ", ".join(part for part in (note, outcome.reason) if part)
        self._console.print(f"{outcome.seconds:5.1f} s  {said}", markup=False, highlight=False)
        if not outcome.ok:
            for line in outcome.last_lines(_SHOWN_LINES):
                self._console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the spinner, if there is one."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def show_plan(console: Console, plan: Plan, *, shown: str, layout: Layout) -> None:
    """Say what will be made, what was assumed, and what was not understood."""

    def row(word: str, text: str) -> None:
        console.print(f"  {word:<9}{text}", markup=False, highlight=False)

    console.print(f"{plan.title}: {shown} ({layout})", markup=False, highlight=False)
    row("keeps", f"users ({', '.join(field.name for field in plan.users.fields)})")
    for resource in plan.resources:
        names = [part.name for part in (*resource.fields, *resource.relations)]
        names += [resource.states.field] if resource.states else []
        row("keeps", f"{resource.name} ({', '.join(names)})")
    if plan.files:
        row("keeps", "files of users")
    if plan.chat is not None:
        row("hears", f"what is said in chats: {plan.chat}")
    for job in (job for part in (plan.users, *plan.resources) for job in part.jobs):
        row("does", f"{job.name}: {write_job(job)}")
    if plan.broker is not None:
        row("tells", f"{plan.broker} what happens")
    for line in plan.assumed:
        row("assumed", line)
    for line in plan.not_understood:
        row("ignored", f"not understood: {line}")
    console.print()


def show_result(console: Console, result: Result, *, shown: str) -> None:
    """Say plainly what passed and what to type next; ``shown`` is the directory as asked for."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say("")
    if result.ok:
        passed = result.tests.get("passed", 0)
        say(
            f"{shown}: {passed} tests passed on SQLite; {len(result.files)} files, "
            f"{result.tokens:,} tokens of Python (characters / 4); {result.seconds:.1f} s."
        )
        say(f"Next: cd {shown} && newel migrate up && newel serve")
        return
    failed = [outcome.name for outcome in result.outcomes if not outcome.ok]
    if failed:
        say(f"Not done: {' and '.join(failed)} failed. The files are kept to look at: {shown}")
        say(f"  fix: correct them in {shown}, or remove it and generate again")
    else:
        say(f"Interrupted: the files in {shown} are complete, their tests did not run to the end.")


def _tree(title: str, files: Sequence[Made]) -> Tree:
    root = Tree(title, guide_style="dim")
    branches = {PurePosixPath("."): root}
    width = max(len(PurePosixPath(f.path).name) + 4 * f.path.count("/") for f in files) + 2
    for file in files:
        path = PurePosixPath(file.path)
        for parent in reversed(path.parents):
            if parent not in branches:
                branches[parent] = branches[parent.parent].add(f"{parent.name}/")
        room = width - 4 * file.path.count("/")
        branches[path.parent].add(f"{path.name:<{room}}{file.lines:>5}")
    return root
