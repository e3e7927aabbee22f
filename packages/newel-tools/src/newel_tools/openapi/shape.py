"""What a schema says, however it is written.

``nullable: true``, ``type: [.., "null"]`` and ``anyOf: [.., {type: null}]`` are one shape; so are a
``$ref`` and its target, ``allOf`` and its sum, a ``const`` and an ``enum`` of one, ``> 0`` and
``>= 1`` of an integer, ``format: binary`` and its OpenAPI 3.1 name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from newel_tools.openapi.allof import sound, sum_of
from newel_tools.openapi.document import Document, Node
from newel_tools.openapi.values import as_list, as_texts

__all__ = ["Bound", "Shape", "Shapes", "Union"]

Union = Literal["anyOf", "oneOf"]

_SIZES: Final = {
    "minLength": "min-length",
    "maxLength": "max-length",
    "minItems": "min-items",
    "maxItems": "max-items",
    "minProperties": "min-properties",
    "maxProperties": "max-properties",
}
_OTHERS: Final = {
    "propertyNames": "property-names",
    "contains": "contains",
    "if": "if",
    "then": "then",
    "else": "else",
    "dependentRequired": "dependent-required",
    "dependentSchemas": "dependent-schema",
    "unevaluatedProperties": "unevaluated-properties",
    "unevaluatedItems": "unevaluated-items",
}
_OBJECT: Final = ("properties", "required", "additionalProperties", "patternProperties")
_BINARY: Final = "binary"


@dataclass(frozen=True, slots=True, order=True)
class Bound:
    """A limit of a number; ``exclusive`` ones do not contain the limit itself."""

    value: float
    exclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """A schema without its spelling.

    ``types`` is empty for any type, and never contains ``null``; ``values`` are JSON texts;
    ``rest`` is what unnamed properties may be, False for none. ``alternatives`` are the members of
    ``union`` without null, ``own`` what is said beside them. ``Shapes.of`` reads the nodes below.
    """

    component: str | None
    types: frozenset[str]
    nullable: bool
    format: str
    values: tuple[str, ...] | None
    constant: bool
    lower: Bound | None
    upper: Bound | None
    sizes: Mapping[str, int]
    pattern: str | None
    multiple_of: float | None
    unique: bool
    default: str | None
    properties: Mapping[str, Node | bool]
    required: frozenset[str]
    rest: Node | bool
    named: Mapping[str, Node | bool]
    items: Node | bool
    prefix: Sequence[Node | bool]
    alternatives: Sequence[Node | bool]
    union: Union
    discriminator: str | None
    others: Mapping[str, Any]
    negated: str | None
    own: Mapping[str, Any]
    examples: Sequence[Any]
    read_only: bool
    write_only: bool
    deprecated: bool
    foreign: str | None

    @property
    def any_type(self) -> bool:
        """Whether nothing is said about the type."""
        return not self.types and not self.alternatives and self.foreign is None

    @property
    def kind(self) -> str:
        """The type in a word or two: ``string/date-time``, ``integer | string``."""
        name = self.foreign or " | ".join(sorted(self.types)) or "any"
        return f"{name}/{self.format}" if self.format else name

    def __str__(self) -> str:
        """The component's name, or the kind."""
        return self.component or self.kind


