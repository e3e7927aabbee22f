"""How things usually go from state to state, where a sentence names only the states."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final

from newel_tools.plan.plan import States, Transition
from newel_tools.plan.verbs import action_of
from newel_tools.planner.lexicon import MODERATE_VERBS

__all__ = ["gated", "moderated", "usual_flow"]

# states that end a thing early; the rest follow each other in the order they were named
_EXITS: Final = frozenset(
    {
        "aborted",
        "abandoned",
        "canceled",
        "cancelled",
        "declined",
        "expired",
        "failed",
        "lost",
        "no_show",
        "refused",
        "rejected",
        "spam",
        "terminated",
        "voided",
        "withdrawn",
    }
)
_OPPOSITES: Final = ({"active", "inactive"}, {"open", "closed"}, {"enabled", "disabled"})


def usual_flow(field: str, values: Sequence[str]) -> States:
    """Return states in which each leads to the next, and all but the last into the early ends.

    The two of a pair such as active and inactive lead to each other.
    """
    names = tuple(dict.fromkeys(values))
    steps = [v for v in names if v not in _EXITS]
    exits = [v for v in names if v in _EXITS]
    moves = list(pairwise(steps))
    if set(names) in _OPPOSITES:
        moves.append((names[1], names[0]))
    last = steps[-1] if len(steps) > 1 else None
    moves += [(step, end) for step in steps if step != last for end in exits]
    return States(
        field=field,
        values=names,
        transitions=tuple(Transition(before=b, after=a) for b, a in moves),
    )


def gated(resource: str, states: States, *, verbs: Collection[str]) -> States:
    """Return the same states, where what one of ``verbs`` leads to needs its permission."""
    moves: list[Transition] = []
    for step in states.transitions:
        verb = action_of(step.after)
        given = "moderate" if verb in MODERATE_VERBS and "moderate" in verbs else verb
        by = f"{resource}:{given}" if given in verbs else step.by
        moves.append(step.model_copy(update={"by": by}))
    return states.model_copy(update={"transitions": tuple(moves)})


def moderated(resource: str, *, field: str = "status") -> States:
    """Return the states of what is shown to others only after somebody has approved it."""
    by = f"{resource}:moderate"
    return States(
        field=field,
        values=("pending", "approved", "rejected"),
        transitions=(
            Transition(before="pending", after="approved", by=by),
            Transition(before="pending", after="rejected", by=by),
        ),
        visible=("approved",),
    )
