"""The shapes of values: annotations, their constraints, pydantic models and their fields."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import sys
import types
import typing
import uuid
from typing import Any

from . import older
from .places import Places, class_of, is_class, plain, type_name

__all__ = ["Shapes"]

_NAMES: dict[Any, str] = {
    dt.datetime: "datetime",
    dt.date: "date",
    dt.time: "time",
    dt.timedelta: "timedelta",
    decimal.Decimal: "Decimal",
    uuid.UUID: "UUID",
    type(None): "None",
    Any: "Any",
}
_CONTAINERS = {
    list: "list",
    set: "set",
    frozenset: "frozenset",
    tuple: "tuple",
    dict: "dict",
}
_LIMITS = (
    "gt",
    "ge",
    "lt",
    "le",
    "multiple_of",
    "min_length",
    "max_length",
    "pattern",
    "max_digits",
    "decimal_places",
    "strict",
    "allow_inf_nan",
)
_UNIONS = tuple(
    kind for kind in (typing.Union, getattr(types, "UnionType", None)) if kind is not None
)
_DEPTH = 8


class Shapes:
    """Describes annotations; collects each model that one of them leads to, once."""

    def __init__(self, places: Places) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self._places = places
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no id is used again

    def of(self, annotation: Any, metadata: Any = (), *, depth: int = _DEPTH) -> dict[str, Any]:
        """Describe one annotation with the constraints of its ``metadata``."""
        shape: dict[str, Any] = {"text": _text(annotation), "nullable": False}
        limits: dict[str, Any] = {}
        validated = self._walk(annotation, shape, limits, depth)
        validated = _read_metadata(metadata, limits) or validated
        shape["limits"] = limits
        shape["validated"] = validated
        return shape

    def _walk(self, annotation: Any, shape: dict[str, Any], limits: Any, depth: int) -> bool:
        """Fill ``shape`` and ``limits``; tell whether a validator of the project's own is in it."""
        annotation = _resolved(annotation)
        origin = typing.get_origin(annotation)
        arguments = typing.get_args(annotation)
        if origin is typing.Annotated:
            validated = self._walk(arguments[0], shape, limits, depth)
            return _read_metadata(arguments[1:], limits) or validated
        if origin in _UNIONS:
            found = [self._walk(part, shape, limits, depth) for part in arguments]  # all of them
            return any(found)
        if annotation is None or annotation is type(None):
            shape["nullable"] = True
            return False
        if origin is typing.Literal:
            _listed(shape, "values").extend(plain(value) for value in arguments)
            _add(shape, "Literal")
            return False
        container = _container(origin or annotation)
        if container is not None:
            self._container(container, arguments, shape, depth)
            return False
        self._leaf(annotation, shape)
        return False

    def _container(self, name: str, arguments: Any, shape: dict[str, Any], depth: int) -> None:
        _add(shape, name)
        inner = [part for part in arguments if part is not Ellipsis]
        if name == "dict":
            inner = inner[1:]
        if inner and depth:
            shape["item"] = self.of(inner[0], depth=depth - 1)
            for other in inner[1:]:
                self.of(other, depth=depth - 1)

    def _leaf(self, annotation: Any, shape: dict[str, Any]) -> None:
        if is_class(annotation) and older.is_model(annotation):
            _listed(shape, "models").append(self.model(annotation))
            _add(shape, "model")
        elif is_class(annotation) and issubclass(annotation, enum.Enum):
            _listed(shape, "values").extend(plain(item.value) for item in annotation)
            _add(shape, "enum")
        elif is_class(annotation):
            _add(shape, _NAMES.get(annotation) or type_name(annotation))
            if type_name(annotation).startswith(("pydantic.types.Secret", "pydantic.Secret")):
                shape["secret"] = True
        else:
            _add(shape, _NAMES.get(annotation) or _text(annotation))

    def model(self, model: Any) -> str:
        """Describe a pydantic model once, and return the name it is listed by."""
        if id(model) in self._names:
            return self._names[id(model)]
        name = type_name(model)
        while name in self.models:
            name += "'"
        self._names[id(model)] = name
        self._kept.append(model)
        described = self.models[name] = self._places.of(model)
        described["bases"] = [type_name(base) for base in model.__mro__[1:-1] if _own(base)]
        described["table"] = hasattr(model, "__table__")
        described["config"] = _config(model)
        described["checked_whole"] = _model_validators(model)
        fields = _listed(described, "fields")
        checked = _validated_fields(model)
        for field, info in older.fields_of(model).items():
            fields.append(self.field(field, info, validated=field in checked))
        for field, decorator in _decorators(model, "computed_fields").items():
            shape = self.of(getattr(decorator.info, "return_type", Any))
            fields.append({"name": field, "computed": True, "shape": shape})
        return name

    def field(self, name: str, info: Any, *, validated: bool = False) -> dict[str, Any]:
        """Describe one field, or one parameter of a route: both are pydantic's ``FieldInfo``."""
        shape = self.of(info.annotation, info.metadata)
        shape["validated"] = shape["validated"] or validated
        alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
        default = getattr(info, "default", None)
        missing = type(default).__name__ in ("PydanticUndefinedType", "ellipsis")
        return {
            "name": name,
            "alias": alias or name,
            "serialized_as": info.serialization_alias or name,
            "required": bool(info.is_required()),
            "default": None if missing else plain(default),
            "default_factory": _factory(info),
            "description": info.description,
            "exclude": bool(info.exclude),
            "deprecated": bool(getattr(info, "deprecated", None)),
            "shape": shape,
        }


