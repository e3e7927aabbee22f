"""Values of a document, which may be anything: what is not of the kind that is wanted is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["as_list", "as_mapping", "as_texts"]


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return an object as it is, anything else as an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    """Return a list as it is, anything else as an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_texts(value: object) -> list[str]:
    """Return the texts of a list."""
    return [item for item in as_list(value) if isinstance(item, str)]
