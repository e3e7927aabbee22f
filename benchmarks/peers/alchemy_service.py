"""The service on Advanced Alchemy's FastAPI extension: a repository service, as its guide shows."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from advanced_alchemy.extensions.fastapi import (
    AdvancedAlchemy,
    SQLAlchemyAsyncConfig,
    filters,
    repository,
    service,
)
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.variants import hand
from benchmarks.variants.environment import Environment
from benchmarks.variants.models import Agent, User, make_engine, utc_now
from benchmarks.variants.schemas import AgentCreate, AgentPage, AgentRead, AgentUpdate

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])


class AgentService(service.SQLAlchemyAsyncRepositoryService[Agent]):
    class Repository(repository.SQLAlchemyAsyncRepository[Agent]):
        model_type = Agent

    repository_type = Repository


def get_session(request: Request) -> AsyncSession:
    session: AsyncSession = request.app.state.alchemy.provide_session()(request)
    return session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_agents(session: Session) -> AsyncGenerator[AgentService]:
    async with AgentService.new(session=session) as agents:
        yield agents


Agents = Annotated[AgentService, Depends(get_agents)]


async def current_user(request: Request, credentials: hand.Credentials, session: Session) -> User:
    if credentials is None:
        raise hand.unauthorized()
    return await hand.user_of(credentials.credentials, session, request.app.state.environment)


CurrentUser = Annotated[User, Depends(current_user)]


async def own_agent(agents: AgentService, user: User, agent_id: uuid.UUID) -> Agent:
    agent = await agents.get_one_or_none(id=agent_id, owner_id=user.id, deleted_at=None)
    if agent is None:
        raise HTTPException(404, "There is no such agent.")
    return agent


@router.get("", response_model=AgentPage)
async def list_agents(
    user: CurrentUser,
    agents: Agents,
    page: Annotated[int, Query(ge=1)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    found, total = await agents.get_many_and_count(
        filters.LimitOffset(limit=page_size, offset=(page - 1) * page_size),
        filters.OrderBy(field_name="created_at", sort_order="desc"),
        filters.OrderBy(field_name="id", sort_order="desc"),
        owner_id=user.id,
        deleted_at=None,
    )
    return {
        "items": found,
        "total": total,
        "page": page,
        "page_size": page_size,
        "pages": -(-total // page_size),
    }


@router.post("", status_code=201, response_model=AgentRead)
async def create_agent(data: AgentCreate, user: CurrentUser, agents: Agents) -> Any:
    return await agents.create({**data.model_dump(), "owner_id": user.id})


@router.get("/{agent_id}", response_model=AgentRead)
async def get_agent(agent_id: uuid.UUID, user: CurrentUser, agents: Agents) -> Any:
    return await own_agent(agents, user, agent_id)


@router.patch("/{agent_id}", response_model=AgentRead)
async def update_agent(
    agent_id: uuid.UUID, data: AgentUpdate, user: CurrentUser, agents: Agents
) -> Any:
    await own_agent(agents, user, agent_id)
    return await agents.update(data.model_dump(exclude_unset=True), item_id=agent_id)


@router.delete("/{agent_id}", status_code=204)
async def delete_agent(agent_id: uuid.UUID, user: CurrentUser, agents: Agents) -> None:
    await own_agent(agents, user, agent_id)
    await agents.update({"deleted_at": utc_now()}, item_id=agent_id)


def build() -> FastAPI:
    environment = Environment.read()
    app = FastAPI(title="agents")
    config = SQLAlchemyAsyncConfig(
        engine_instance=make_engine(environment.database_url), commit_mode="autocommit"
    )
    app.state.environment = environment
    app.state.alchemy = AdvancedAlchemy(config=config, app=app)
    app.include_router(router)
    return app
