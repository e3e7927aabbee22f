"""Fields as source: columns, annotations and defaults for each type."""

from __future__ import annotations

import pytest

from newel_tools.generator.attributes import FieldView, literal, view_field
from newel_tools.plan.fields import read_line
from newel_tools.plan.plan import Field


def view(line: str, name: str = "some_field", **how: set[str]) -> FieldView:
    field = read_line(name, line)
    assert isinstance(field, Field)
    taken, hidden = how.get("taken", set()), how.get("hidden", set())
    return view_field(field, owner="Thing", taken=taken, hidden=hidden, thorough=True)


def column(line: str, **how: set[str]) -> str:
    found = view(line, **how)
    return found.line(found.mapped, [], found.column_default).removeprefix("some_field: ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("str(64)", "Mapped[str] = mapped_column(String(64))"),
        ("text optional", "Mapped[str | None] = mapped_column(Text, default=None)"),
        ("int", "Mapped[int]"),
        ("int(0..5000000000)", "Mapped[int] = mapped_column(BigInteger)"),
        ("float = 0.5", "Mapped[float] = mapped_column(default=0.5)"),
        (
            "decimal(12,2) = 1",
            'Mapped[Decimal] = mapped_column(Numeric(12, 2), default=Decimal("1.00"))',
        ),
        ("bool = true", "Mapped[bool] = mapped_column(default=True)"),
        ("datetime = now", "Mapped[datetime] = mapped_column(default_factory=utc_now)"),
        (
            "date = today",
            "Mapped[date] = mapped_column(default_factory=lambda: utc_now().date())",
        ),
        (
            "date = 2030-01-01",
            'Mapped[date] = mapped_column(default=date.fromisoformat("2030-01-01"))',
        ),
        ("uuid", "Mapped[UUID]"),
        ("json", "Mapped[dict[str, Any]] = mapped_column(JSON)"),
        ("json = []", "Mapped[list[Any]] = mapped_column(JSON, default_factory=list[Any])"),
        (
            "json optional",
            "Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)",
        ),
        ("email", "Mapped[str] = mapped_column(String(254))"),
        ("url", "Mapped[str] = mapped_column(String(2048))"),
        ("enum[a,b] = a", 'Mapped[SomeField] = mapped_column(String(40), default="a")'),
    ],
)
def test_columns(line: str, expected: str) -> None:
    assert column(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "str(3..64)",
            'Annotated[Text, Field(min_length=3, max_length=64, examples=["Some field 1"])]',
        ),
        (
            "text",
            'Annotated[Text, Field(min_length=1, max_length=20_000, examples=["Some field 1"])]',
        ),
        ("int(0..)", "Annotated[Int32, Field(ge=0)]"),
        ("int(0..100)", "Annotated[int, Field(ge=0, le=100)]"),
        ("float(0..1)", "Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]"),
        ("email", "Annotated[Email, Field(max_length=254)]"),
    ],
)
def test_what_comes_in_is_bounded_by_an_alias(line: str, expected: str) -> None:
    found = view(line)
    assert (found.annotation, found.alias, found.alias_of) == ("SomeField", "SomeField", expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("int", "Int32"), ("bigint", "Int64"), ("bool", "bool"), ("json", "JsonObject")],
)
def test_what_is_bounded_already_needs_no_alias(line: str, expected: str) -> None:
    found = view(line)
    assert (found.annotation, found.alias) == (expected, None)


def test_an_alias_stays_clear_of_names_that_are_taken() -> None:
    assert view("str", name="text", taken={"Text"}).alias == "ThingText"


@pytest.mark.parametrize(("name", "taken"), [("query", {"Query"}), ("thing_query", set[str]())])
def test_an_alias_stays_clear_of_the_schemas_of_its_resource(name: str, taken: set[str]) -> None:
    assert view("str(64)", name, taken=taken).alias == "ThingQueryField"


def test_a_type_stays_clear_of_a_field_of_its_name() -> None:
    assert view("date", name="due_on", hidden={"date"}).mapped == "Date"
    assert view("date = 2030-01-01", hidden={"date"}).default == 'Date.fromisoformat("2030-01-01")'


def test_a_field_is_required_without_a_default() -> None:
    assert view("str").required
    assert not view("str optional").required
    assert not view("bool = true").required


def test_lists_are_sorted_by_what_has_an_order_and_is_never_null() -> None:
    assert view("int").sortable
    assert not view("int optional").sortable
    assert not view("json").sortable


def test_lists_are_filtered_by_what_has_few_values_or_names_one_row() -> None:
    assert view("enum[a,b]").filterable
    assert view("str unique").filterable
    assert not view("str").filterable


def test_a_default_may_have_as_many_digits_as_its_field() -> None:
    digits = "12345.0123456789"
    assert view(f"decimal(15,10) = {digits}").default == f'Decimal("{digits}")'
    assert view(f"decimal(15,10) = {digits}").sent_default == f'"{digits}"'


def test_a_default_is_compared_where_it_is_always_the_same() -> None:
    assert view("bool = true").sent_default == "True"
    assert view("str optional").sent_default == "None"
    assert view("json = {}").sent_default == "{}"
    assert view("datetime = now").sent_default is None
    assert view("str").sent_default is None


def test_choices_are_literals() -> None:
    assert literal(["a", "b"]) == 'Literal["a", "b"]'
    assert view("enum[a,b] optional").annotation == "SomeField | None"
