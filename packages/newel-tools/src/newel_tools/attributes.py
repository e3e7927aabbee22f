"""One field of a plan as the templates need it: its column, its annotations, its values for tests."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from newel_tools.bounds import INT32, INT64
from newel_tools.plan import Field
from newel_tools.samples import Samples, number, refused, samples

__all__ = ["RENAMED", "FieldView", "camel", "literal", "view_field"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldView:
    """Source for one field.

    ``annotation`` is what the schemas say, by the name ``alias`` if ``alias_of`` defines one;
    ``plain`` is the Python type of rows and answers; ``choices`` is the Literal that models define.
    ``default`` and ``column_default`` are what stands behind ``=`` in the schema and in the column.
    """

    name: str
    type: str
    alias: str | None
    alias_of: str | None
    choices: str | None
    annotation: str
    plain: str
    column: str
    default: str | None
    column_default: str | None
    optional: bool
    unique: bool
    samples: Samples
    refused: tuple[tuple[str, str], ...]

    @property
    def mapped(self) -> str:
        """The type inside ``Mapped[...]`` and of the answer."""
        return f"{self.plain} | None" if self.optional else self.plain

    @property
    def required(self) -> bool:
        return not self.optional and self.default is None

    @property
    def sortable(self) -> bool:
        """Whether lists can be sorted by it: nulls sort differently in every database."""
        return self.type in _SORTABLE and not self.optional

    @property
    def filterable(self) -> bool:
        return self.type in {"bool", "enum"} or (self.unique and self.type in _EXACT)


_SORTABLE: Final = {"str", "int", "float", "decimal", "date", "datetime"}
_EXACT: Final = {"str", "int", "uuid", "email"}
_PLAIN: Final = {
    "str": "str",
    "text": "str",
    "int": "int",
    "float": "float",
    "decimal": "Decimal",
    "bool": "bool",
    "datetime": "datetime",
    "date": "date",
    "uuid": "UUID",
    "email": "str",
    "url": "str",
}
_CHOICE_LENGTH: Final = 40

RENAMED: Final = {"date": "Date", "datetime": "DateTime"}
"""What a type is called in a class that has a field of the type's name."""


def camel(name: str) -> str:
    """Return a name in snake_case as a class would have it."""
    return "".join(part.capitalize() for part in name.split("_"))


def literal(values: Collection[str]) -> str:
    """Return the ``Literal`` of some words."""
    return f"Literal[{', '.join(json.dumps(value) for value in values)}]"


def view_field(
    field: Field, *, owner: str, taken: Collection[str], hidden: Collection[str], thorough: bool
) -> FieldView:
    """Return the view of ``field``.

    ``owner`` is the class it belongs to, put before an alias that is one of the ``taken`` names;
    ``hidden`` are fields of the class, whose names its annotations cannot use for a type.
    """
    name = camel(field.name)
    alias = f"{owner}{name}" if name in taken else name
    plain = _plain(field, alias)
    plain = RENAMED[plain] if plain in hidden and plain in RENAMED else plain
    said = _annotation(field) or plain
    is_bounded = said.startswith("Annotated[")
    annotation = alias if is_bounded else said
    return FieldView(
        name=field.name,
        type=field.type,
        alias=alias if is_bounded else None,
        alias_of=said if is_bounded else None,
        choices=literal(field.choices) if field.type == "enum" else None,
        annotation=f"{annotation} | None" if field.optional else annotation,
        plain=plain,
        column=_column(field),
        default=_default(field, column=False),
        column_default=_default(field, column=True),
        optional=field.optional,
        unique=field.unique,
        samples=samples(field),
        refused=tuple(refused(field, thorough=thorough)),
    )


def _plain(field: Field, alias: str) -> str:
    if field.type == "enum":
        return alias
    if field.type == "json":
        return "list[Any]" if field.default == "[]" else "dict[str, Any]"
    return _PLAIN[field.type]


