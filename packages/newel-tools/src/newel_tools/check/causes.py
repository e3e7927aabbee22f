"""What a reader sees: findings of one cause are one, with the other places where it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from newel_tools.check.finding import Finding

__all__ = ["Cause", "causes"]


@dataclass(frozen=True, slots=True)
class Cause:
    """What is mended once: the first finding that it led to, and the ``others``."""

    finding: Finding
    others: tuple[Finding, ...] = ()

    @property
    def what(self) -> str:
        """The fault in a line, and how often else it is there."""
        if not self.others:
            return self.finding.what
        number = len(self.others)
        return f"{self.finding.what}; the same in {number} more place{'s' if number > 1 else ''}"

    @property
    def fingerprint(self) -> str:
        """Identify it across edits: by its cause, which outlives its first place."""
        finding = self.finding
        if finding.cause is None:
            return finding.fingerprint
        return hashlib.sha256("\0".join(_key(finding)).encode()).hexdigest()[:16]

    def said_of(self, other: Finding) -> str:
        """Return what tells another place from the first: its own words, or else its route."""
        return other.what if other.what != self.finding.what else other.route or ""

    def as_json(self) -> dict[str, Any]:
        """Return the finding with ``places``, the others."""
        named = ("file", "line", "route", "what")
        places = [{name: getattr(other, name) for name in named} for other in self.others]
        return {**self.finding.as_json(), "places": places, "fingerprint": self.fingerprint}


def causes(findings: Iterable[Finding]) -> list[Cause]:
    """Return findings by their causes, in the order of the first of each."""
    found: dict[tuple[str, ...] | int, list[Finding]] = {}
    for number, finding in enumerate(findings):
        found.setdefault(number if finding.cause is None else _key(finding), []).append(finding)
    return [Cause(first, tuple(others)) for first, *others in found.values()]


def _key(finding: Finding) -> tuple[str, ...]:
    return (finding.rule, finding.severity, finding.certainty, finding.cause or "")
