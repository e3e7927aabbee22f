"""Two schemas side by side, all the way down.

A request may grow looser and an answer tighter; the other way round somebody breaks. A pair of
schemas is compared once for each direction, so that recursive schemas and documents of many
thousand references end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from newel_tools.contract.finding import Direction, Finding
from newel_tools.contract.limits import compare_limits, compare_types, covers
from newel_tools.contract.renames import guess_renames
from newel_tools.contract.rules import Level
from newel_tools.contract.unions import pair_alternatives
from newel_tools.openapi.shape import Shape, Shapes

__all__ = ["SchemaComparison"]

_SCHEMAS = (
    "property-names",
    "contains",
    "then",
    "else",
)  # whose own changes say more than "changed"


class SchemaComparison:
    """Compares schemas of an old document with those of a new one."""

    def __init__(self, old: Shapes, new: Shapes) -> None:
        self._old = old
        self._new = new
        self._done: dict[tuple[int, int, Direction, bool], tuple[Finding, ...]] = {}

    def compare(
        self, old: object, new: object, direction: Direction, *, loose: bool = False
    ) -> tuple[Finding, ...]:
        """Return what changed, relative to the two schemas; ``loose`` values travel as text."""
        return self._shapes(self._old.of(old), self._new.of(new), direction, loose=loose)

    def _shapes(
        self, old: Shape, new: Shape, direction: Direction, *, loose: bool = False
    ) -> tuple[Finding, ...]:
        key = (id(old), id(new), direction, loose)
        if key not in self._done:
            self._done[key] = ()  # met again below itself: already being compared
            found = self._differences(old, new, direction, loose=loose)
            component = old.component or new.component
            self._done[key] = tuple(finding.within(component) for finding in found)
        return self._done[key]

    def _differences(
        self, old: Shape, new: Shape, direction: Direction, *, loose: bool
    ) -> Iterator[Finding]:
        if old.foreign != new.foreign:
            text = f"the type went from {old.kind} to {new.kind}"
            yield Finding(aspect="type-changed", text=text)
            return
        if old.alternatives or new.alternatives:
            yield from self._alternatives(old, new, direction, loose=loose)
            if not (old.alternatives and new.alternatives):
                return
        if old.negated != new.negated:
            yield Finding(aspect="not-changed", text="what it must not be has changed")
        changed = compare_types(old, new, direction, loose=loose)
        yield from changed
        if changed and not _comparable(old, new, loose=loose):
            return
        yield from compare_limits(old, new, direction)
        yield from _discriminators(old, new)
        yield from self._others(old, new, direction)
        yield from self._properties(old, new, direction, loose=loose)
        yield from self._rest(old, new, direction)
        yield from _below(self._nodes(old.items, new.items, direction, loose=loose), "items")
        yield from self._prefix(old, new, direction)

    def _nodes(
        self, old: object, new: object, direction: Direction, *, loose: bool = False
    ) -> tuple[Finding, ...]:
        if old is True and new is True:
            return ()
        return self._shapes(self._old.of(old), self._new.of(new), direction, loose=loose)

    def _alternatives(
        self, old: Shape, new: Shape, direction: Direction, *, loose: bool
    ) -> Iterator[Finding]:
        def differ(one: Shape, other: Shape) -> tuple[Finding, ...]:
            return self._shapes(one, other, direction, loose=loose)

        def fits(one: Shape, other: Shape) -> bool:
            return not any(finding.breaks(direction) for finding in differ(one, other))

        asymmetric = not (old.alternatives and new.alternatives)
        olds = self._old.whole(old) if asymmetric else [self._old.of(n) for n in old.alternatives]
        news = self._new.whole(new) if asymmetric else [self._new.of(n) for n in new.alternatives]
        if asymmetric and old.nullable != new.nullable:
            yield from (
                finding
                for finding in compare_limits(old, new, direction)
                if finding.aspect.endswith("nullable")
            )
        union = new.union if new.alternatives else old.union
        word = "any-of" if union == "anyOf" else "one-of"
        pairs, gone, added = pair_alternatives(olds, news, differ)
        for one, other in pairs:
            yield from _below(differ(one, other), f"{union}[{other}]")
        for one in gone:
            level = Level.INFO
            if direction == "request" and not any(fits(one, other) for other in news):
                level = Level.ERROR
            yield Finding(aspect=f"{word}-removed", text=f"{one} is no longer one", level=level)
        for other in added:
            level = Level.INFO
            if direction == "response" and not any(fits(one, other) for one in olds):
                level = Level.ERROR
            yield Finding(aspect=f"{word}-added", text=f"it may also be {other} now", level=level)

    def _properties(
        self, old: Shape, new: Shape, direction: Direction, *, loose: bool
    ) -> Iterator[Finding]:
        gone = [name for name in old.properties if name not in new.properties]
        fresh = [name for name in new.properties if name not in old.properties]
        renames = guess_renames(
            gone,
            fresh,
            lambda one, other: (
                not self._nodes(old.properties[one], new.properties[other], direction)
            ),
        )
        for name in gone:
            if found := self._removed(name, old, new, direction, guess=renames.get(name)):
                yield found.below(name)
        for name in fresh:
            if found := self._added(name, new, direction):
                yield found.below(name)
        for name, node in old.properties.items():
            if name in new.properties:
                pair = (self._old.of(node), self._new.of(new.properties[name]))
                if not _is_unseen(*pair, direction):
                    yield from _requiredness(name, pair[1], old, new, direction)
                    yield from _below(_modes(*pair, direction, required=name in new.required), name)
                    yield from _below(self._shapes(*pair, direction, loose=loose), name)

    def _removed(
        self, name: str, old: Shape, new: Shape, direction: Direction, *, guess: str | None
    ) -> Finding | None:
        shape = self._old.of(old.properties[name])
        hint = f"; renamed to `{guess}`?" if guess else ""
        if direction == "response":
            if shape.write_only:
                return None
            required = name in old.required
            kind = "required" if required else "optional"
            return Finding(
                aspect=f"response-{kind}-property-removed",
                text=f"`{name}` is gone{hint}",
                guess=guess,
            )
        if shape.read_only:
            return None
        # An object that refuses what it does not know answers an error to the clients of yesterday.
        closed = new.rest is False
        text = f"`{name}` is {'refused' if closed else 'ignored'} now{hint}"
        level = None if closed else Level.INFO
        return Finding(aspect="request-property-removed", text=text, level=level, guess=guess)

    def _added(self, name: str, new: Shape, direction: Direction) -> Finding | None:
        shape = self._new.of(new.properties[name])
        required = name in new.required
        if direction == "response":
            kind = "required" if required else "optional"
            return Finding(aspect=f"response-{kind}-property-added", text=f"`{name}` is new")
        if shape.read_only:
            return None
        if not required:
            return Finding(aspect="new-optional-request-property", text=f"`{name}` may be sent")
        aspect = "new-required-request-property"
        aspect += "" if shape.default is None else "-with-default"
        return Finding(aspect=aspect, text=f"`{name}` has to be sent now")

    def _rest(self, old: Shape, new: Shape, direction: Direction) -> Iterator[Finding]:
        if "object" not in old.types or "object" not in new.types:
            return
        if old.rest is False and new.rest is not False:
            text = "properties without a name in the schema are allowed now"
            yield Finding(aspect="additional-properties-allowed", text=text)
        elif new.rest is False and old.rest is not False:
            text = "properties without a name in the schema are refused now"
            yield Finding(aspect="additional-properties-refused", text=text)
        elif old.rest is not False:
            yield from _below(self._nodes(old.rest, new.rest, direction), "additionalProperties")
        for name in sorted(old.named.keys() | new.named.keys()):
            place = f"patternProperties[{name}]"
            if name not in new.named:
                yield Finding(aspect="pattern-property-removed", text=f"{name} is gone")
            elif name not in old.named:
                yield Finding(aspect="pattern-property-added", text=f"{name} is new")
            else:
                yield from _below(self._nodes(old.named[name], new.named[name], direction), place)

    def _prefix(self, old: Shape, new: Shape, direction: Direction) -> Iterator[Finding]:
        pairs = zip(old.prefix, new.prefix, strict=False)
        for number, (one, other) in enumerate(pairs):
            yield from _below(self._nodes(one, other, direction), f"prefixItems[{number}]")
        if len(old.prefix) != len(new.prefix):
            aspect = "prefix-items-added"
            if len(new.prefix) < len(old.prefix):
                aspect = "prefix-items-removed"
            text = f"the first {len(new.prefix)} items have a type, not {len(old.prefix)}"
            yield Finding(aspect=aspect, text=text)

    def _others(self, old: Shape, new: Shape, direction: Direction) -> Iterator[Finding]:
        for name in sorted(old.others.keys() | new.others.keys()):
            before, after = old.others.get(name), new.others.get(name)
            if before == after:
                continue
            if name in _SCHEMAS and before is not None and after is not None:
                yield from _below(self._nodes(before, after, direction), name)
                continue
            # A condition that changed may be tighter for who sends and looser for who receives.
            looser = after is None if direction == "request" else before is not None
            aspect = f"{name}-{'removed' if looser else 'added'}"
            yield Finding(aspect=aspect, text=f"`{name}` changed")


def _comparable(old: Shape, new: Shape, *, loose: bool) -> bool:
    """Tell whether more can be said after a change of type: not of an object that became a text."""
    if not old.types or not new.types:
        return False
    return covers(old, new, loose=loose) or covers(new, old, loose=loose)


def _below(findings: Iterable[Finding], place: str) -> Iterator[Finding]:
    for finding in findings:
        yield finding.below(place)


def _is_unseen(before: Shape, after: Shape, direction: Direction) -> bool:
    """Tell whether no client sends (or gets) a property, neither before nor now."""
    if direction == "request":
        return before.read_only and after.read_only
    return before.write_only and after.write_only


def _requiredness(
    name: str, after: Shape, old: Shape, new: Shape, direction: Direction
) -> Iterator[Finding]:
    was, is_now = name in old.required, name in new.required
    sent = direction == "request"
    if was and not is_now:
        said = "it may be left out now" if sent else "it may be missing now"
        yield Finding(aspect="became-optional", text=said).below(name)
    elif is_now and not was:
        aspect = "became-required"
        aspect += "-with-default" if sent and after.default is not None else ""
        said = "it has to be sent now" if sent else "it is always there now"
        yield Finding(aspect=aspect, text=said).below(name)


def _modes(
    before: Shape, after: Shape, direction: Direction, *, required: bool
) -> Iterator[Finding]:
    kind = "required" if required else "optional"
    for word, was, is_now in (
        ("read-only", before.read_only, after.read_only),
        ("write-only", before.write_only, after.write_only),
    ):
        if was != is_now:
            change = f"became-{'' if is_now else 'not-'}{word}"
            yield Finding(
                aspect=f"{direction}-{kind}-property-{change}", text=change.replace("-", " ")
            )
    if before.deprecated != after.deprecated:
        aspect = "deprecated" if after.deprecated else "reactivated"
        yield Finding(aspect=f"{direction}-property-{aspect}", text=f"it was {aspect}")


def _discriminators(old: Shape, new: Shape) -> Iterator[Finding]:
    if old.discriminator == new.discriminator:
        return
    if old.discriminator is None:
        yield Finding(aspect="discriminator-added", text=f"{new.discriminator} says which it is")
    elif new.discriminator is None:
        text = f"{old.discriminator} no longer says which it is"
        yield Finding(aspect="discriminator-removed", text=text)
    else:
        text = f"{new.discriminator} says which it is, not {old.discriminator}"
        yield Finding(aspect="discriminator-property-name-changed", text=text)
