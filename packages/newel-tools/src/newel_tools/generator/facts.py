"""The events of a resource: a class each, what makes it true, and one of them for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from newel_tools.generator.attributes import FieldView
from newel_tools.generator.naming import camel
from newel_tools.generator.samples import PYTHON
from newel_tools.plan.events import moment
from newel_tools.plan.plan import Resource, usual_events
from newel_tools.plan.verbs import action_of

__all__ = ["FactView", "view_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FactView:
    """One event class.

    ``field`` is whose change it tells, ``state`` what a row comes into, ``action`` what makes it
    true by hand; at most one of them. ``usual`` are those that nobody has to ask for. ``sample`` is
    the source of its arguments but for the id.
    """

    cls: str
    word: str
    usual: bool
    says: str = ""
    lines: tuple[str, ...] = ()
    sample: str = ""
    field: FieldView | None = None
    state: str | None = None
    action: str | None = None


def view_facts(
    resource: Resource, cls: str, *, fields: Sequence[FieldView], state_alias: str | None
) -> Iterator[FactView]:
    """Yield the events of a resource whose class is ``cls``."""
    states = resource.states
    for word in resource.events:
        name, usual = f"{cls}{camel(word)}", word in usual_events(states)
        if word == "created":
            yield _created(name, owned=resource.owner is not None)
        elif word == "updated":
            lines, sample = ("fields: tuple[str, ...]",), ", fields=()"
            yield FactView(cls=name, word=word, usual=usual, lines=lines, sample=sample)
        elif word == "deleted":
            yield FactView(cls=name, word=word, usual=usual)
        elif states is not None and word == f"{states.field}_changed":
            lines = (f"before: {state_alias}", f"after: {state_alias}")
            first, second = states.values[:2]
            sample = f', before="{first}", after="{second}"'
            yield FactView(cls=name, word=word, usual=usual, lines=lines, sample=sample)
        else:
            yield _said(resource, name, word, fields)


def _created(name: str, *, owned: bool) -> FactView:
    lines = ("owner_id: UUID",) if owned else ()
    sample = ", owner_id=uuid4()" if owned else ""
    return FactView(cls=name, word="created", usual=True, lines=lines, sample=sample)


def _said(resource: Resource, name: str, word: str, fields: Sequence[FieldView]) -> FactView:
    """Return an event that somebody asked for."""
    source = moment(word, resource.states, [field.name for field in fields])
    field = next((f for f in fields if f.name == source), None)
    if source is not None and source == word:
        return FactView(cls=name, word=word, usual=False, state=word)
    if field is not None:
        return FactView(
            cls=name,
            word=word,
            usual=False,
            lines=(f"before: {_type(field)}", f"after: {_type(field)}"),
            sample=f", before={_value(field)}, after={_value(field)}",
            field=field,
        )
    action = action_of(word) if action_of(word) in {a.name for a in resource.actions} else None
    says = "Publish it in the service, where it becomes true."
    return FactView(cls=name, word=word, usual=False, says=says, action=action)


def _type(field: FieldView) -> str:
    """Return the type of a row's value, which is never renamed here: no field hides it."""
    has_own = field.choices is not None or field.type == "json"
    plain = field.plain if has_own else PYTHON[field.type][0]
    return f"{plain} | None" if field.optional else plain


def _value(field: FieldView) -> str:
    """Return the source of a value as a row has it."""
    if field.choices is not None:
        return field.samples.valid
    return "[]" if field.plain.startswith("list") else PYTHON[field.type][1]
