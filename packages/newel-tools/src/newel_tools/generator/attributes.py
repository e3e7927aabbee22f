"""One field of a plan as the templates need it: its column, its annotations, its test values."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from newel_tools.generator.naming import camel
from newel_tools.generator.samples import PYTHON, Samples, number, refused, samples
from newel_tools.plan.bounds import INT32, INT64, Default, FieldType
from newel_tools.plan.plan import Field

__all__ = ["RENAMED", "FieldView", "literal", "view_field"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldView:
    """Source for one field.

    ``annotation`` is what the schemas say, by the name ``alias`` if ``alias_of`` defines one;
    ``plain`` is the Python type of rows and answers; ``choices`` is the Literal that models define.
    ``default`` and ``column_default`` are what stands behind ``=`` in the schema and in the column.
    """

    name: str
    type: FieldType
    alias: str | None
    alias_of: str | None
    choices: str | None
    annotation: str
    plain: str
    column: str
    default: str | None
    column_default: str | None
    sent_default: str | None
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

    def line(self, mapped: str, flags: Sequence[str], default: str | None) -> str:
        """Return the line of a column: ``name: Mapped[str] = mapped_column(String(64))``."""
        arguments = [self.column] if self.column else []
        arguments += flags
        if default is not None:
            is_factory = default.startswith("default_factory=")
            arguments.append(default if is_factory else f"default={default}")
        value = f" = mapped_column({', '.join(arguments)})" if arguments else ""
        return f"{self.name}: Mapped[{mapped}]{value}"


_SORTABLE: Final = {"str", "int", "float", "decimal", "date", "datetime"}
_EXACT: Final = {"str", "int", "uuid", "email"}
_CHOICE_LENGTH: Final = 40

_SCHEMAS: Final = ("Base", "Create", "Query", "Read", "Update")
"""What the schemas of a resource are called, behind its own name."""

RENAMED: Final = {"date": "Date", "datetime": "DateTime"}
"""What a type is called in a class that has a field of the type's name."""


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
    if alias in {f"{owner}{schema}" for schema in _SCHEMAS}:
        alias = f"{alias}Field"
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
        default=_default(field, plain, column=False),
        column_default=_default(field, plain, column=True),
        sent_default=_sent_default(field),
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
    return PYTHON[field.type][0]


def _annotation(field: Field) -> str | None:
    """Return the ``Annotated`` of a bounded value, ``None`` where the plain type says it all."""
    write = _ANNOTATIONS.get(field.type)
    return None if write is None else write(field)


def _text(field: Field) -> str:
    least = f"min_length={number(field.minimum)}, " if field.minimum else ""
    # what the API docs make up by themselves, "string", is often refused
    shown = f", examples=[{samples(field).valid}]"
    return f"Annotated[Text, Field({least}max_length={_most(field)}{shown})]"


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


def _float(field: Field) -> str:
    return f"Annotated[float, Field({_between(field)}allow_inf_nan=False)]"


def _decimal(field: Field) -> str:
    """Bring values to their digits, so that an answer shows 1.50 before it is stored and after."""
    exponent = f'"0.{"1".zfill(field.scale)}"' if field.scale else "1"
    digits = f"max_digits={field.precision}, decimal_places={field.scale}"
    exact = f"AfterValidator(lambda value: value.quantize(Decimal({exponent})))"
    return f"Annotated[Decimal, Field({_between(field)}{digits}), {exact}]"


def _datetime(_: Field) -> str:
    """Keep a day from both ends of the calendar: in UTC it might lie beyond."""
    ends = "ge=datetime(1, 1, 2, tzinfo=UTC), le=datetime(9999, 12, 30, tzinfo=UTC)"
    return f"Annotated[AwareDatetime, Field({ends})]"


def _json(field: Field) -> str:
    return "JsonArray" if field.default == "[]" else "JsonObject"


def _email(field: Field) -> str:
    return f"Annotated[Email, Field(max_length={_most(field)})]"


def _url(field: Field) -> str:
    most = f"UrlConstraints(max_length={_most(field)})"
    return f"Annotated[HttpUrl, {most}, PlainSerializer(str)]"


_ANNOTATIONS: Final[dict[str, Callable[[Field], str]]] = {
    "str": _text,
    "text": _text,
    "int": _integer,
    "float": _float,
    "decimal": _decimal,
    "datetime": _datetime,
    "json": _json,
    "email": _email,
    "url": _url,
}


def _most(field: Field) -> str:
    return number(field.maximum or 0)


def _between(field: Field) -> str:
    least = "" if field.minimum is None else f"ge={number(field.minimum)}, "
    most = "" if field.maximum is None else f"le={number(field.maximum)}, "
    return least + most


def _column(field: Field) -> str:
    """Return the first argument of ``mapped_column``, empty where the annotation says it."""
    low, high = field.minimum or 0, field.maximum or 0
    columns = {
        **dict.fromkeys(("str", "email", "url"), f"String({_most(field)})"),
        "text": "Text",
        "int": "" if low >= INT32[0] and high <= INT32[1] else "BigInteger",
        "decimal": f"Numeric({field.precision}, {field.scale})",
        # SQL's null, not JSON's
        "json": "JSON(none_as_null=True)" if field.optional else "JSON",
        # longer than any choice, so that another one needs no migration
        "enum": f"String({_CHOICE_LENGTH})",
    }
    return columns.get(field.type, "")


def _default(field: Field, plain: str, *, column: bool) -> str | None:
    """Return the source of the default; of a factory in the form that the place wants."""
    value = field.default
    if value is None:
        return "None" if field.optional else None
    factory = _factory(field)
    if factory is not None:
        return f"default_factory={factory}" if column else f"Field(default_factory={factory})"
    match field.type:
        case "decimal":
            return f'Decimal("{_exact(field)}")'
        case "datetime" | "date":
            return f'{plain}.fromisoformat("{value}")'
        case _:
            return _constant(value)


def _sent_default(field: Field) -> str | None:
    """Return the default as an answer shows it; ``None`` if it has none or not always the same."""
    value = field.default
    if value is None:
        return "None" if field.optional else None
    if field.type in {"datetime", "date"}:
        return None
    if field.type == "json":
        return str(value)
    return f'"{_exact(field)}"' if field.type == "decimal" else _constant(value)


def _exact(field: Field) -> Decimal:
    exponent = Decimal(1).scaleb(-(field.scale or 0))
    return Decimal(str(field.default)).quantize(exponent)


def _constant(value: Default) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _factory(field: Field) -> str | None:
    """Return what makes a default that is not the same for every row."""
    match field.type, field.default:
        case "datetime", "now":
            return "utc_now"
        case "date", "today":
            return "lambda: utc_now().date()"
        case "json", shape:
            return "list[Any]" if shape == "[]" else "dict[str, Any]"
        case _:
            return None
