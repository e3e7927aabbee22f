"""What a refused request says about its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from newel_tools.prove.answer import Answer

__all__ = ["refused_fields"]


def refused_fields(answer: Answer) -> tuple[str, ...]:
    """Return the names of the fields that an answer complains about, innermost names.

    FastAPI's `detail[].loc`, RFC 9457 problems' `errors[].pointer`, and the like.
    """
    return tuple(dict.fromkeys(_names(answer.json)))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _names(item)
    elif isinstance(value, dict):
        said = cast("dict[str, Any]", value)
        place = said.get("loc") or said.get("pointer") or said.get("field")
        if isinstance(place, list):
            words = [part for part in cast("list[Any]", place) if isinstance(part, str)]
            yield from words[-1:]
        elif isinstance(place, str):
            words = [part for part in re.split(r"[/.#]", place) if part and not part.isdigit()]
            yield from words[-1:]
        for inner in said.values():
            if isinstance(inner, dict | list):
                yield from _names(inner)