def _annotation(field: Field) -> str | None:
    """Return the ``Annotated`` of a bounded value, ``None`` where the plain type says it all."""
    match field.type:
        case "str" | "text":
            least = f"min_length={number(field.minimum)}, " if field.minimum else ""
            return f"Annotated[Text, Field({least}max_length={number(field.maximum or 0)})]"
        case "int":
            return _integer(field)
        case "float":
            return f"Annotated[float, Field({_between(field)}allow_inf_nan=False)]"
        case "decimal":
            exponent = f'"0.{"1".zfill(field.scale)}"' if field.scale else "1"
            digits = f"max_digits={field.precision}, decimal_places={field.scale}"
            exact = f"AfterValidator(lambda value: value.quantize(Decimal({exponent})))"
            return f"Annotated[Decimal, Field({_between(field)}{digits}), {exact}]"
        case "datetime":
            earliest = "datetime(1, 1, 2, tzinfo=UTC)"
            latest = "datetime(9999, 12, 30, tzinfo=UTC)"
            return f"Annotated[AwareDatetime, Field(ge={earliest}, le={latest})]"
        case "json":
            kind = "list[JsonValue]" if field.default == "[]" else "dict[str, JsonValue]"
            return f"Annotated[{kind}, Field(max_length=100)]"
        case "email":
            return f"Annotated[Email, Field(max_length={number(field.maximum or 0)})]"
        case "url":
            most = f"UrlConstraints(max_length={number(field.maximum or 0)})"
            return f"Annotated[HttpUrl, {most}, PlainSerializer(str)]"
        case _:
            return None


def _integer(field: Field) -> str:
    low, high = int(field.minimum or 0), int(field.maximum or 0)
    fits = INT32[0] <= low and high <= INT32[1]
    name, (least, most) = ("Int32", INT32) if fits else ("Int64", INT64)
    bounds = [f"ge={number(low)}"] if low > least else []
    bounds += [f"le={number(high)}"] if high < most else []
    if not bounds:
        return name
    kind = "int" if len(bounds) == 2 else name
    return f"Annotated[{kind}, Field({', '.join(bounds)})]"


def _between(field: Field) -> str:
    least = "" if field.minimum is None else f"ge={number(field.minimum)}, "
    most = "" if field.maximum is None else f"le={number(field.maximum)}, "
    return least + most


def _column(field: Field) -> str:
    """Return the first argument of ``mapped_column``, empty where the annotation says it."""
    match field.type:
        case "str" | "email" | "url":
            return f"String({number(field.maximum or 0)})"
        case "text":
            return "Text"
        case "int":
            low, high = field.minimum or 0, field.maximum or 0
            return "" if low >= INT32[0] and high <= INT32[1] else "BigInteger"
        case "decimal":
            return f"Numeric({field.precision}, {field.scale})"
        case "json":
            return "JSON(none_as_null=True)" if field.optional else "JSON"
        case "enum":
            # Longer than any choice, so that another one needs no migration.
            return f"String({_CHOICE_LENGTH})"
        case _:
            return ""


def _default(field: Field, *, column: bool) -> str | None:
    """Return the source of the default; of a factory in the form that the place wants."""
    value = field.default
    if value is None:
        return "None" if field.optional else None
    match field.type, value:
        case "datetime", "now":
            return _factory("utc_now", column=column)
        case "date", "today":
            return _factory("lambda: utc_now().date()", column=column)
        case "json", _:
            kind = "list[Any]" if value == "[]" else "dict[str, Any]"
            return _factory(kind, column=column)
        case "decimal", _:
            return f'Decimal("{_quantized(field, str(value))}")'
        case "datetime", _:
            return f'datetime.fromisoformat("{value}")'
        case "date", _:
            return f'date.fromisoformat("{value}")'
        case _:
            return json.dumps(value) if isinstance(value, str) else repr(value)


def _factory(call: str, *, column: bool) -> str:
    return f"default_factory={call}" if column else f"Field(default_factory={call})"


def _quantized(field: Field, value: str) -> str:
    return str(Decimal(value).quantize(Decimal(1).scaleb(-(field.scale or 0))))
