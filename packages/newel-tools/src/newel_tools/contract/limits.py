"""Changes of what values may be: types, listed values, bounds, sizes, patterns."""

from __future__ import annotations

from collections.abc import Iterator

from newel_tools.contract.finding import Direction, Finding
from newel_tools.contract.rules import Level
from newel_tools.openapi.shape import Bound, Shape

__all__ = ["compare_limits", "compare_types", "covers"]

_CONTAINED = {  # format: what fits into it
    "double": {"float"},
    "int64": {"int32"},
    "bigint": {"int32", "int64"},
    "date-time": {"date", "time"},
}
_SPELLED = {"password", "textarea", "markdown"}  # formats that say how to show, not what to accept


def covers(whole: Shape, part: Shape, *, loose: bool) -> bool:
    """Tell whether every type of ``part`` is one of ``whole``; ``loose`` values travel as text."""
    if not whole.types:
        return True
    if not part.types:
        return False
    if loose and "string" in whole.types:
        return True
    number = "number" in whole.types
    return all(kind in whole.types or (number and kind == "integer") for kind in part.types)


def compare_types(old: Shape, new: Shape, direction: Direction, *, loose: bool) -> list[Finding]:
    """Return how the type or its format changed: nothing, or one finding."""
    wider = covers(new, old, loose=loose) and _format_fits(old, new, loose=loose)
    narrower = covers(old, new, loose=loose) and _format_fits(new, old, loose=loose)
    if wider and narrower:
        return []
    listed = len(old.types) > 1 or len(new.types) > 1
    if wider:
        aspect = "list-of-types-widened" if listed else "type-generalized"
    elif narrower and listed:
        aspect = "list-of-types-narrowed"
    elif narrower and direction == "response":
        aspect = "type-specialized"
    else:
        aspect = "type-changed"
    return [Finding(aspect=aspect, text=f"the type went from {old.kind} to {new.kind}")]


def _format_fits(part: Shape, whole: Shape, *, loose: bool) -> bool:
    if whole.format in _SPELLED or whole.format in ("", part.format) or not whole.types:
        return True
    if loose and "string" in whole.types and "string" not in part.types:
        return False  # a number is a text, but no date
    return part.format in _CONTAINED.get(whole.format, ())


def compare_limits(old: Shape, new: Shape, direction: Direction) -> Iterator[Finding]:
    """Yield what changed of the accepted values of two shapes that share a type."""
    if not (old.any_type or new.any_type) and old.nullable != new.nullable:
        aspect = "became-nullable" if new.nullable else "became-not-nullable"
        yield Finding(aspect=aspect, text="it may be null now" if new.nullable else "null is gone")
    yield from _values(old, new, direction)
    yield from _bound("max", old.upper, new.upper)
    yield from _bound("min", old.lower, new.lower)
    yield from _sizes(old, new)
    yield from _pattern(old, new)
    if old.multiple_of != new.multiple_of and new.multiple_of is not None:
        text = f"it has to be a multiple of {new.multiple_of} now"
        yield Finding(aspect="multiple-of-changed", text=text)
    if new.unique and not old.unique:
        yield Finding(aspect="unique-items-set", text="equal items are refused now")
    if old.default != new.default:
        yield _default(old.default, new.default)


def _values(old: Shape, new: Shape, direction: Direction) -> Iterator[Finding]:
    if old.values == new.values:
        return
    if old.values is None:
        said = ", ".join(new.values or ())
        aspect = "const-added" if new.constant else "became-enum"
        yield Finding(aspect=aspect, text=f"only {said} is left")
    elif new.values is None:
        if old.constant:
            yield Finding(aspect="const-removed", text=f"it is no longer always {old.values[0]}")
        else:
            aspect = "enum-removed" if direction == "response" else "enum-value-added"
            yield Finding(aspect=aspect, text="it is no longer one of a list")
    elif old.constant and new.constant:
        text = f"it went from {old.values[0]} to {new.values[0]}"
        yield Finding(aspect="const-changed", text=text)
    else:
        for value in old.values:
            if value not in new.values:
                yield Finding(aspect="enum-value-removed", text=f"the value {value} is gone")
        for value in new.values:
            if value not in old.values:
                yield Finding(aspect="enum-value-added", text=f"the value {value} is new")


def _bound(what: str, old: Bound | None, new: Bound | None) -> Iterator[Finding]:
    if old == new:
        return
    shown = new or old
    name = f"exclusive-{what}" if shown is not None and shown.exclusive else what
    if old is None or new is None:
        # A bound that is gone is a looser one for who sends, and no promise for who receives.
        change = "set" if old is None else "unset"
        said = "" if new is None else f" to {_shown(new)}"
        yield Finding(aspect=f"{name}-{change}", text=f"the {what}imum was {change}{said}")
        return
    higher = (new.value, new.exclusive == (what == "min")) > (
        old.value,
        old.exclusive == (what == "min"),
    )
    change = "increased" if higher else "decreased"
    text = f"the {what}imum went from {_shown(old)} to {_shown(new)}"
    yield Finding(aspect=f"{name}-{change}", text=text)


def _shown(bound: Bound) -> str:
    return f"{'beyond ' if bound.exclusive else ''}{bound.value:g}"


def _sizes(old: Shape, new: Shape) -> Iterator[Finding]:
    for name in sorted(old.sizes.keys() | new.sizes.keys()):
        before, after = old.sizes.get(name), new.sizes.get(name)
        if before == after:
            continue
        words = name.replace("-", " ")
        # No minimum is a minimum of 0, except that oasdiff has a word for the first `minItems`.
        if name in ("min-length", "min-properties"):
            before, after = before or 0, after or 0
        if before is None:
            change, text = "set", f"the {words} was set to {after}"
        elif after is None:
            change, text = "unset", f"the {words} of {before} is gone"
        else:
            change = "increased" if after > before else "decreased"
            text = f"the {words} went from {before} to {after}"
        yield Finding(aspect=f"{name}-{change}", text=text)


def _pattern(old: Shape, new: Shape) -> Iterator[Finding]:
    if old.pattern == new.pattern:
        return
    if old.pattern is None:
        yield Finding(aspect="pattern-added", text=f"it has to match {new.pattern} now")
    elif new.pattern is None:
        yield Finding(aspect="pattern-removed", text=f"it need not match {old.pattern} any more")
    else:
        general = new.pattern in (".*", "^.*$")
        aspect = "pattern-generalized" if general else "pattern-changed"
        text = f"the pattern went from {old.pattern} to {new.pattern}"
        yield Finding(aspect=aspect, text=text, level=Level.INFO if general else None)


def _default(old: str | None, new: str | None) -> Finding:
    if old is None:
        return Finding(aspect="default-value-added", text=f"it is {new} when left out")
    if new is None:
        return Finding(aspect="default-value-removed", text=f"it is no longer {old} when left out")
    return Finding(aspect="default-value-changed", text=f"left out, it went from {old} to {new}")
