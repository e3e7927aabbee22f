"""What pydantic found wrong with an input, as ``FieldError``s that never hold the input.

Pydantic's messages, contexts and locations can repeat what was sent, a password as well. Here a
message is one that is made of the schema alone, and a pointer holds names of members, never values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, get_args
from urllib.parse import quote

from pydantic_core.core_schema import ErrorType

from newel.errors import FieldError

__all__ = ["MAX_FIELD_ERRORS", "field_errors"]

MAX_FIELD_ERRORS: Final = 50
"""How many refused fields one answer names: a list of a million items may have a million."""

MAX_NAME_CHARACTERS: Final = 64
"""The longest name of a member that is repeated: an unknown member's name is input, too."""

_ECHOING: Final = frozenset(
    {
        *("assertion_error", "bytes_invalid_encoding", "datetime_object_invalid"),
        *("get_attribute_error", "iteration_error", "json_invalid", "timezone_offset"),
        *("union_tag_invalid", "uuid_parsing", "value_error"),
    }
)
"""Pydantic's error types whose message may repeat the input: letters of it, a tag, a number."""

_REPLACED: Final = {
    "uuid_parsing": "Input should be a valid UUID",
    "union_tag_invalid": "Input has a tag that is not one of the expected ones",
}
_KNOWN: Final = frozenset(get_args(ErrorType)) - _ECHOING


def field_errors(found: Sequence[Mapping[str, Any]], *, body: object = None) -> list[FieldError]:
    """Return pydantic's ``errors()`` as at most ``MAX_FIELD_ERRORS`` field errors.

    Locations start with ``body``, ``query``, ``path``, ``header`` or ``cookie``, as FastAPI's do;
    ``body`` is the parsed body that was refused.
    """
    return [
        FieldError(
            pointer=_body_pointer(error["loc"][1:], error["type"], body)
            if error["loc"][:1] == ("body",)
            else _parameter_pointer(error["loc"]),
            code=error["type"],
            message=_message(error),
        )
        for error in found[:MAX_FIELD_ERRORS]
    ]


def _message(error: Mapping[str, Any]) -> str:
    """Return a message that cannot hold the input.

    Pydantic's own are made of the schema. A ``PydanticCustomError`` without context is a literal
    that the service wrote; one with context, or a ``ValueError``, may have been made of the input.
    """
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if context.get("field_type") == "Value":  # a secret string; pydantic counts "items" of it
        bound = context.get("min_length", context.get("max_length"))
        return (
            f"String should have at {'least' if kind == 'too_short' else 'most'} {bound} characters"
        )
    if kind in _KNOWN or (kind not in _ECHOING and "ctx" not in error):
        return str(error["msg"])[:500]
    if kind == "value_error" and str(error["msg"]).startswith("value is not a valid email"):
        return "Input should be a valid email address"
    return _REPLACED.get(kind, "Input is not accepted")


def _parameter_pointer(loc: Sequence[str | int]) -> str:
    """Return ``query/page`` or ``query/ids/3``, without the union members pydantic tried."""
    place, *rest = (str(part) for part in loc or ("#",))
    name = [part for part in rest[:1] if _is_usual(part)]
    return "/".join([place, *name, *(part for part in rest[1:] if part.isdigit())])


def _body_pointer(loc: Sequence[str | int], kind: str, body: object) -> str:
    """Return a JSON pointer as a URI fragment: ``#/items/3/name``.

    Pydantic's location also names the members of a union that it tried (``int``, ``Cat``); walking
    the body shows which parts are real. It ends above a name that is too odd to be repeated.
    """
    parts: list[str] = []
    for index, part in enumerate(loc, start=1):
        if kind == "missing" and index == len(loc):
            pass
        elif isinstance(body, Mapping) and part in body:
            body = cast("Mapping[object, object]", body)[part]
        elif isinstance(body, list) and isinstance(part, int):
            body = cast("list[object]", body)[part]
        else:
            continue
        if not _is_usual(str(part)):
            break
        parts.append(quote(str(part).replace("~", "~0").replace("/", "~1"), safe="~@$:!*"))
    return "/".join(["#", *parts])


def _is_usual(name: str) -> bool:
    return len(name) <= MAX_NAME_CHARACTERS and name.isprintable()
