"""The typed model of values: what an annotation allows, what a model's fields are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Default

__all__ = ["Fact", "Field", "Limits", "Model", "Place", "Shape"]


class Fact(BaseModel):
    """Something that is true of the reviewed project; it does not change."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Place(Fact):
    """Where a callable or a class is written.

    ``file`` is relative to the project with forward slashes, ``None`` for code that is not the
    project's. ``line`` is its first line, decorators included; 0 for a class, whose line
    `Source.definition` knows. ``kind`` is `function`, `coroutine`, `generator`,
    `async_generator`, `class`, `instance` or `async_instance`.
    """

    name: str
    module: str
    file: str | None = None
    line: int = 0
    kind: str = "function"

    @property
    def full_name(self) -> str:
        """Return `module.QualName`."""
        return f"{self.module}.{self.name}"


class Limits(Fact):
    """The constraints of a value, pydantic's and annotated-types' names."""

    gt: Any = None
    ge: Any = None
    lt: Any = None
    le: Any = None
    multiple_of: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    max_digits: int | None = None
    decimal_places: int | None = None


class Shape(Fact):
    """What an annotation allows, unions flattened.

    ``types`` are the alternatives without None: `str`, `int`, `datetime`, `Decimal`, `UUID`,
    `list`, `dict`, `model`, `enum`, `Literal`, or `module.QualName`. ``models`` names those of
    `Facts.models` among them, ``values`` what an enum or a Literal allows. ``item`` is what a
    container holds (a dict: its values). ``validated``: code of the project checks it further.
    """

    text: str = ""
    nullable: bool = False
    types: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    values: tuple[Any, ...] | None = None
    item: Shape | None = None
    limits: Limits = Limits()
    validated: bool = False
    secret: bool = False

    def leads_to(self) -> Iterator[str]:
        """Yield the names of the models in this shape, those inside containers too."""
        yield from self.models
        if self.item is not None:
            yield from self.item.leads_to()


class Field(Fact):
    """A field of a model, or a parameter of a route.

    ``alias`` is its name in requests, ``serialized_as`` in answers. ``default`` is a plain value,
    ``{"type": ...}`` for others, ``None`` also where there is none: see ``required``.
    ``source`` of a parameter: `path`, `query`, `header`, `cookie`, `body`, `form` or `file`.
    """

    name: str
    alias: str = ""
    serialized_as: str = ""
    required: bool = False
    default: Any = None
    default_factory: str | None = None
    description: str | None = None
    exclude: bool = False
    deprecated: bool = False
    computed: bool = False
    shape: Shape = Shape()
    source: str | None = None


class Model(Place):
    """A pydantic model. ``table``: it is an SQLModel entity too. ``bases`` are full names.

    ``checked_whole``: a model validator of the project checks it as a whole.
    """

    bases: tuple[str, ...] = ()
    table: bool = False
    config: dict[str, Any] = Default(default_factory=dict[str, Any])
    checked_whole: bool = False
    fields: tuple[Field, ...] = ()

    def field(self, name: str) -> Field | None:
        """Return the field of this name, or of this name in requests."""
        return next((f for f in self.fields if name in (f.name, f.alias)), None)
