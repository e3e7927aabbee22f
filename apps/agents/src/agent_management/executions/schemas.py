"""Executions on the wire: bounded on the way in, listed on the way out."""

from typing import Annotated, Literal
from uuid import UUID

from newel.pages import PageQuery
from newel.schemas import EntityRead, InputModel, Text, omittable
from pydantic import Field

from agent_management.executions.models import Status

ExecutionQueryField = Annotated[Text, Field(min_length=1, max_length=500, examples=["Query 1"])]
Answer = Annotated[Text, Field(min_length=1, max_length=20_000, examples=["Answer 1"])]


class ExecutionBase(InputModel):
    """The body of PUT: what is left out gets its default."""

    agent_id: UUID
    query: ExecutionQueryField
    answer: Answer | None = None


class ExecutionCreate(ExecutionBase):
    """The body of POST."""


class ExecutionUpdate(InputModel):
    """The body of PATCH: what is left out stays as it is."""

    agent_id: UUID = omittable()
    query: ExecutionQueryField = omittable()
    answer: Answer | None = None


class ExecutionRead(EntityRead):
    owner_id: UUID
    agent_id: UUID
    query: str
    answer: str | None
    status: Status


class ExecutionQuery(PageQuery):
    """How a list is sorted and filtered."""

    sort: Literal["created_at", "-created_at", "query", "-query"] = "-created_at"
    agent_id: UUID | None = None
    status: Status | None = None
