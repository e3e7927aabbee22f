"""The service on FastCRUD: its `FastCRUD` object in the endpoints, as its guide shows."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Query
from fastcrud import FastCRUD
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.variants import hand
from benchmarks.variants.hand import CurrentUser, Session
from benchmarks.variants.models import Agent, User
from benchmarks.variants.schemas import AgentCreate, AgentPage, AgentRead, AgentUpdate

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
agents = FastCRUD(Agent)


async def own_agent(session: AsyncSession, user: User, agent_id: uuid.UUID) -> dict[str, Any]:
    found = await agents.get(
        session, schema_to_select=AgentRead, id=agent_id, owner_id=user.id, deleted_at=None
    )
    if found is None:
        raise HTTPException(404, "There is no such agent.")
    return found


@router.get("", response_model=AgentPage)
async def list_agents(
    user: CurrentUser,
    session: Session,
    page: Annotated[int, Query(ge=1)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    found = await agents.get_multi(
        session,
        offset=(page - 1) * page_size,
        limit=page_size,
        schema_to_select=AgentRead,
        sort_columns=["created_at", "id"],
        sort_orders=["desc", "desc"],
        owner_id=user.id,
        deleted_at=None,
    )
    total = found["total_count"]
    return {
        "items": found["data"],
        "total": total,
        "page": page,
        "page_size": page_size,
        "pages": -(-total // page_size),
    }


@router.post("", status_code=201, response_model=AgentRead)
async def create_agent(data: AgentCreate, user: CurrentUser, session: Session) -> Any:
    return await agents.create(
        session, data, schema_to_select=AgentRead, server_data={"owner_id": user.id}
    )


@router.get("/{agent_id}", response_model=AgentRead)
async def get_agent(agent_id: uuid.UUID, user: CurrentUser, session: Session) -> Any:
    return await own_agent(session, user, agent_id)


@router.patch("/{agent_id}", response_model=AgentRead)
async def update_agent(
    agent_id: uuid.UUID, data: AgentUpdate, user: CurrentUser, session: Session
) -> Any:
    agent = await own_agent(session, user, agent_id)
    return await agents.update(
        session,
        {**data.model_dump(exclude_unset=True), "version": agent["version"] + 1},
        return_columns=list(AgentRead.model_fields),
        id=agent_id,
        owner_id=user.id,
    )


@router.delete("/{agent_id}", status_code=204)
async def delete_agent(agent_id: uuid.UUID, user: CurrentUser, session: Session) -> None:
    await own_agent(session, user, agent_id)
    await agents.delete(session, id=agent_id, owner_id=user.id)


def build() -> FastAPI:
    app = FastAPI(title="agents", lifespan=hand.lifespan)
    app.include_router(router)
    return app
