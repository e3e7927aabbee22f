"""pydantic 1, in the words of pydantic 2: FastAPI worked with both up to 0.125."""

from __future__ import annotations

import decimal
import typing
from typing import Any

from .places import is_class

__all__ = ["fields_of", "info_of", "is_model", "validated_names", "validates_whole"]

_PLAIN = (bool, int, float, str, bytes, decimal.Decimal, list, set, frozenset)


def is_model(annotation: Any) -> bool:
    """Tell whether an annotation is a pydantic model, of either version."""
    return hasattr(annotation, "model_fields") or hasattr(annotation, "__fields__")


def fields_of(model: Any) -> dict[str, Any]:
    """Return a model's fields by name, each with what pydantic 2's ``FieldInfo`` has."""
    found = getattr(model, "model_fields", None)
    if found is not None:
        return dict(found)
    return {name: _Info(field) for name, field in model.__fields__.items()}


def info_of(field: Any) -> Any:
    """Return the ``FieldInfo`` of a route's parameter or body."""
    info: Any = field.field_info
    return info if hasattr(info, "annotation") else _Info(field)


def validated_names(model: Any) -> set[str]:
    """Return the fields of a pydantic 1 model that validators of the project's own look at."""
    fields: dict[str, Any] = {} if hasattr(model, "model_fields") else model.__fields__
    return {name for name, field in fields.items() if field.class_validators}


def validates_whole(model: Any) -> bool:
    """Tell whether a pydantic 1 model has validators for all its fields at once."""
    names = ("__pre_root_validators__", "__post_root_validators__")
    return any(getattr(model, name, None) for name in names)


class _Info:
    """One field of pydantic 1."""

    validation_alias = None
    serialization_alias = None
    deprecated = None

    def __init__(self, field: Any) -> None:
        kind: Any = field.outer_type_
        # The limits of `conint(ge=1)` are attributes of a class made for it, `regex` is a pattern.
        self.metadata = [field.field_info, kind, _Pattern(field.field_info)]
        if is_class(kind) and kind.__name__.startswith("Constrained"):
            kind = next(plain for plain in (*kind.__mro__, str) if plain in _PLAIN)
        self.annotation: Any = typing.Optional[kind] if field.allow_none else kind
        self.alias = field.alias
        self.default = field.default
        self.default_factory = field.default_factory
        self.description = field.field_info.description
        self.exclude = bool(getattr(field.field_info, "exclude", None))  # pydantic 1.8 has none
        self._required = field.required is True

    def is_required(self) -> bool:
        return self._required


class _Pattern:
    def __init__(self, info: Any) -> None:
        self.pattern = getattr(info, "regex", None)
