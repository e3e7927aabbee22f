"""What several schemas say together: the sum of an ``allOf``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["sound", "sum_of"]

_KINDS: Final[dict[type | tuple[type, ...], tuple[str, ...]]] = {
    dict: ("properties", "patternProperties", "dependentSchemas", "discriminator"),
    list: ("required", "enum", "anyOf", "oneOf", "allOf", "prefixItems"),
    (int, float): ("minimum", "maximum", "multipleOf"),
    (int, float, bool): ("exclusiveMinimum", "exclusiveMaximum"),
    int: ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    (str, list): ("type",),
    (dict, bool): ("items", "additionalProperties"),
    str: ("pattern", "format", "contentMediaType"),
}
_KIND: Final = {key: kind for kind, keys in _KINDS.items() for key in keys}

_TIGHTEST: Final[dict[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
_FLAGS: Final = {"readOnly", "writeOnly", "deprecated", "uniqueItems", "nullable"}
_NAMED: Final = {"properties", "patternProperties", "dependentSchemas"}
_UNIONS: Final = {"anyOf", "oneOf"}


def sound(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without the keywords whose values JSON Schema does not know.

    Documents are written by hand, too: `required: true` on a property is the commonest of these.
    """
    return {
        key: value
        for key, value in schema.items()
        if key not in _KIND or isinstance(value, _KIND[key])
    }


def sum_of(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one schema that says what all ``parts`` say; where that is nothing, the last wins."""
    total: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = _both(key, total[key], value) if key in total else value
    return total


def _both(key: str, one: Any, other: Any) -> Any:
    if key in _TIGHTEST:
        return _TIGHTEST[key](one, other)
    if key in _FLAGS:
        return bool(one or other)
    if key in _NAMED:
        shared = {name: {"allOf": [one[name], other[name]]} for name in one.keys() & other}
        return {**one, **other, **shared}
    if key in _UNIONS:
        return [{"allOf": [mine, its]} for mine in one for its in other]
    return _LISTS[key](one, other) if key in _LISTS else other


def _types(one: Any, other: Any) -> Any:
    listed = [one] if isinstance(one, str) else one
    allowed = [other] if isinstance(other, str) else other
    return [kind for kind in listed if kind in allowed] or allowed


def _rest(one: Any, other: Any) -> Any:
    if one is False or other is False:
        return False
    return one if other is True else other


_LISTS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "required": lambda one, other: [*one, *(name for name in other if name not in one)],
    "type": _types,
    "enum": lambda one, other: [value for value in one if value in other],
    "additionalProperties": _rest,
    "items": lambda one, other: {"allOf": [one, other]},
}
