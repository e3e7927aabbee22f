"""The rules of agents."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from newel.concurrency import Versions, check_version
from newel.db import CurrentWork
from newel.pages import Slice
from newel.principal import Principal

from agent_management.agents.events import AgentCreated, AgentDeleted, AgentUpdated
from agent_management.agents.models import Agent
from agent_management.agents.repository import AgentRepository
from agent_management.agents.schemas import (
    AgentBase,
    AgentCreate,
    AgentQuery,
    AgentRead,
    AgentUpdate,
)


class AgentService:
    def __init__(self, work: CurrentWork, agents: Annotated[AgentRepository, Depends()]) -> None:
        self.work = work
        self.agents = agents

    async def list(self, caller: Principal, query: AgentQuery) -> Slice[AgentRead]:
        return await self.agents.reading(AgentRead).page(query)

    async def get(self, caller: Principal, agent_id: UUID) -> AgentRead:
        return await self.agents.reading(AgentRead).get(agent_id)

    async def create(self, caller: Principal, data: AgentCreate) -> Agent:
        agent = await self.agents.add(Agent(owner_id=caller.user_id, **data.model_dump()))
        self.work.publish(AgentCreated(id=agent.id, owner_id=agent.owner_id))
        return agent

    async def replace(
        self, caller: Principal, agent_id: UUID, data: AgentBase, expected: Versions
    ) -> Agent:
        return await self._change(agent_id, data.model_dump(), expected)

    async def update(
        self, caller: Principal, agent_id: UUID, data: AgentUpdate, expected: Versions
    ) -> Agent:
        return await self._change(agent_id, data.changes(), expected)

    async def delete(self, caller: Principal, agent_id: UUID, expected: Versions) -> None:
        agent = await self.agents.get_changeable(agent_id)
        check_version(agent.version, expected)
        await self.agents.delete(agent)
        self.work.publish(AgentDeleted(id=agent_id))

    async def _change(
        self, agent_id: UUID, changes: Mapping[str, Any], expected: Versions
    ) -> Agent:
        agent = await self.agents.get_changeable(agent_id)
        check_version(agent.version, expected)
        await self.agents.update(agent, changes)
        self.work.publish(AgentUpdated(id=agent_id, fields=tuple(changes)))
        return agent
