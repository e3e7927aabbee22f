"""The service on FastAPI-Restly: one `AsyncRestView` with a scope, as its guide shows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

import fastapi_restly as fr
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, Field
from sqlalchemy import Select, func, select

from benchmarks.variants import hand
from benchmarks.variants.environment import Environment
from benchmarks.variants.models import Agent, User, make_engine, utc_now
from benchmarks.variants.schemas import AgentCreate, AgentRead, AgentUpdate

T = TypeVar("T")


class Envelope(BaseModel, Generic[T]):
    data: Sequence[T] = Field(serialization_alias="items")
    total_count: int = Field(serialization_alias="total")
    page: int
    page_size: int
    total_pages: int = Field(serialization_alias="pages")


async def current_user(
    request: Request, credentials: hand.Credentials, session: fr.AsyncSessionDep
) -> User:
    if credentials is None:
        raise hand.unauthorized()
    return await hand.user_of(credentials.credentials, session, request.app.state.environment)


def current_user_id(user: Annotated[User, Depends(current_user)]) -> uuid.UUID:
    return user.id


class Current(fr.ContextNamespace):
    user_id: fr.ContextParam[uuid.UUID]


class AgentClauses(fr.ClauseNamespace):
    model = Agent
    own = fr.where_clause(Agent.owner_id == Current.user_id)
    live = fr.where_clause(Agent.deleted_at.is_(None))
    default_scope = fr.all_of(own, live)


class AgentView(fr.AsyncRestView):
    prefix = "/api/v1/agents"
    model = Agent
    schema = AgentRead
    schema_response = AgentRead
    schema_create = AgentCreate
    schema_update = AgentUpdate
    pagination = fr.NumberedPagination(default_page_size=20, max_page_size=100, envelope=Envelope)
    dependencies = [Current.depends(user_id=current_user_id)]

    def apply_list_params(self, query: Select[Any], list_params: Any) -> Select[Any]:
        return super().apply_list_params(query.order_by(Agent.created_at.desc()), list_params)

    async def count(self, query: Select[Any]) -> int:
        """Count without DISTINCT: PostgreSQL cannot compare `json`, and nothing is joined."""
        rows = query.order_by(None).limit(None).offset(None).subquery()
        return await self.session.scalar(select(func.count()).select_from(rows)) or 0

    async def create(self, schema_obj: AgentCreate) -> Agent:
        agent = await self.make_new_object(schema_obj)
        agent.owner_id = Current.user_id()
        return await self.save_object(agent)

    async def delete(self, obj: Agent) -> None:
        obj.deleted_at = utc_now()


def build() -> FastAPI:
    environment = Environment.read()
    app = FastAPI(title="agents")
    app.state.environment = environment
    fr.configure(app, async_engine=make_engine(environment.database_url))
    fr.include_view(app, AgentView)
    return app
