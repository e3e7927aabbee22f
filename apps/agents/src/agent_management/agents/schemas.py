"""Agents on the wire: bounded on the way in, listed on the way out."""

from typing import Annotated, Any, Literal
from uuid import UUID

from newel.pages import PageQuery
from newel.schemas import EntityRead, InputModel, JsonObject, Text, omittable
from pydantic import Field

Name = Annotated[Text, Field(min_length=3, max_length=64, examples=["Name 1"])]
Description = Annotated[Text, Field(min_length=1, max_length=20_000, examples=["Description 1"])]
ModelName = Annotated[Text, Field(min_length=1, max_length=128, examples=["Model name 1"])]
SystemPrompt = Annotated[
    Text, Field(min_length=10, max_length=20_000, examples=["System prompt 1"])
]


class AgentBase(InputModel):
    """The body of PUT: what is left out gets its default."""

    name: Name
    description: Description | None = None
    model_name: ModelName
    system_prompt: SystemPrompt
    config: JsonObject
    is_active: bool = True


class AgentCreate(AgentBase):
    """The body of POST."""


class AgentUpdate(InputModel):
    """The body of PATCH: what is left out stays as it is."""

    name: Name = omittable()
    description: Description | None = None
    model_name: ModelName = omittable()
    system_prompt: SystemPrompt = omittable()
    config: JsonObject = omittable()
    is_active: bool = omittable()


class AgentRead(EntityRead):
    owner_id: UUID
    name: str
    description: str | None
    model_name: str
    system_prompt: str
    config: dict[str, Any]
    is_active: bool


class AgentQuery(PageQuery):
    """How a list is sorted and filtered."""

    sort: Literal["created_at", "-created_at", "name", "-name", "model_name", "-model_name"] = (
        "-created_at"
    )
    is_active: bool | None = None