class Shapes:
    """Reads the schemas of one document; each is read once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._read: dict[int, Shape] = {}
        self._whole: dict[int, list[Shape]] = {}
        self._kept: list[object] = []  # an id is only unique while its object lives

    def of(self, node: object) -> Shape:
        """Return the shape of a schema; True and nothing at all are any value."""
        if node is None or node is True:
            node = _ANY
        if id(node) not in self._read:
            self._kept.append(node)
            self._read[id(node)] = self._shape(node)
        return self._read[id(node)]

    def whole(self, shape: Shape) -> list[Shape]:
        """Return the alternatives, each with what is said beside them; a shape without: itself."""
        if not shape.alternatives:
            return [shape]
        if id(shape) not in self._whole:
            members = [{"allOf": [shape.own, member]} for member in shape.alternatives]
            self._whole[id(shape)] = [self.of(member) for member in members]
        return self._whole[id(shape)]

    def _shape(self, node: object) -> Shape:
        flat, component = self._flat(node, ())
        alternatives, union, with_null = self._alternatives(flat)
        if len(alternatives) == 1:
            flat = sum_of([{k: v for k, v in flat.items() if k != union}])
            inner, inner_name = self._flat(alternatives[0], ())
            flat = sum_of([flat, inner])
            # `X | None` is a member that is named, not a nameless schema of its own.
            component = component or inner_name
            alternatives, union, more_null = self._alternatives(flat)
            with_null = with_null or more_null
        if listed := self._listed(alternatives):
            flat = {**{k: v for k, v in flat.items() if k != union}, "enum": listed}
            alternatives = []
        types, null_type = _types(flat)
        nullable = with_null or null_type or bool(flat.get("nullable"))
        return _build(
            flat,
            component=component,
            types=types,
            nullable=nullable,
            alternatives=alternatives,
            union=union,
        )

    def _flat(self, node: object, inside: tuple[int, ...]) -> tuple[dict[str, Any], str | None]:
        """Return one object without ``$ref`` and ``allOf``, and the component it is."""
        if node is False:
            return {"not": {}}, None
        found, component = self._document.resolve(node)
        if id(found) in inside:
            return {}, component  # a schema that is part of itself says nothing more
        content = sound(found)
        parts: list[Any] = content.get("allOf") or []
        if not parts:
            return content, component
        inner = [self._flat(part, (*inside, id(found))) for part in parts]
        own = {key: value for key, value in content.items() if key != "allOf"}
        if component is None and len(inner) == 1:
            component = inner[0][1]
        flat = sum_of([*(part for part, _ in inner), own])
        if not (own.get("nullable") or all(part.get("nullable") for part, _ in inner)):
            flat.pop("nullable", None)
        return flat, component

    def _alternatives(self, flat: Node) -> tuple[list[Any], Union, bool]:
        union: Union = "anyOf" if "anyOf" in flat else "oneOf"
        members = flat.get(union)
        if not isinstance(members, list):
            return [], union, False
        listed = cast("list[Any]", members)
        kept = [member for member in listed if not self._is_null(member)]
        return kept, union, len(kept) < len(listed)

    def _listed(self, alternatives: Sequence[Any]) -> list[Any]:
        """Return the values of a union of nothing but values, which is an ``enum`` spelled out."""
        found: list[Any] = []
        for member in alternatives:
            flat, _ = self._flat(member, ())
            if "const" not in flat and "enum" not in flat:
                return []
            found += [flat["const"]] if "const" in flat else flat["enum"]
        return found

    def _is_null(self, node: object) -> bool:
        content, _ = self._document.resolve(node)
        return content.get("type") in ("null", ["null"]) or content.get("enum") == [None]


_ANY: Final[dict[str, Any]] = {}


def _build(
    flat: Mapping[str, Any],
    *,
    component: str | None,
    types: frozenset[str],
    nullable: bool,
    alternatives: Sequence[Any],
    union: Union,
) -> Shape:
    values = _values(flat)
    properties = dict(flat.get("properties") or {})
    required = frozenset(as_texts(flat.get("required")))
    for name in required - properties.keys():
        properties[name] = True
    lower, upper = _bounds(flat, whole="integer" in types and len(types) == 1)
    discriminator: Mapping[str, Any] = flat.get("discriminator") or {}
    default = flat.get("default")
    return Shape(
        component=component,
        types=types or _types_of(values),
        nullable=nullable,
        format=_format(flat),
        values=values,
        constant="const" in flat,
        lower=lower,
        upper=upper,
        sizes={_SIZES[key]: flat[key] for key in _SIZES if flat.get(key)},
        pattern=flat.get("pattern"),
        multiple_of=flat.get("multipleOf"),
        unique=bool(flat.get("uniqueItems")),
        default=None if default is None else _text(default),
        properties=properties,
        required=required,
        rest=flat.get("additionalProperties", True),
        named=flat.get("patternProperties") or {},
        items=flat.get("items", True),
        prefix=flat.get("prefixItems") or (),
        alternatives=alternatives,
        union=union,
        discriminator=discriminator.get("propertyName"),
        others={_OTHERS[key]: flat[key] for key in _OTHERS if key in flat},
        negated=_text(flat["not"]) if "not" in flat else None,
        examples=[flat["example"]] if "example" in flat else _examples(flat),
        own={key: value for key, value in flat.items() if key != union},
        read_only=bool(flat.get("readOnly")),
        write_only=bool(flat.get("writeOnly")),
        deprecated=bool(flat.get("deprecated")),
        foreign=reference if isinstance(reference := flat.get("$ref"), str) else None,
    )


def _types(flat: Mapping[str, Any]) -> tuple[frozenset[str], bool]:
    """Return the types without null, guessed from other keywords when none is said."""
    said = flat.get("type")
    types = {said} if isinstance(said, str) else {str(kind) for kind in said or ()}
    null = "null" in types
    types.discard("null")
    if "number" in types:
        types.discard("integer")  # every integer is a number
    if not types and not null:
        if any(key in flat for key in _OBJECT):
            types = {"object"}
        elif "items" in flat or "prefixItems" in flat:
            types = {"array"}
    return frozenset(types), null or None in (flat.get("enum") or ())


def _types_of(values: tuple[str, ...] | None) -> frozenset[str]:
    kinds: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
    found: set[str] = set()
    for value in values or ():
        read: object = json.loads(value)
        found.add(kinds.get(type(read), "any"))
    return frozenset() if "any" in found else frozenset(found)


def _values(flat: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "const" in flat:
        return (_text(flat["const"]),)
    listed = flat.get("enum")
    if listed is None:
        return None
    return tuple(dict.fromkeys(_text(value) for value in listed if value is not None))


def _bounds(flat: Mapping[str, Any], *, whole: bool) -> tuple[Bound | None, Bound | None]:
    """Return the limits; OpenAPI 3.0 says exclusive by a flag, 3.1 by a number."""
    lower = _bound(flat, "minimum", "exclusiveMinimum")
    upper = _bound(flat, "maximum", "exclusiveMaximum")
    low = max(lower, key=lambda b: (b.value, b.exclusive), default=None)
    high = min(upper, key=lambda b: (b.value, not b.exclusive), default=None)
    if whole and low is not None and low.exclusive:
        low = Bound(low.value + 1)
    if whole and high is not None and high.exclusive:
        high = Bound(high.value - 1)
    return low, high


def _bound(flat: Mapping[str, Any], inclusive: str, exclusive: str) -> list[Bound]:
    limit, beyond = flat.get(inclusive), flat.get(exclusive)
    if isinstance(beyond, bool):
        return [] if limit is None else [Bound(limit, beyond)]
    found = [] if limit is None else [Bound(limit)]
    return found if beyond is None else [*found, Bound(beyond, exclusive=True)]


def _examples(flat: Mapping[str, Any]) -> Sequence[Any]:
    return as_list(flat.get("examples"))


def _format(flat: Mapping[str, Any]) -> str:
    if flat.get("contentMediaType") == "application/octet-stream" and "format" not in flat:
        return _BINARY
    return str(flat.get("format") or flat.get("contentMediaType") or "")


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
