"""JSON as it comes: what should be an object or a list, and may be anything."""

from __future__ import annotations

from typing import Any, cast

__all__ = ["list_of", "object_of"]


def object_of(value: Any) -> dict[str, Any]:
    """Return a JSON object; ``{}`` for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """Return a JSON list; ``[]`` for anything else."""
    return cast("list[Any]", value) if isinstance(value, list | tuple) else []