def _resolved(annotation: Any) -> Any:
    """Return what `type X = ...` or `NewType` stands for."""
    for _ in range(_DEPTH):
        if type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        else:
            break
    return annotation


def _container(kind: Any) -> str | None:
    if kind in _CONTAINERS:
        return _CONTAINERS[kind]
    module = getattr(kind, "__module__", "")
    if module == "collections.abc" and kind.__name__ not in ("Callable", "Hashable"):
        return "dict" if "Mapping" in kind.__name__ else "list"
    return None


def _listed(shape: dict[str, Any], name: str) -> list[Any]:
    found: list[Any] = shape.setdefault(name, [])
    return found


def _add(shape: dict[str, Any], name: str) -> None:
    names = _listed(shape, "types")
    if name not in names:
        names.append(name)


def _read_metadata(metadata: Any, limits: dict[str, Any]) -> bool:
    """Collect constraints; tell whether there is a validator function."""
    validated = False
    for item in metadata or ():
        if type(item).__name__.endswith("Validator"):
            validated = True
        inner = getattr(item, "metadata", None)
        if isinstance(inner, (list, tuple)):
            validated = _read_metadata(inner, limits) or validated
        for name in _LIMITS:
            value = getattr(item, name, None)
            if value is not None and not callable(value):
                limits[name] = plain(getattr(value, "pattern", value))
    return validated


def _text(annotation: Any) -> str:
    if is_class(annotation) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")[:300]


def _factory(info: Any) -> str | None:
    factory = getattr(info, "default_factory", None)
    return (
        None if factory is None else getattr(factory, "__qualname__", type_name(class_of(factory)))
    )


def _own(base: Any) -> bool:
    return getattr(base, "__module__", "").partition(".")[0] not in ("typing", "abc", "builtins")


def _config(model: Any) -> dict[str, Any]:
    kept = ("extra", "from_attributes", "populate_by_name", "str_max_length", "str_min_length")
    config: Any = getattr(model, "model_config", None) or {}
    return {name: plain(config[name]) for name in kept if config.get(name) is not None}


def _decorators(model: Any, kind: str) -> dict[str, Any]:
    return getattr(getattr(model, "__pydantic_decorators__", None), kind, None) or {}


def _model_validators(model: Any) -> bool:
    root = getattr(model, "__pydantic_decorators__", None)
    named = _decorators(model, "model_validators") or getattr(root, "root_validators", None)
    return bool(named) or older.validates_whole(model)


def _validated_fields(model: Any) -> set[str]:
    found = older.validated_names(model)
    for kind in ("field_validators", "validators"):
        for decorator in _decorators(model, kind).values():
            found.update(getattr(decorator.info, "fields", ()))
    if "*" in found:
        return set(older.fields_of(model))
    return found


if sys.version_info < (3, 9):  # noqa: UP036 - the probe's interpreter is the project's, not ours
    raise SystemExit("the probe needs Python 3.9 or newer")
