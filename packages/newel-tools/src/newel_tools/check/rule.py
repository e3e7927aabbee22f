"""A rule: what it looks for, why, how to mend it, one example that breaks it, one that keeps it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from newel_tools.check.finding import Certainty, Finding, Severity

if TYPE_CHECKING:
    from newel_tools.check.mend import LineTransformer
    from newel_tools.check.review import Review

__all__ = ["How", "Mend", "Rule", "files_of", "load_rules"]

How = Literal["source", "import", "difference", "migrations"]
"""What a rule needs: the text alone, the imported application, something to compare with, or what
the migrations print."""

Mend: TypeAlias = "Callable[[frozenset[int]], LineTransformer]"
"""Makes what changes the source at the lines of a rule's findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, in a file of its own below `rules/`, named as its ``id`` in lower case.

    ``expected`` says what it leaves out on purpose. ``bad`` and ``good`` are small applications:
    one file, or several with a line `# file: path.py` above each; `# file: git log` has the first
    lines of its commits, newest first. They are the rule's tests and its documentation. ``find``
    yields findings made by `Rule.found`. ``is_habit``: what breaks it in one file has one cause.
    ``mend`` is only there if the fix is certain: right for every finding, and never a change of
    what the code is for.
    """

    id: str
    title: str
    severity: Severity
    how: How
    why: str
    fix: str
    seed: str
    expected: str
    bad: str = field(repr=False)
    good: str = field(repr=False)
    find: Callable[[Review], Iterable[Finding]] = field(repr=False)
    mend: Mend | None = field(default=None, repr=False)
    is_habit: bool = False

    def found(
        self,
        what: str,
        *,
        file: str | None = None,
        line: int = 0,
        route: str | None = None,
        severity: Severity | None = None,
        certainty: Certainty | None = None,
        fix: str | None = None,
        also: Iterable[str] = (),
        cause: str | None = None,
    ) -> Finding:
        """Return a finding of this rule; severity and certainty are the rule's unless given."""
        by_default: Certainty = "proved" if self.how in ("import", "migrations") else "suspected"
        return Finding(
            rule=self.id,
            severity=severity or self.severity,
            certainty=certainty or by_default,
            what=what,
            why=self.why,
            fix=fix or self.fix,
            seed=self.seed,
            file=file,
            line=line,
            route=route,
            also=tuple(also),
            cause=cause or (file if self.is_habit else None),
        )


def files_of(example: str) -> dict[str, str]:
    """Return the files of an example by path; without a `# file:` line it is `main.py`."""
    if not example.lstrip().startswith("# file: "):
        return {"main.py": example.lstrip("\n")}
    parts = example.split("# file: ")[1:]
    return {path.strip(): text for path, _, text in (part.partition("\n") for part in parts)}


def load_rules() -> dict[str, Rule]:
    """Return every rule of the folder `rules/`, by id, sorted."""
    package = importlib.import_module("newel_tools.check.rules")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"newel_tools.check.rules.{name}") for name in names]
    rules: list[Rule] = [module.RULE for module in modules]
    return {rule.id: rule for rule in rules}
