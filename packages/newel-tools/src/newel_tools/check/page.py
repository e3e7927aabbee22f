"""The page `docs/rules.md`, rendered from the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from newel_tools.check.finding import Severity
from newel_tools.check.rule import How, Rule

__all__ = ["rules_page"]

_HEAD: Final = """# rules

What `newel check` looks for. `newel check --explain RULE` prints a rule with an application that
breaks it and one that keeps it. This page is rendered from the rules by `python scripts/rules.py`.

*suspected*: read in the source; *proved*: seen in the imported application, or printed by the
migrations. **block** and **change** decide the verdict, a **note** does not. A finding is allowed
where it is by a comment with a reason: `# newel: allow RULE - why this is right here`.
"""
_WORDS: Final[dict[How, str]] = {
    "source": "suspected",
    "import": "proved",
    "difference": "suspected",
    "migrations": "proved",
}
_ORDER: Final[tuple[Severity, ...]] = ("block", "change", "note")


def rules_page(rules: Iterable[Rule]) -> str:
    """Return the page: a table of all rules, then each with its reason and its fix."""
    listed = sorted(rules, key=lambda rule: rule.id)
    return "\n".join(
        [_HEAD, *_table(listed), *(line for rule in listed for line in _section(rule))]
    )


def _table(rules: list[Rule]) -> Iterator[str]:
    yield "| | | rules |"
    yield "|---|---|---|"
    for severity in _ORDER:
        found = [rule for rule in rules if rule.severity == severity]
        names = " · ".join(f"[{rule.id}](#{rule.id.lower()})" for rule in found)
        yield f"| **{severity}** | {len(found)} | {names} |"
    yield ""


def _section(rule: Rule) -> Iterator[str]:
    mended = ", mended by `--fix`" if rule.mend is not None else ""
    yield f"## {rule.id}"
    yield ""
    yield f"{rule.title} (**{rule.severity}**, {_WORDS[rule.how]}{mended})"
    yield ""
    yield f"- Why: {rule.why}"
    yield f"- Fix: {rule.fix}"
    yield f"- Left out: {rule.expected}"
    yield f"- Asked for by: {rule.seed}"
    yield ""
