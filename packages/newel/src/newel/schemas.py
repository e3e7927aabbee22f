"""Building blocks of request and response bodies: strict input, bounded values, plain output.

    class AgentCreate(InputModel):
        name: Annotated[Text, Field(min_length=3, max_length=64)]
        runs: Int32 = 0

    class AgentRead(EntityRead):
        name: str

Input refuses what it does not know; output shows only what it declares.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EntityRead", "InputModel", "Int32", "Int64", "ReadModel", "Text", "omittable"]


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A string that every database stores: give it a ``max_length`` too.

PostgreSQL has no NUL; lone surrogates are refused because the pattern needs valid Unicode.
"""

Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
"""An integer that fits an ``INTEGER`` column."""

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits a ``BIGINT`` column."""


class InputModel(BaseModel):
    """A request body: unknown fields are refused, and so is ``null`` where a value belongs.

        class AgentUpdate(InputModel):
            name: Name = omittable()  # may be left out, must not be null
            description: Text | None = None  # may be left out, may be null

    Errors never repeat the input.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent: what a PATCH changes."""
        return self.model_dump(exclude_unset=True)


def omittable() -> Any:
    """Return the default of a field that may be left out although its type has no ``None``."""
    # A factory, because a default of None would show in the OpenAPI schema of a string.
    return Field(default_factory=lambda: None)


class ReadModel(BaseModel):
    """A response body, filled from an entity's attributes."""

    model_config: ClassVar[ConfigDict] = ConfigDict(from_attributes=True)


class EntityRead(ReadModel):
    """The fields that every entity answers with."""

    id: UUID
    created_at: datetime
    updated_at: datetime
    version: int
