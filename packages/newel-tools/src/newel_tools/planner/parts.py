"""The parts of a resource: what was said of them, and the usual ones where nothing was."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from newel_tools.plan.bounds import FieldType
from newel_tools.plan.fields import read_line, write_line
from newel_tools.plan.names import PROVIDED_COLUMNS, USER_COLUMNS, field_conflict, snake
from newel_tools.plan.nouns import plural, singular
from newel_tools.plan.plan import ASSUMED, Field, Relation, States
from newel_tools.planner.draft import Draft, DraftResource, Link, Rule
from newel_tools.planner.flows import gated, moderated, usual_flow
from newel_tools.planner.mentions import Mention
from newel_tools.planner.sentence import Span
from newel_tools.planner.vocabulary import SATELLITES, vocabulary

__all__ = ["Parts", "PartsMaker"]

_OWNER_NAMES: Final = frozenset({"user", "owner", "user_id", "owner_id", "created_by", "creator"})
_AUTHOR_NAMES: Final = frozenset({"author", "author_id"})
_STATE_NAMES: Final = frozenset({"status", "state", "stage"})
_POINTED_AT: Final = frozenset({"categories", "labels", "tags"})
_NUMBERS: Final[frozenset[FieldType]] = frozenset({"int", "float", "decimal"})
_BOUNDED: Final = _NUMBERS | {"str", "text"}


@dataclass(slots=True)
class Parts:
    """The columns of one resource, in the order they were said."""

    name: str
    fields: tuple[Field, ...] = ()
    relations: tuple[Relation, ...] = ()
    states: States | None = None
    guessed: list[str] = field(default_factory=list[str])

    def names(self) -> set[str]:
        """Return every name that is taken."""
        taken = {f.name for f in self.fields} | {r.name for r in self.relations}
        taken |= {f"{r.name}_id" for r in self.relations}
        return taken | ({self.states.field} if self.states else set())


class PartsMaker:
    """Makes the parts of a draft's resources, accounting for each line."""

    def __init__(self, draft: Draft, provenance: dict[str, str], assumed: list[str]) -> None:
        self.draft = draft
        self.provenance = provenance
        self.assumed = assumed
        self.needs: dict[str, set[str]] = {}
        self.pairs: set[frozenset[str]] = set()

    def complete_links(self) -> None:
        """Add the resources that fields link to, and the usual links between those there are."""
        for resource in list(self.draft.resources.values()):
            for mention, span in resource.mentions:
                target = mention.type_text.rpartition("> ")[2]
                if mention.type_text.startswith(("->", "<->")) and target != "users":
                    self.draft.add(target, span)
        for resource in self.draft.resources.values():
            self._usual_links(resource)

    def users(self) -> tuple[Field, ...]:
        """Return the users' own fields."""
        parts = Parts(name="users")
        for mention, span in self.draft.users:
            if mention.name == "role":
                choices = re.findall(r"\w+", mention.type_text.partition("[")[2])
                self.draft.roles += [(snake(choice), span) for choice in choices]
            if mention.name in USER_COLUMNS | {"role", "active"}:
                continue
            if self._target(mention, "users") or mention.type_text.startswith("state"):
                # users are the kernel's table: others link to them, and they have no states
                self.draft.ledger.lost(span)
                continue
            self._mention(parts, mention, span)
        if not parts.fields and not self.draft.users:
            self._usual(parts, ["full_name: str(255) optional"])
        self._note_guesses(parts)
        return parts.fields

    def of(self, resource: DraftResource) -> Parts:
        """Return the columns of one resource."""
        parts = Parts(name=resource.name)
        for link in resource.links:
            self._link(parts, link)
        self._states(parts, resource)
        for mention, span in resource.mentions:
            if not self._is_owner(resource, mention, span):
                self._mention(parts, mention, span)
        base = self._base(resource.name)
        if not parts.fields and (not resource.mentions or base in vocabulary().resources):
            lines = self.draft.usual(resource.name).fields
            self._usual(parts, [line.replace(f"{base}:", f"{resource.name}:") for line in lines])
        for rule in self.draft.rules:
            self._apply(parts, rule)
        self._note_guesses(parts)
        return parts

    # -- links -----------------------------------------------------------------------------------

    def _usual_links(self, resource: DraftResource) -> None:
        """Link a resource to those it usually goes with; what hangs on one thing needs no more."""
        names = self.draft.resources
        satellite = resource.name in SATELLITES
        if not (satellite and self._is_linked(resource.name)):
            found = [link for link in self._usual_relations(resource.name) if link.target in names]
            ones = sum(link.kind == "many_to_one" for link in found)
            for link in found:
                if link.target == resource.name or self._linked(resource, link.target):
                    continue
                # a comment on a post or on a photo is on one of them
                either = satellite and ones > 1 and link.kind == "many_to_one"
                resource.links.append(replace(link, optional=either))
        things = [name for name in names if name not in SATELLITES]
        if satellite and not self._is_linked(resource.name) and len(things) == 1:
            self._hang(resource, things[0])

    def _usual_relations(self, name: str) -> list[Link]:
        links: list[Link] = []
        for text in self.draft.usual(name).links:
            line = read_line(*text.split(": ", 1))
            if isinstance(line, Relation):
                target = self.draft.name_of(line.target)
                links.append(Link(target=target, kind=line.kind, span=None))
        return links

    def _hang(self, resource: DraftResource, thing: str) -> None:
        """Link what never stands alone to the only thing there is."""
        if resource.name in _POINTED_AT - {"categories"}:
            link = Link(target=resource.name, kind="many_to_many", span=None)
            self.draft.resources[thing].links.append(link)
        elif resource.name == "categories":
            link = Link(target=resource.name, kind="many_to_one", span=None)
            self.draft.resources[thing].links.append(link)
        else:
            resource.links.append(Link(target=thing, kind="many_to_one", span=None))

    def _is_linked(self, name: str) -> bool:
        """Tell whether a satellite has what it hangs on; tags are pointed at, comments point."""
        others = self.draft.resources.values()
        if self.draft.resources[name].links or self._mentions_link(self.draft.resources[name], ""):
            return True
        return name in _POINTED_AT and any(
            self._linked(other, name) for other in others if other.name != name
        )

    def _linked(self, resource: DraftResource, target: str) -> bool:
        """Tell whether two resources are linked already, either way."""
        other = self.draft.resources[target]
        return (
            any(link.target == target for link in resource.links)
            or any(link.target == resource.name for link in other.links)
            or self._mentions_link(resource, target)
            or self._mentions_link(other, resource.name)
        )

    def _mentions_link(self, resource: DraftResource, target: str) -> bool:
        """Tell whether a field of ``resource`` is a link to ``target`` (to anything when empty)."""
        for mention, _ in resource.mentions:
            found = self._target(mention, resource.name)
            if found is not None and target in {"", found[0]} and found[0] != resource.name:
                return True
        return False

    def _target(self, mention: Mention, name: str) -> tuple[str, str] | None:
        """Return what a mention of resource ``name`` links to, and the arrow; None for a field."""
        if mention.type_text.startswith(("->", "<->")):
            arrow, _, target = mention.type_text.partition(" ")
            return (target if target == "users" else self.draft.name_of(target)), arrow
        if mention.type_text:
            return None
        one = re.sub(r"_ids?$", "", mention.name)
        target = self.draft.name_of(one)
        if one == "parent" and name != "users" and target not in self.draft.resources:
            return name, "->"
        for other in self.draft.resources:
            if one.endswith(f"_{singular(other)}") and target not in self.draft.resources:
                return other, "->"
        if target not in self.draft.resources or target == name:
            return None
        is_one = mention.name.endswith("_id") or singular(one) == one != plural(one)
        return target, "->" if is_one else "<->"

    def _link(self, parts: Parts, link: Link) -> None:
        many = link.kind == "many_to_many"
        name = link.target if many else singular(link.target)
        usual = self._usual_line(parts.name, link.target) if link.span is None else None
        name = usual.name if usual is not None and not many else link.name or name
        optional = link.optional or (usual is not None and usual.optional)
        relation = Relation(
            name=self._free(parts, name),
            target=link.target,
            kind=link.kind,
            optional=not many and (optional or self._circles(parts.name, link.target)),
        )
        self._add_relation(parts, relation, link.span)
        if link.span is None:
            verb = "have many" if many else "link to"
            self.assumed.append(f"{parts.name} {verb} {link.target.replace('_', ' ')}")

    def _usual_line(self, name: str, target: str) -> Relation | None:
        for line in self.draft.usual(name).links:
            relation = read_line(*line.split(": ", 1))
            if isinstance(relation, Relation) and self.draft.name_of(relation.target) == target:
                return relation
        return None

    def _circles(self, name: str, target: str) -> bool:
        """Tell whether a row could never be the first, were this link required; else note it."""
        seen: set[str] = set()
        waiting = [target]
        while waiting:
            at = waiting.pop()
            if at == name:
                if target != name:
                    self.assumed.append(f"{name} may exist without {target}: one has to come first")
                return True
            waiting += [n for n in self.needs.get(at, ()) if n not in seen]
            seen.add(at)
        self.needs.setdefault(name, set()).add(target)
        return False

    def _add_relation(self, parts: Parts, relation: Relation, span: Span | None) -> None:
        if any(r.target == relation.target and r.name == relation.name for r in parts.relations):
            return
        if relation.kind == "many_to_many":
            pair = frozenset({parts.name, relation.target})
            if pair in self.pairs:
                return  # said from both sides, and one table all the same
            self.pairs.add(pair)
        parts.relations += (relation,)
        self._source(parts, relation.name, span)

    # -- fields ----------------------------------------------------------------------------------

    def _is_owner(self, resource: DraftResource, mention: Mention, span: Span) -> bool:
        """Tell whether a field is the owner that every owned row has, and note it."""
        plain = mention.type_text in {"", "-> users"}
        keeping = self.draft.usual(resource.name).keeping
        names = _OWNER_NAMES | _AUTHOR_NAMES if keeping == "authored" else _OWNER_NAMES
        owns = (
            plain
            and mention.name in names
            and self.draft.name_of(mention.name) not in (self.draft.resources)
        )
        if owns:
            resource.owner = resource.owner or span
        return owns

    def _mention(self, parts: Parts, mention: Mention, span: Span) -> None:
        """Add one field, link or state column that was said."""
        if mention.name in PROVIDED_COLUMNS:
            self.assumed.append(f"{parts.name} have {mention.name} already")
            return
        if mention.name in parts.names():
            return
        if found := self._target(mention, parts.name):
            self._mentioned_link(parts, mention, span, *found)
            return
        name = self._free(parts, mention.name)
        flows = parts.states is None and parts.name != "users"
        if flows and mention.choices and mention.name in _STATE_NAMES:
            self._set_flow(parts, name, mention.choices, span)
            return
        line = read_line(name, self._text(parts, mention))
        if isinstance(line, States) and parts.states is not None:
            # a row goes one way: the second column of states is one with choices
            line = read_line(name, f"enum[{', '.join(line.values)}] = {line.initial}")
        if isinstance(line, States):
            parts.states = line
        elif isinstance(line, Relation):
            parts.relations += (line,)
        else:
            parts.fields += (line,)
            if not mention.type_text:
                parts.guessed.append(f"{name} {write_line(line)}")
        self._source(parts, name, span)

    def _mentioned_link(
        self, parts: Parts, mention: Mention, span: Span, target: str, arrow: str
    ) -> None:
        name = re.sub(r"_ids?$", "", mention.name)
        if arrow == "<->":
            relation = Relation(name=self._free(parts, name), target=target, kind="many_to_many")
            self._add_relation(parts, relation, span)
            return
        optional = "optional" in mention.modifiers
        if target != "users" and not optional:
            optional = self._circles(parts.name, target)
        relation = Relation(
            name=self._free(parts, name),
            target=target,
            optional=optional,
            unique="unique" in mention.modifiers,
        )
        self._add_relation(parts, relation, span)

    def _text(self, parts: Parts, mention: Mention) -> str:
        """Return the line of a mention, with a usual type where none was said."""
        text = mention.type_text
        modifiers = list(mention.modifiers)
        number = text == "number"
        if number or not text:
            known = [x for x in self.draft.usual(parts.name).fields if _named(x, mention.name)]
            text = known[0].partition(": ")[2] if known else vocabulary().line(mention.name)
            text = text.replace(f"{self._base(parts.name)}:", f"{parts.name}:")
            if any(word.startswith("=") for word in modifiers) or "unique" in modifiers:
                text = text.partition(" = ")[0]
            kind = re.split(r"[( ]", text)[0]
            is_known = bool(known) or vocabulary().is_field(mention.name)
            text = "float" if number and kind not in _NUMBERS else text
            if mention.bounds and not (is_known and kind in _BOUNDED):
                text = "float" if "." in mention.bounds.replace("..", "") else "int"
        kind = text.split("(")[0].split()[0]
        usual = vocabulary().line(mention.name).partition(" = ")[0]
        if text == kind and usual.startswith(f"{kind}(") and kind in _NUMBERS:
            text = usual  # a price or a stock is never negative
        if mention.bounds and kind in _BOUNDED and not mention.type_text.endswith(")"):
            digits = "12,2, " if kind == "decimal" else ""
            head, _, tail = text.partition(" ")
            low, high = _ends(mention.bounds, kind)
            if kind in _NUMBERS and not low and re.search(r"\b0\.\.", text):
                low = "0"  # the capacity of at most 20 is still no less than 0
            text = f"{head.partition('(')[0]}({digits}{low}..{high})"
            text += f" {tail}" if tail and "(" not in head else ""
        said = text.split()
        return " ".join((text, *(word for word in modifiers if word not in said)))

    def _usual(self, parts: Parts, lines: list[str]) -> None:
        """Add the usual columns, and say so."""
        added: list[str] = []
        for text in lines:
            name, _, rest = text.partition(": ")
            line = read_line(name, rest)
            if name in parts.names() or (isinstance(line, States) and parts.states is not None):
                continue
            if isinstance(line, States):
                parts.states = gated(parts.name, line, verbs=self.draft.verbs_of(parts.name))
            elif isinstance(line, Field):
                parts.fields += (line,)
            self._source(parts, name, None)
            added.append(name)
        if added:
            self.assumed.append(f"{parts.name} have the usual fields {', '.join(added)}")

    # -- states ----------------------------------------------------------------------------------

    def _states(self, parts: Parts, resource: DraftResource) -> None:
        if resource.flow is not None:
            flow = resource.flow
            self._set_flow(parts, flow.name, flow.values, flow.span, steps=flow.steps)
        elif resource.moderated is not None:
            said = {mention.name for mention, _ in resource.mentions}
            name = "moderation" if "status" in said else "status"
            parts.states = moderated(parts.name, field=name)
            self._source(parts, name, resource.moderated)
            self.assumed.append(
                f"{parts.name} start pending; {parts.name}:moderate approves or rejects them, and "
                "others see the approved ones"
            )

    def _set_flow(
        self, parts: Parts, name: str, values: tuple[str, ...], span: Span, *, steps: bool = False
    ) -> None:
        """Add the states that were named, with the usual transitions between them, or ``steps``."""
        values = tuple(re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_") for value in values)
        flow = usual_flow(name, values)
        for line in self.draft.usual(parts.name).fields:
            usual = read_line(*line.split(": ", 1))
            if isinstance(usual, States) and set(usual.values) == set(values) and not steps:
                text = write_line(usual).replace(f"{self._base(parts.name)}:", f"{parts.name}:")
                usual = read_line(name, text)
                flow = usual if isinstance(usual, States) else flow
        parts.states = flow = gated(parts.name, flow, verbs=self.draft.verbs_of(parts.name))
        self._source(parts, name, span)
        self.assumed.append(f"{parts.name}.{name}: {write_line(flow)}")

    # -- the account -----------------------------------------------------------------------------

    def _free(self, parts: Parts, name: str) -> str:
        """Return a name that a column can have, noting when it is not the one that was said."""
        if field_conflict(name) is None:
            return name
        other = f"{singular(parts.name)}_{name}"[:40].rstrip("_")
        self.assumed.append(f"{parts.name}: {name} is called {other}, since {field_conflict(name)}")
        return other

    def _apply(self, parts: Parts, rule: Rule) -> None:
        """Apply ``sku is unique``."""
        one = singular(parts.name)
        for number, old in enumerate(parts.fields):
            if rule.field not in {old.name, plural(old.name), f"{one}_{old.name}"}:
                continue
            values = old.model_dump() | {rule.word: True}
            if rule.word == "unique":
                values["default"] = None
            changed = Field.model_validate(values)
            parts.fields = (*parts.fields[:number], changed, *parts.fields[number + 1 :])
            self._source(parts, old.name, rule.span)

    def _note_guesses(self, parts: Parts) -> None:
        if parts.guessed:
            self.assumed.append(f"types of {parts.name} by their names, {', '.join(parts.guessed)}")

    def _source(self, parts: Parts, name: str, span: Span | None) -> None:
        key = f"{parts.name}.fields.{name}"
        self.provenance[key] = ASSUMED if span is None else self.draft.ledger.words(span)

    def _base(self, name: str) -> str:
        known = vocabulary().resources
        return name if name in known or "_" not in name else name.rpartition("_")[2]


def _ends(bounds: str, kind: str) -> tuple[str, str]:
    """Return the lowest and highest value of a kind within bounds such as ``>0..9``."""
    low, _, high = bounds.partition("..")
    step = Decimal({"int": "1", "decimal": "0.01"}.get(kind, "0"))
    if low.startswith(">"):
        low = str(Decimal(low[1:]) + step)
    if high.startswith("<"):
        high = str(Decimal(high[1:]) - step)
    return low, high


def _named(line: str, name: str) -> bool:
    return line.partition(": ")[0] == name
