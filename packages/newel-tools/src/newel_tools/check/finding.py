"""A finding: one fault at one place, why it matters and how to mend it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

__all__ = ["Certainty", "Finding", "Severity", "Verdict", "verdict_of"]

Severity = Literal["block", "change", "note"]
"""What a finding asks for: stop, change before merging, or know about it."""

Certainty = Literal["suspected", "proved", "confirmed"]
"""Read in the source; seen in the imported application; answered by the running application."""

Verdict = Literal["APPROVE", "REQUEST CHANGES", "BLOCK"]
"""What a review ends with."""

_ORDER: Final[dict[Severity, int]] = {"block": 0, "change": 1, "note": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault. ``what`` names it in a line; ``why``, ``fix`` and ``seed`` are its rule's.

    ``file`` is relative to the project; ``line`` is 0 where there is none to show. ``also`` lists
    other routes or places that lead to it. Findings of one rule and ``cause`` are shown as one.
    ``end_line`` and the columns are left to the editor.
    """

    rule: str
    severity: Severity
    certainty: Certainty
    what: str
    why: str
    fix: str
    seed: str
    file: str | None = None
    line: int = 0
    route: str | None = None
    also: tuple[str, ...] = ()
    cause: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identify it across edits: rule, file, route and words, but not the line."""
        parts = (self.rule, self.file or "", self.route or "", self.what)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @property
    def order(self) -> tuple[int, str, str, int]:
        """Sort the gravest first, then by rule and place."""
        return (_ORDER[self.severity], self.rule, self.file or "", self.line)

    def as_json(self) -> dict[str, Any]:
        """Return its fields with the fingerprint."""
        return {**asdict(self), "also": list(self.also), "fingerprint": self.fingerprint}


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict: BLOCK or REQUEST CHANGES if there is a finding that asks for it."""
    asked = {finding.severity for finding in findings}
    if "block" in asked:
        return "BLOCK"
    return "REQUEST CHANGES" if "change" in asked else "APPROVE"
