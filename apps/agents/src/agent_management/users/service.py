"""The rules of administering users."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from newel.concurrency import Versions, check_version
from newel.directory import refuse_lockout
from newel.pages import Slice
from newel.principal import Principal

from agent_management.users.models import User
from agent_management.users.repository import UserRepository
from agent_management.users.schemas import UserQuery, UserUpdate


class UserService:
    def __init__(self, users: Annotated[UserRepository, Depends()]) -> None:
        self.users = users

    async def list(self, caller: Principal, query: UserQuery) -> Slice[User]:
        return await self.users.page(query)

    async def get(self, caller: Principal, user_id: UUID) -> User:
        return await self.users.get(user_id)

    async def update(
        self, caller: Principal, user_id: UUID, data: UserUpdate, expected: Versions
    ) -> User:
        user = await self.users.get(user_id)
        check_version(user.version, expected)
        changes = data.changes()
        if changes.keys() & {"roles", "is_active"}:
            await refuse_lockout(self.users, caller, user)
        return await self._change(user, changes)

    async def activate(self, caller: Principal, user_id: UUID) -> User:
        return await self._change(await self.users.get(user_id), {"is_active": True})

    async def deactivate(self, caller: Principal, user_id: UUID) -> User:
        user = await self.users.get(user_id)
        await refuse_lockout(self.users, caller, user)
        return await self._change(user, {"is_active": False})

    async def delete(self, caller: Principal, user_id: UUID, expected: Versions) -> None:
        user = await self.users.get(user_id)
        check_version(user.version, expected)
        await refuse_lockout(self.users, caller, user)
        await self.users.delete(user)

    async def _change(self, user: User, changes: dict[str, Any]) -> User:
        if user.is_active and changes.get("is_active") is False:
            changes["epoch"] = user.epoch + 1  # sessions must not come back with the account
        return await self.users.update(user, changes)
