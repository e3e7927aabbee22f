"""The transitions of a state column as endpoints: a verb for each state that can be reached."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from keyword import iskeyword
from typing import Final

from newel_tools.plan.plan import Resource, States, Transition
from newel_tools.plan.verbs import action_of

__all__ = ["MoveView", "view_moves"]

_TAKEN: Final = frozenset({"create", "delete", "get", "list", "replace", "update"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveView:
    """One endpoint: from any state of ``before`` to ``after``.

    ``elevated`` says that who has the ``permission`` may move everybody's rows. ``way`` are the
    verbs that lead from a new row to where it is allowed, ``no_way`` to where it is refused;
    ``None`` where there is no such state.
    """

    verb: str
    after: str
    before: tuple[str, ...]
    permission: str
    elevated: bool
    way: tuple[str, ...] | None
    no_way: tuple[str, ...] | None

    @property
    def words(self) -> str:
        return self.verb.replace("_", " ")

    @property
    def after_words(self) -> str:
        return self.after.replace("_", " ")


def view_moves(
    states: States, resource: Resource, *, taken: Collection[str]
) -> tuple[MoveView, ...]:
    """Return the moves of ``states``; verbs that are ``taken`` become ``mark_<state>``."""
    verbs = _verbs(states, {*_TAKEN, *taken})
    ways = _ways(states, verbs)
    return tuple(_moves(states, resource, verbs, ways))


def _moves(
    states: States,
    resource: Resource,
    verbs: Mapping[tuple[str, str | None], str],
    ways: Mapping[str, tuple[str, ...]],
) -> Iterator[MoveView]:
    write = f"{resource.name}:write"
    for (after, by), verb in verbs.items():
        before = tuple(t.before for t in states.transitions if t.after == after and t.by == by)
        allowed = [ways[state] for state in before if state in ways]
        others = [way for state, way in ways.items() if state not in before]
        yield MoveView(
            verb=verb,
            after=after,
            before=before,
            permission=by or write,
            elevated=by not in {None, write} and resource.owner is not None,
            way=min(allowed, key=len, default=None),
            no_way=min(others, key=len, default=None),
        )


def _verbs(states: States, taken: set[str]) -> dict[tuple[str, str | None], str]:
    """Name each target state once for each permission that leads to it."""
    verbs: dict[tuple[str, str | None], str] = {}
    for transition in states.transitions:
        key = (transition.after, transition.by)
        if key not in verbs:
            names = _candidates(transition, states)
            verbs[key] = next(n for n in names if n not in taken and not iskeyword(n))
            taken.add(verbs[key])
    return verbs


def _candidates(transition: Transition, states: States) -> Iterator[str]:
    """Yield verbs for a transition, the best first."""
    verb, mark = action_of(transition.after), f"mark_{transition.after}"
    may = (transition.by or "").replace("*", "all").partition(":")[2]
    ends = {t.after for t in states.transitions if t.by == transition.by}
    if verb == mark and may and len(ends) == 1:
        yield may  # `tasks:reopen` says it better than mark_todo
    yield from (verb, mark)
    if may:
        yield f"{may}_{transition.after}"
    yield from (f"{mark}_{number}" for number in count(2))


def _ways(
    states: States, verbs: Mapping[tuple[str, str | None], str]
) -> dict[str, tuple[str, ...]]:
    """Return for each state that a row can reach the shortest way there, as verbs."""
    ways: dict[str, tuple[str, ...]] = {states.initial: ()}
    queue = [states.initial]
    for state in queue:
        for transition in states.transitions:
            if transition.before == state and transition.after not in ways:
                verb = verbs[transition.after, transition.by]
                ways[transition.after] = (*ways[state], verb)
                queue.append(transition.after)
    return ways
