"""The bodies, as pydantic models: the same fields in every variant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=3, max_length=64)]
Description = Annotated[str, Field(min_length=1, max_length=20_000)]
ModelName = Annotated[str, Field(min_length=1, max_length=128)]
SystemPrompt = Annotated[str, Field(min_length=10, max_length=20_000)]


class AgentCreate(BaseModel):
    """The body of POST."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description | None = None
    model_name: ModelName
    system_prompt: SystemPrompt
    config: dict[str, Any]
    is_active: bool = True


class AgentUpdate(BaseModel):
    """The body of PATCH: only what is sent is changed."""

    model_config = ConfigDict(extra="forbid")

    name: Name = ""
    description: Description | None = None
    model_name: ModelName = ""
    system_prompt: SystemPrompt = ""
    config: dict[str, Any] = Field(default_factory=dict)
    is_active: bool = True


class AgentRead(BaseModel):
    """An agent on the wire."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    created_at: datetime
    updated_at: datetime
    version: int
    owner_id: UUID
    name: str
    description: str | None
    model_name: str
    system_prompt: str
    config: dict[str, Any]
    is_active: bool


class AgentPage(BaseModel):
    """One page of agents on the wire."""

    items: list[AgentRead]
    total: int
    page: int
    page_size: int
    pages: int
