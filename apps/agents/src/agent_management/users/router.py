"""Users over HTTP, for administrators. Registering and one's own account are under /auth."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from newel.auth import requires
from newel.concurrency import IfMatch, Tagged
from newel.modules import Module
from newel.pages import Page, Slice
from newel.principal import Principal

from agent_management.users.models import User
from agent_management.users.schemas import UserQuery, UserRead, UserUpdate
from agent_management.users.service import UserService

router = APIRouter(prefix="/users", tags=["users"])

Users = Annotated[UserService, Depends()]
Reader = Annotated[Principal, requires("users:read")]
Writer = Annotated[Principal, requires("users:write")]


@router.get(
    "",
    response_model=Page[UserRead],
    summary="List users",
    response_description="One page of the users.",
)
async def list_users(
    query: Annotated[UserQuery, Query()], users: Users, caller: Reader
) -> Slice[User]:
    return await users.list(caller, query)


@router.get(
    "/{user_id}",
    response_model=UserRead,
    summary="Read a user",
    response_description="The user; ETag is its version.",
)
async def get_user(user_id: UUID, users: Users, caller: Reader, tagged: Tagged) -> User:
    return tagged(await users.get(caller, user_id))


@router.patch(
    "/{user_id}",
    response_model=UserRead,
    summary="Change a user",
    response_description="The user as it is now; ETag is its new version.",
)
async def update_user(
    user_id: UUID, data: UserUpdate, users: Users, caller: Writer, if_match: IfMatch, tagged: Tagged
) -> User:
    return tagged(await users.update(caller, user_id, data, if_match))


@router.post(
    "/{user_id}/activate",
    response_model=UserRead,
    summary="Let a user log in again",
    response_description="The user, active.",
)
async def activate_user(user_id: UUID, users: Users, caller: Writer) -> User:
    return await users.activate(caller, user_id)


@router.post(
    "/{user_id}/deactivate",
    response_model=UserRead,
    summary="Lock a user out and end their sessions",
    response_description="The user, inactive.",
)
async def deactivate_user(user_id: UUID, users: Users, caller: Writer) -> User:
    return await users.deactivate(caller, user_id)


@router.delete("/{user_id}", status_code=204, summary="Delete a user and all that is theirs")
async def delete_user(user_id: UUID, users: Users, caller: Writer, if_match: IfMatch) -> None:
    await users.delete(caller, user_id, if_match)


module = Module(name="users", routers=[router], description="Administration of accounts.")
