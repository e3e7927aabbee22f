"""Breaks that were agreed on: who wants to break a client signs with a reason.

[[change]]                      # may happen; the baseline does not have it yet
rule = "response-required-property-removed"
place = "AgentRead.name"
reason = "renamed to title together with the web front end, #51"

[[accepted]]                    # did happen, kept for who asks why
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.contract.changes import Group
from newel_tools.openapi.document import DocumentError

__all__ = ["FILE", "Agreement", "Entry", "place_of", "read_agreement"]

FILE: Final = "acknowledged.toml"
_KEYS: Final = {"rule", "place", "reason"}
_HEAD: Final = """\
# Breaks of the API that were agreed on. A [[change]] passes `newel contract check`;
# `newel contract accept` takes it into the baseline and keeps it here as [[accepted]].
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One break that was agreed on, and why."""

    rule: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What may break (``open``), and what was broken with a reason (``accepted``)."""

    open: Sequence[Entry] = field(default_factory=tuple[Entry, ...])
    accepted: Sequence[Entry] = field(default_factory=tuple[Entry, ...])

    def covers(self, group: Group) -> bool:
        """Tell whether a break was agreed on."""
        return self.entry(group) is not None

    def entry(self, group: Group) -> Entry | None:
        """Return what was agreed on a break."""
        wanted = (group.first.rule, place_of(group))
        return next((one for one in self.open if (one.rule, one.place) == wanted), None)

    def stale(self, groups: Iterable[Group]) -> list[Entry]:
        """Return the entries that no present change needs."""
        seen = {(group.first.rule, place_of(group)) for group in groups}
        return [one for one in self.open if (one.rule, one.place) not in seen]

    def settled(self, groups: Iterable[Group], *, reason: str | None) -> Agreement:
        """Return the agreement after ``groups`` went into the baseline.

        ``reason`` is that of the breaks without an entry.
        """
        taken = [
            self.entry(group)
            or Entry(rule=group.first.rule, place=place_of(group), reason=str(reason))
            for group in groups
        ]
        return Agreement(accepted=[*self.accepted, *taken])

    def write(self, path: Path) -> None:
        """Write the file; without any entry there is none."""
        if not self.open and not self.accepted:
            path.unlink(missing_ok=True)
            return
        tables = [("change", one) for one in self.open]
        tables += [("accepted", one) for one in self.accepted]
        blocks = [
            f"[[{name}]]\nrule = {_text(one.rule)}\nplace = {_text(one.place)}\n"
            f"reason = {_text(one.reason)}\n"
            for name, one in tables
        ]
        path.write_text("\n".join([_HEAD, *blocks]), encoding="utf-8")


def place_of(group: Group) -> str:
    """Return how an entry names the place of a change: in a schema, or in an operation."""
    return group.first.subject or (group.places or [""])[0]


def read_agreement(path: Path) -> Agreement:
    """Read the file; without one nothing was agreed on. Raises ``DocumentError``."""
    if not path.is_file():
        return Agreement()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DocumentError(f"{path} is no TOML: {error}", fix="correct it") from None
    for name in content.keys() - {"change", "accepted"}:
        raise DocumentError(f"{path} has an unknown table {name}", fix="write [[change]]")
    return Agreement(
        open=[_entry(path, table) for table in content.get("change", [])],
        accepted=[_entry(path, table) for table in content.get("accepted", [])],
    )


def _entry(path: Path, table: object) -> Entry:
    said = cast("dict[str, Any]", table)
    if not isinstance(table, dict) or set(said) != _KEYS or not all(map(_is_text, said.values())):
        raise DocumentError(
            f"{path}: an entry has exactly rule, place and reason, each a text",
            fix="copy it from what `newel contract check` prints",
        )
    return Entry(**said)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _text(value: str) -> str:
    # TOML's basic strings are JSON's, but for a character that no name has.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
