"""``newel.validation``: field errors that say where and what, and never repeat the input."""

import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    HttpUrl,
    Json,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from newel.errors import FieldError
from newel.validation import MAX_FIELD_ERRORS, field_errors

CANARY = "zqXw7"


def refuse(kind: Any, value: Any, *, place: str = "body") -> list[FieldError]:
    """Return the field errors of ``value`` sent where ``kind`` is wanted."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        found = [{**e, "loc": (place, *e["loc"])} for e in error.errors()]
        return field_errors(found, body=value)
    raise AssertionError("the value was accepted")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=3)]
    lines: list[dict[str, int]] = []
    amount: int | bool = 0
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    slashed: Annotated[int, Field(alias="a/b~c d")] = 0


class Colour(Enum):
    RED = "red"


class Reserved(BaseModel):
    name: str
    nick: str = ""
    pin: str = ""

    @field_validator("name")
    @classmethod
    def _not_admin(cls, value: str) -> str:
        raise PydanticCustomError("reserved", "This name is reserved.")

    @field_validator("nick")
    @classmethod
    def _echoes(cls, value: str) -> str:
        raise ValueError(f"{value} is bad")

    @field_validator("pin")
    @classmethod
    def _echoes_by_context(cls, value: str) -> str:
        raise PydanticCustomError("pin", "{pin} is bad", {"pin": value})


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        ({"name": "ab"}, ["#/name"]),
        ({}, ["#/name"]),
        ({"name": "abc", "lines": [{}, {"n": "x"}]}, ["#/lines/1/n"]),
        # A union's tried members are no part of the path: both alternatives name the field.
        ({"name": "abc", "amount": "x"}, ["#/amount", "#/amount"]),
        ({"name": "abc", "pet": {"kind": "cat", "lives": "x"}}, ["#/pet/lives"]),
        ({"name": "abc", "pet": {"kind": "cat"}}, ["#/pet/lives"]),
        ({"name": "abc", "nmae": 1}, ["#/nmae"]),
        ({"name": "abc", "a/b~c d": "x"}, ["#/a~1b~0c%20d"]),
        ("text", ["#"]),
    ],
)
def test_points_at_the_member_that_was_refused(value: Any, pointers: list[str]) -> None:
    assert [error.pointer for error in refuse(Order, value)] == pointers


@pytest.mark.parametrize("name", ["n" * 65, "a\nb", "\x00", "\x1b[31m", "\ud800"], ids=ascii)
def test_an_odd_name_of_an_unknown_member_is_not_repeated(name: str) -> None:
    assert [error.pointer for error in refuse(Order, {"name": "abc", name: 1})] == ["#"]


@pytest.mark.parametrize(
    ("loc", "pointer"),
    [
        (("query", "page"), "query/page"),
        (("query", "ids", 3), "query/ids/3"),
        (("query", "size", "int"), "query/size"),
        (("path", "agent_id"), "path/agent_id"),
        (("header", "x-token"), "header/x-token"),
        (("cookie", "session"), "cookie/session"),
        (("query",), "query"),
        ((), "#"),
        (("query", "\x1b[31m"), "query"),
    ],
)
def test_names_the_parameter_that_was_refused(loc: tuple[str | int, ...], pointer: str) -> None:
    [error] = field_errors([{"type": "int_parsing", "loc": loc, "msg": "m"}])

    assert error.pointer == pointer


@pytest.mark.parametrize(
    "kind",
    [
        *(int, float, bool, bytes, Decimal, UUID, date, datetime, time, timedelta, complex),
        *(list[int], dict[str, int], tuple[int, int], set[int], Order, HttpUrl, IPv4Address),
        *(Colour, Literal["a", "b"], EmailStr, AwareDatetime, Json[int], Base64Bytes),
        Annotated[str, Field(max_length=2)],
        Annotated[str, Field(pattern="^[a]+$")],
        Annotated[Cat | Dog, Field(discriminator="kind")],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        f"{CANARY}@",
        f"http://{CANARY}:{CANARY}@[",
        [CANARY],
        {CANARY: CANARY},
        {"kind": CANARY},
    ],
    ids=str,
)
def test_no_message_holds_the_input(kind: Any, value: Any) -> None:
    found: list[FieldError] = []
    with suppress(AssertionError):  # a few of them are good values
        found += refuse(kind, value)

    for error in found:
        assert CANARY not in error.message
        assert CANARY not in error.code
        # Letters of it count, too: pydantic says "found `z` at 1" of a UUID.
        assert not re.search(r"`[zqXw7]`", error.message)


def test_negative_control_pydantics_own_messages_do_hold_it() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[Cat | Dog, Field(discriminator="kind")]).validate_python(
            {"kind": CANARY}
        )

    assert CANARY in caught.value.errors()[0]["msg"]


def test_says_what_the_schema_asks_for() -> None:
    assert refuse(Order, {"name": "ab"})[0] == FieldError(
        pointer="#/name",
        code="string_too_short",
        message="String should have at least 3 characters",
    )


def test_a_validators_literal_message_is_shown_and_one_made_of_the_input_is_not() -> None:
    name, nick, pin = refuse(Reserved, {"name": "admin", "nick": CANARY, "pin": CANARY})

    assert (name.code, name.message) == ("reserved", "This name is reserved.")
    assert (nick.code, nick.message) == ("value_error", "Input is not accepted")
    assert (pin.code, pin.message) == ("pin", "Input is not accepted")


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (UUID, CANARY, "Input should be a valid UUID"),
        (EmailStr, CANARY, "Input should be a valid email address"),
        (SecretStr, 3, "Input should be a valid string"),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            {"kind": CANARY},
            "Input has a tag that is not one of the expected ones",
        ),
    ],
)
def test_has_words_of_its_own_where_pydantics_would_repeat(
    kind: Any, value: Any, message: str
) -> None:
    assert refuse(kind, value)[0].message == message


def test_names_a_bounded_number_of_fields_in_bounded_words() -> None:
    assert len(refuse(list[int], [CANARY] * 10_000)) == MAX_FIELD_ERRORS

    long = {"type": "reserved", "loc": ("body",), "msg": "m" * 10_000}
    assert len(field_errors([long])[0].message) == 500


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (CANARY, "String should have at least 8 characters"),
        (CANARY * 9, "String should have at most 32 characters"),
    ],
)
def test_a_secret_has_characters_not_items(value: str, message: str) -> None:
    [found] = refuse(Annotated[SecretStr, Field(min_length=8, max_length=32)], value)
    assert found.message == message
