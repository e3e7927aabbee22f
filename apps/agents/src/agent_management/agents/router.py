"""Agents over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from newel.auth import requires
from newel.concurrency import IfMatch, Tagged
from newel.modules import Module
from newel.pages import Page, Slice
from newel.principal import Principal

from agent_management.agents.models import Agent
from agent_management.agents.schemas import (
    AgentBase,
    AgentCreate,
    AgentQuery,
    AgentRead,
    AgentUpdate,
)
from agent_management.agents.service import AgentService

router = APIRouter(prefix="/agents", tags=["agents"])

Agents = Annotated[AgentService, Depends()]
Reader = Annotated[Principal, requires("agents:read")]
Writer = Annotated[Principal, requires("agents:write")]


@router.get(
    "",
    response_model=Page[AgentRead],
    summary="List agents",
    response_description="One page of the agents you may see.",
)
async def list_agents(
    query: Annotated[AgentQuery, Query()], agents: Agents, caller: Reader
) -> Slice[AgentRead]:
    return await agents.list(caller, query)


@router.post(
    "",
    status_code=201,
    response_model=AgentRead,
    summary="Create an agent",
    response_description="The new agent; Location is its address.",
)
async def create_agent(data: AgentCreate, agents: Agents, caller: Writer, tagged: Tagged) -> Agent:
    return tagged.new(await agents.create(caller, data))


@router.get(
    "/{agent_id}",
    response_model=AgentRead,
    summary="Read an agent",
    response_description="The agent; ETag is its version.",
)
async def get_agent(agent_id: UUID, agents: Agents, caller: Reader, tagged: Tagged) -> AgentRead:
    return tagged(await agents.get(caller, agent_id))


@router.put(
    "/{agent_id}",
    response_model=AgentRead,
    summary="Replace an agent",
    response_description="The agent as it is now; ETag is its version.",
)
async def replace_agent(
    agent_id: UUID,
    data: AgentBase,
    agents: Agents,
    caller: Writer,
    if_match: IfMatch,
    tagged: Tagged,
) -> Agent:
    return tagged(await agents.replace(caller, agent_id, data, if_match))


@router.patch(
    "/{agent_id}",
    response_model=AgentRead,
    summary="Change an agent",
    response_description="The agent as it is now; ETag is its version.",
)
async def update_agent(
    agent_id: UUID,
    data: AgentUpdate,
    agents: Agents,
    caller: Writer,
    if_match: IfMatch,
    tagged: Tagged,
) -> Agent:
    return tagged(await agents.update(caller, agent_id, data, if_match))


@router.delete("/{agent_id}", status_code=204, summary="Delete an agent")
async def delete_agent(agent_id: UUID, agents: Agents, caller: Writer, if_match: IfMatch) -> None:
    await agents.delete(caller, agent_id, if_match)


module = Module(name="agents", routers=[router], description="Agents of the user who made them.")
