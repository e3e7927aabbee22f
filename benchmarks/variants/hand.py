"""FastAPI and SQLAlchemy as a careful engineer writes them, from their documentation.

No middleware, no limits, no events, no metrics: nothing that costs is in here but what the work
load needs.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.variants.environment import Environment
from benchmarks.variants.models import Agent, AuthSession, User, make_engine, utc_now
from benchmarks.variants.schemas import AgentCreate, AgentPage, AgentRead, AgentUpdate

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    state = request.app.state
    reads = request.method == "GET"
    async with (state.reading if reads else state.writing)() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def claims_of(token: str, environment: Environment) -> tuple[uuid.UUID, uuid.UUID]:
    """Return the user and the session that a token names; 401 when it is not good."""
    try:
        claims = jwt.decode(
            token,
            environment.token_key,
            algorithms=["HS256"],
            issuer=environment.issuer,
            audience=environment.issuer,
            options={"require": ["exp", "sub", "sid"]},
        )
        return uuid.UUID(claims["sub"]), uuid.UUID(claims["sid"])
    except (jwt.PyJWTError, ValueError) as error:
        raise unauthorized() from error


def unauthorized() -> HTTPException:
    return HTTPException(401, "Log in again.", headers={"WWW-Authenticate": "Bearer"})


async def current_user(request: Request, credentials: Credentials, session: Session) -> User:
    if credentials is None:
        raise unauthorized()
    return await user_of(credentials.credentials, session, request.app.state.environment)


async def user_of(token: str, session: AsyncSession, environment: Environment) -> User:
    """Return who calls: the token is good, the user active, the session neither over nor ended."""
    user_id, session_id = claims_of(token, environment)
    found = await session.execute(
        select(User, AuthSession)
        .join(AuthSession, AuthSession.user_id == User.id)
        .where(User.id == user_id, AuthSession.id == session_id)
    )
    row = found.one_or_none()
    if row is None:
        raise unauthorized()
    user, log_in = row
    if not is_live(user, log_in):
        raise unauthorized()
    return user


def is_live(user: User, session: AuthSession) -> bool:
    """Tell whether a user may act in a session now."""
    return (
        user.is_active
        and session.revoked_at is None
        and session.epoch == user.epoch
        and session.expires_at > utc_now()
    )


CurrentUser = Annotated[User, Depends(current_user)]


def own_agents(user: User) -> Select[Agent]:
    return select(Agent).where(Agent.owner_id == user.id, Agent.deleted_at.is_(None))


async def own_agent(session: AsyncSession, user: User, agent_id: uuid.UUID) -> Agent:
    agent = await session.scalar(own_agents(user).where(Agent.id == agent_id))
    if agent is None:
        raise HTTPException(404, "There is no such agent.")
    return agent


@router.get("", response_model=AgentPage)
async def list_agents(
    user: CurrentUser,
    session: Session,
    page: Annotated[int, Query(ge=1)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    total = await session.scalar(
        select(func.count())
        .select_from(Agent)
        .where(Agent.owner_id == user.id, Agent.deleted_at.is_(None))
    )
    found = await session.scalars(
        own_agents(user)
        .order_by(Agent.created_at.desc(), Agent.id.desc())
        .offset((page - 1) * page_size)
        .limit(page_size)
    )
    return {
        "items": found.all(),
        "total": total,
        "page": page,
        "page_size": page_size,
        "pages": -(-(total or 0) // page_size),
    }


@router.post("", status_code=201, response_model=AgentRead)
async def create_agent(
    data: AgentCreate, user: CurrentUser, session: Session, response: Response
) -> Any:
    agent = Agent(owner_id=user.id, **data.model_dump())
    session.add(agent)
    await session.commit()
    response.headers["Location"] = f"{router.prefix}/{agent.id}"
    return agent


@router.get("/{agent_id}", response_model=AgentRead)
async def get_agent(agent_id: uuid.UUID, user: CurrentUser, session: Session) -> Any:
    return await own_agent(session, user, agent_id)


@router.patch("/{agent_id}", response_model=AgentRead)
async def update_agent(
    agent_id: uuid.UUID, data: AgentUpdate, user: CurrentUser, session: Session
) -> Any:
    agent = await own_agent(session, user, agent_id)
    for name, value in data.model_dump(exclude_unset=True).items():
        setattr(agent, name, value)
    await session.commit()
    return agent


@router.delete("/{agent_id}", status_code=204)
async def delete_agent(agent_id: uuid.UUID, user: CurrentUser, session: Session) -> None:
    agent = await own_agent(session, user, agent_id)
    agent.deleted_at = utc_now()
    await session.commit()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    environment = Environment.read()
    engine = make_engine(environment.database_url)
    app.state.environment = environment
    app.state.reading = async_sessionmaker(engine, expire_on_commit=False)
    writing = engine.execution_options(writes=True)
    app.state.writing = async_sessionmaker(writing, expire_on_commit=False)
    yield
    await engine.dispose()


def build() -> FastAPI:
    app = FastAPI(title="agents", lifespan=lifespan)
    app.include_router(router)
    return app
