"""What changed for the clients of an API: each change, and changes of one cause together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from newel_tools.contract.rules import RULES, Level

__all__ = ["Change", "Group", "grouped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of one operation.

    ``operation`` is ``GET /agents/{agent_id}``, or empty for the whole document; ``where`` the
    place in it (``200 application/json: items/name``, ``query page``). ``subject`` is the place in
    a named schema (``AgentRead.name``), the same for every operation that uses it. ``guess`` is the
    name that took the place of a removed one.
    """

    rule: str
    level: Level
    operation: str
    where: str
    text: str
    subject: str | None = None
    guess: str | None = None

    @property
    def breaks(self) -> bool:
        """Whether a client that works today may stop working."""
        return self.level.breaks

    def as_json(self) -> dict[str, Any]:
        """Return the change for machines."""
        return {
            "rule": self.rule,
            "level": str(self.level),
            "breaking": self.breaks,
            "operation": self.operation or None,
            "where": self.where or None,
            "subject": self.subject,
            "text": self.text,
            "renamed_to": self.guess,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One cause and all its changes: a field of a schema that many operations use."""

    changes: Sequence[Change]

    @property
    def first(self) -> Change:
        """The change that stands for all."""
        return self.changes[0]

    @property
    def places(self) -> list[str]:
        """Where it is seen, without repetition: operation and place, or the operation alone."""
        first = self.first
        if first.subject is None:
            where = ", ".join(part for part in (first.operation, first.where) if part)
            return [where] if where else []
        return list(dict.fromkeys(change.operation for change in self.changes))


def change(rule: str, *, operation: str = "", where: str = "", text: str, **more: Any) -> Change:
    """Return a change with the level of its rule, unless ``level`` is given and not None."""
    level = more.pop("level", None) or RULES[rule]
    return Change(rule=rule, level=level, operation=operation, where=where, text=text, **more)


def grouped(changes: Iterable[Change]) -> list[Group]:
    """Return the changes by cause, the worst first, else in the order of the document."""
    groups: dict[tuple[str, ...], list[Change]] = {}
    for one in changes:
        place = (one.subject,) if one.subject else (one.operation, one.where)
        groups.setdefault((one.level, one.rule, one.text, *place), []).append(one)
    made = [Group(changes=members) for members in groups.values()]
    return sorted(made, key=lambda group: list(Level).index(group.first.level))
