"""Which new name took the place of a name that is gone: a guess, said as a question."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Final

__all__ = ["guess_renames"]

_ALIKE: Final = 0.5  # of 1; `name` and `full_name` are 0.62, `id` and `kind` 0.33
_MOST: Final = 50  # names on a side, beyond which a guess would be a lottery


def guess_renames(
    gone: Sequence[str], added: Sequence[str], same: Callable[[str, str], bool]
) -> dict[str, str]:
    """Return old name -> new name for those that look renamed; each new name is used once.

    ``same`` tells whether the two mean the same values. One that is gone and one that is new, alike
    in kind, are taken for a rename whatever their names; of several, those with similar names.
    """
    if not gone or not added or max(len(gone), len(added)) > _MOST:
        return {}
    scores = sorted(
        (
            (_likeness(one, other), one, other)
            for one in gone
            for other in added
            if same(one, other)
        ),
        reverse=True,
    )
    alone = len(gone) == len(added) == 1
    found: dict[str, str] = {}
    for score, one, other in scores:
        if (alone or score >= _ALIKE) and one not in found and other not in found.values():
            found[one] = other
    return found


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, _plain(one), _plain(other)).ratio()


def _plain(name: str) -> str:
    """Return a name without its style: `createdAt` and `created_at` are the same word."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
