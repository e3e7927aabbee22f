"""Building blocks of request and response bodies: strict input, bounded values, plain output.

    class AgentCreate(InputModel):
        name: Annotated[Text, Field(min_length=3, max_length=64)]
        runs: Int32 = 0

    class AgentRead(EntityRead):
        name: str

Input refuses what it does not know; output shows only what it declares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, NoReturn, cast
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError, to_json

__all__ = [
    "JSON_BYTES",
    "JSON_LEVELS",
    "EntityRead",
    "InputModel",
    "Int32",
    "Int64",
    "JsonArray",
    "JsonObject",
    "ReadModel",
    "Text",
    "omittable",
]

JSON_BYTES: Final = 65_536
"""How long a ``JsonObject`` may be, written as JSON in UTF-8."""

JSON_LEVELS: Final = 20
"""How deep a ``JsonObject`` may be, itself counted."""


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A string that every database stores: give it a ``max_length`` too.

PostgreSQL has no NUL; lone surrogates are refused because the pattern needs valid Unicode.
"""

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""An integer that fits an ``INTEGER`` column."""

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits a ``BIGINT`` column."""


def _storable(value: object) -> object:
    """Refuse JSON that a database does not store as it came, or that takes long to walk through."""
    if not _is_plain(value):
        _walk_through(value)
    return value


def _is_plain(value: object) -> bool:
    """Tell at a glance that ``value`` is storable; what is not plain may be so, too."""
    try:
        text = to_json(value)
    except ValueError:  # too deep, or half of a surrogate pair
        return False
    is_small = 2 * len(text) <= JSON_BYTES and text.count(b"{") + text.count(b"[") <= JSON_LEVELS
    return is_small and not any(sign in text for sign in (b"\\u0000", b"NaN", b"Infinity"))


def _walk_through(value: object) -> None:
    level, seen = [value], 0
    for _ in range(JSON_LEVELS):
        seen += len(level)
        if seen > JSON_BYTES // 2:  # each takes two bytes at least
            _refuse("json_too_long", _TOO_LONG)
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                members = cast("dict[object, object]", part)
                _check_texts(members)
                below += members.values()
            elif isinstance(part, list):
                below += cast("list[object]", part)
            elif isinstance(part, str):
                _check_texts((part,))
            elif isinstance(part, float) and not math.isfinite(part):
                _refuse("json_number", "JSON has no NaN and no infinite numbers")
        level = below
    if level:
        _refuse("json_too_deep", f"JSON should have at most {JSON_LEVELS} levels")
    if len(json.dumps(value, ensure_ascii=False, default=str).encode()) > JSON_BYTES:
        _refuse("json_too_long", _TOO_LONG)


def _check_texts(texts: Iterable[object]) -> None:
    for text in texts:
        if "\0" in str(text):
            _refuse("json_nul", "Texts and names in JSON should not contain NUL")
        try:
            str(text).encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            _refuse("json_unicode", "Texts and names in JSON should be valid Unicode")


def _refuse(kind: Any, message: Any) -> NoReturn:
    raise PydanticCustomError(kind, message)


_TOO_LONG: Final = f"JSON should have at most {JSON_BYTES} bytes"

JsonObject = Annotated[dict[str, JsonValue], Field(max_length=1_000), BeforeValidator(_storable)]
"""A JSON object that every database stores and gives back: bounded, finite, valid Unicode."""

JsonArray = Annotated[list[JsonValue], Field(max_length=1_000), BeforeValidator(_storable)]
"""A JSON array with the bounds of ``JsonObject``."""


class InputModel(BaseModel):
    """A request body: unknown fields are refused, and so is ``null`` where a value belongs.

        class AgentUpdate(InputModel):
            name: Name = omittable()  # may be left out, must not be null
            description: Text | None = None  # may be left out, may be null

    Errors never repeat the input.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent: what a PATCH changes."""
        return self.model_dump(exclude_unset=True)


def omittable() -> Any:
    """Return the default of a field that may be left out although its type has no ``None``."""
    # A factory, because a default of None would show in the OpenAPI schema of a string.
    return Field(default_factory=lambda: None)


class ReadModel(BaseModel):
    """A response body, filled from an entity's attributes."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)


class EntityRead(ReadModel):
    """The fields that every entity answers with."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    version: int
