"""One difference between two schemas, said relative to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from newel_tools.contract.rules import RULES, Level, rule_of

__all__ = ["Direction", "Finding"]

Direction = Literal["request", "response"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What changed at ``path`` below the compared schemas.

    ``aspect`` is the end of a rule's name, or a whole one. ``component`` is the nearest named
    schema and ``inside`` the path below it. ``level`` is set where the documents decide what the
    rule leaves open. ``guess`` is the name that took the place of a removed one.
    """

    aspect: str
    text: str
    path: tuple[str, ...] = ()
    component: str | None = None
    inside: tuple[str, ...] = ()
    level: Level | None = None
    guess: str | None = None

    def below(self, *parts: str) -> Finding:
        """Return the same difference as seen from the schema above."""
        inside = self.inside if self.component else (*parts, *self.path)
        return replace(self, path=(*parts, *self.path), inside=inside)

    def within(self, component: str | None) -> Finding:
        """Return the same difference, known by ``component`` unless a nearer one is named."""
        if self.component or component is None:
            return self
        return replace(self, component=component, inside=self.path)

    def rule(self, direction: Direction, *, kind: str) -> str | None:
        """Return the rule's name; ``kind`` is ``body``, ``parameter`` or ``header``."""
        if self.aspect in RULES:
            return self.aspect
        nested = "property" if kind == "body" else f"{kind}-property"
        return rule_of(direction, nested if self.path else kind, self.aspect)

    def breaks(self, direction: Direction) -> bool:
        """Whether a client of this direction may stop working."""
        if self.level is not None:
            return self.level.breaks
        rule = self.rule(direction, kind="body")
        return rule is not None and RULES[rule].breaks
