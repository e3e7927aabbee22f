"""Examples are what the schema accepts, as pydantic judges it."""

from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from newel_tools.openapi.document import Document
from newel_tools.openapi.examples import example_of
from newel_tools.openapi.shape import Shapes


class Size(IntEnum):
    SMALL = 3
    LARGE = 9


class Node(BaseModel):
    label: str
    children: list["Node"] = []
    up: "Node | None" = None


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: int = Field(ge=5)


TYPES: list[Any] = [
    str,
    Annotated[str, Field(min_length=9, max_length=12)],
    Annotated[str, Field(max_length=2)],
    int,
    Annotated[int, Field(gt=3)],
    Annotated[int, Field(le=-3)],
    Annotated[int, Field(lt=0)],
    float,
    Annotated[float, Field(gt=0, lt=1)],
    bool,
    UUID,
    datetime,
    date,
    Decimal,
    Size,
    Literal["a", "b"],
    list[int],
    Annotated[list[int], Field(min_length=3)],
    tuple[int, str],
    dict[str, int],
    int | None,
    int | str,
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Dog,
    Node,
    list[Node],
    None,
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_the_example_of_a_type_is_one_of_its_values(kind):
    adapter = TypeAdapter(kind)
    schema = adapter.json_schema(ref_template="#/components/schemas/{model}")
    components = {"schemas": schema.pop("$defs", {})}
    document = Document({"openapi": "3.1.0", "paths": {}, "components": components})

    example = example_of(schema, Shapes(document), sent=True)

    adapter.validate_python(example)


def example(schema: dict[str, Any], *, sent: bool = True) -> Any:
    return example_of(schema, Shapes(Document({"openapi": "3.1.0", "paths": {}})), sent=sent)


def test_what_the_schema_says_itself_wins():
    assert example({"type": "string", "examples": ["a", "b"]}) == "a"
    assert example({"type": "string", "example": "c"}) == "c"
    assert example({"type": "integer", "default": 20}) == 20


def test_what_is_only_read_is_not_sent():
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "readOnly": True},
            "password": {"type": "string", "writeOnly": True},
        },
    }

    assert set(example(schema)) == {"password"}
    assert set(example(schema, sent=False)) == {"id"}


def test_deep_objects_end():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        schema = {"type": "object", "required": ["a"], "properties": {"a": schema}}

    assert str(example(schema)).count("a") < 30
