"""Who sees a row of a resource, as the body of its ``visible_to``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from newel_tools.generator.view import ResourceView

__all__ = ["Visible", "visibility"]


@dataclass(frozen=True, slots=True)
class Visible:
    """The body of ``visible_to`` and the sentence above it."""

    says: str
    lines: tuple[str, ...]


def visibility(view: ResourceView) -> Visible | None:
    """Return who sees a row, where it is not simply its owner or simply everybody."""
    states = view.states
    movers = list(states.permissions) if states else []
    shown = states is not None and bool(states.visible) and not view.private
    if not view.owned:
        # who moves a row on has to see it before it is shown
        may_see = [*(move.permission for move in view.moves), f"{view.name}:write"]
        return _shared(view, may_see) if shown else None
    may = " or ".join(f'caller.can("{permission}")' for permission in movers)
    if shown:
        also = f" or {may}" if may else ""
        return Visible(
            f"{_seen(view)}; the rest is for its owner{' and who moves it on' if may else ''}.",
            (
                "own = super().visible_to(caller)",
                f"if own is None{also}:",
                "    return None",
                f"return or_(own, {_in_states(view)})",
            ),
        )
    if not view.private:
        return Visible("Everybody reads them; only their owner changes them.", ("return None",))
    if may:
        line = f"return None if {may} else super().visible_to(caller)"
        return Visible("Their owner, and who moves them on.", (line,))
    return None


def _shared(view: ResourceView, permissions: Iterable[str]) -> Visible:
    may = " or ".join(f'caller.can("{permission}")' for permission in dict.fromkeys(permissions))
    line = f"return None if {may} else {_in_states(view)}"
    return Visible(f"{_seen(view)}; the rest is for who changes it.", (line,))


def _seen(view: ResourceView) -> str:
    states = view.states.visible if view.states else ()
    shown = " or ".join(state.replace("_", " ") for state in states)
    # a docstring of several lines would be more than it is worth
    return f"Everybody sees what is {shown}" if len(shown) < 24 else "Everybody sees some states"


def _in_states(view: ResourceView) -> str:
    field = view.states.field if view.states else ""
    states = view.states.visible if view.states else ()
    if len(states) == 1:
        return f'cls.{field} == "{states[0]}"'
    return f"cls.{field}.in_({json.dumps(states)})"
