"""The service on Litestar with Advanced Alchemy's plugin, as their guides show."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from advanced_alchemy.extensions.litestar import (
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyInitPlugin,
    filters,
    providers,
    repository,
    service,
)
from fastapi import HTTPException
from litestar import Controller, Litestar, Request, Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException, NotFoundException, ValidationException
from litestar.params import Parameter
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.variants import hand
from benchmarks.variants.environment import Environment
from benchmarks.variants.models import Agent, User, make_engine, utc_now
from benchmarks.variants.schemas import AgentCreate, AgentPage, AgentRead, AgentUpdate


class AgentService(service.SQLAlchemyAsyncRepositoryService[Agent]):
    class Repository(repository.SQLAlchemyAsyncRepository[Agent]):
        model_type = Agent

    repository_type = Repository


async def current_user(request: Request, db_session: AsyncSession, state: State) -> User:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        raise NotAuthorizedException
    try:
        return await hand.user_of(token, db_session, state.environment)
    except HTTPException as error:
        raise NotAuthorizedException from error


async def own_agent(agents: AgentService, user: User, agent_id: uuid.UUID) -> Agent:
    agent = await agents.get_one_or_none(id=agent_id, owner_id=user.id, deleted_at=None)
    if agent is None:
        raise NotFoundException
    return agent


class AgentController(Controller):
    path = "/api/v1/agents"
    dependencies = {
        **providers.create_service_dependencies(AgentService, key="agents"),
        "user": Provide(current_user),
    }

    @get()
    async def list_agents(
        self,
        agents: AgentService,
        user: User,
        page: Annotated[int, Parameter(ge=1)] = 1,
        page_size: Annotated[int, Parameter(ge=1, le=100)] = 20,
    ) -> AgentPage:
        found, total = await agents.get_many_and_count(
            filters.LimitOffset(limit=page_size, offset=(page - 1) * page_size),
            filters.OrderBy(field_name="created_at", sort_order="desc"),
            filters.OrderBy(field_name="id", sort_order="desc"),
            owner_id=user.id,
            deleted_at=None,
        )
        return AgentPage(
            items=[AgentRead.model_validate(agent) for agent in found],
            total=total,
            page=page,
            page_size=page_size,
            pages=-(-total // page_size),
        )

    @post()
    async def create_agent(self, data: AgentCreate, agents: AgentService, user: User) -> AgentRead:
        agent = await agents.create({**data.model_dump(), "owner_id": user.id})
        return agents.to_schema(agent, schema_type=AgentRead)

    @get("/{agent_id:uuid}")
    async def get_agent(self, agent_id: uuid.UUID, agents: AgentService, user: User) -> AgentRead:
        agent = await own_agent(agents, user, agent_id)
        return agents.to_schema(agent, schema_type=AgentRead)

    @patch("/{agent_id:uuid}")
    async def update_agent(
        self, agent_id: uuid.UUID, data: AgentUpdate, agents: AgentService, user: User
    ) -> AgentRead:
        await own_agent(agents, user, agent_id)
        agent = await agents.update(data.model_dump(exclude_unset=True), item_id=agent_id)
        return agents.to_schema(agent, schema_type=AgentRead)

    @delete("/{agent_id:uuid}")
    async def delete_agent(self, agent_id: uuid.UUID, agents: AgentService, user: User) -> None:
        await own_agent(agents, user, agent_id)
        await agents.update({"deleted_at": utc_now()}, item_id=agent_id)


def unprocessable(_request: Any, error: ValidationException) -> Response[Any]:
    return Response({"detail": error.detail}, status_code=422)


def build() -> Litestar:
    environment = Environment.read()
    config = SQLAlchemyAsyncConfig(
        engine_instance=make_engine(environment.database_url),
        session_config=AsyncSessionConfig(expire_on_commit=False),
        before_send_handler="autocommit",
    )
    return Litestar(
        route_handlers=[AgentController],
        plugins=[SQLAlchemyInitPlugin(config=config)],
        state=State({"environment": environment}),
        exception_handlers={ValidationException: unprocessable},
        logging_config=None,
    )
