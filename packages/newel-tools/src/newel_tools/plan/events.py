"""What makes an event of a resource true, by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from newel_tools.plan.plan import States

__all__ = ["moment"]

_CHANGES: Final = frozenset({"adjusted", "changed", "edited", "moved", "set", "updated"})
"""What is said of a field that has another value than before."""


def moment(event: str, states: States | None, fields: Iterable[str]) -> str | None:
    """Return what makes an event of a resource true: its state or field of that name, else None.

    ``paid`` is said when a row comes into the state, ``price_changed`` when the field is another.
    """
    if states is not None and event in {step.after for step in states.transitions}:
        return event
    names = [name for name in fields if event.startswith(f"{name}_")]
    happened = {event.removeprefix(f"{name}_"): name for name in names}
    return next((name for word, name in happened.items() if word in _CHANGES), None)
