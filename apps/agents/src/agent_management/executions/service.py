"""The rules of executions."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends
from newel.concurrency import Versions, check_version
from newel.db import CurrentWork
from newel.errors import Conflict, FieldError, Invalid
from newel.pages import Slice
from newel.principal import Principal

from agent_management.agents.repository import AgentRepository
from agent_management.assistant import Question
from agent_management.executions.events import (
    ExecutionCreated,
    ExecutionDeleted,
    ExecutionStatusChanged,
    ExecutionUpdated,
)
from agent_management.executions.models import Execution, Status
from agent_management.executions.repository import ExecutionRepository
from agent_management.executions.schemas import (
    ExecutionBase,
    ExecutionCreate,
    ExecutionQuery,
    ExecutionRead,
    ExecutionUpdate,
)


class ExecutionService:
    def __init__(
        self,
        work: CurrentWork,
        executions: Annotated[ExecutionRepository, Depends()],
        agents: Annotated[AgentRepository, Depends()],
    ) -> None:
        self.work = work
        self.executions = executions
        self.agents = agents

    async def list(self, caller: Principal, query: ExecutionQuery) -> Slice[ExecutionRead]:
        return await self.executions.reading(ExecutionRead).page(query)

    async def get(self, caller: Principal, execution_id: UUID) -> ExecutionRead:
        return await self.executions.reading(ExecutionRead).get(execution_id)

    async def create(self, caller: Principal, data: ExecutionCreate) -> Execution:
        values = await self._link(data.model_dump())
        execution = await self.executions.add(Execution(owner_id=caller.user_id, **values))
        self.work.publish(ExecutionCreated(id=execution.id, owner_id=execution.owner_id))
        return execution

    async def replace(
        self, caller: Principal, execution_id: UUID, data: ExecutionBase, expected: Versions
    ) -> Execution:
        return await self._change(execution_id, data.model_dump(), expected)

    async def update(
        self, caller: Principal, execution_id: UUID, data: ExecutionUpdate, expected: Versions
    ) -> Execution:
        return await self._change(execution_id, data.changes(), expected)

    async def delete(self, caller: Principal, execution_id: UUID, expected: Versions) -> None:
        execution = await self.executions.get_changeable(execution_id)
        check_version(execution.version, expected)
        await self.executions.delete(execution)
        self.work.publish(ExecutionDeleted(id=execution_id))

    async def run(self, caller: Principal, execution_id: UUID) -> Execution:
        return await self._move(execution_id, "running", before=("queued",))

    async def finish(self, caller: Principal, execution_id: UUID) -> Execution:
        return await self._move(execution_id, "finished", before=("running",))

    async def fail(self, caller: Principal, execution_id: UUID) -> Execution:
        return await self._move(execution_id, "failed", before=("running",))

    async def begin(self, caller: Principal | None, execution_id: UUID) -> Question | None:
        """Set it running and return what to ask; ``None`` when there is nothing to ask any more.

        Whose agent was deleted meanwhile has failed.
        """
        execution = await self.executions.find(execution_id)
        if execution is None or execution.status != "queued":
            return None
        await self._move(execution_id, "running", before=("queued",))
        agent = await self.agents.find(execution.agent_id)
        if agent is None:
            await self._move(execution_id, "failed", before=("running",))
            return None
        return Question(
            model=agent.model_name, system_prompt=agent.system_prompt, query=execution.query
        )

    async def end(self, caller: Principal, execution_id: UUID, answer: str | None) -> None:
        """Keep the answer; without one the execution has failed."""
        execution = await self.executions.find(execution_id)
        if execution is None or execution.status != "running":
            return
        await self.executions.update(execution, {"answer": answer})
        await self._move(
            execution_id, "failed" if answer is None else "finished", before=("running",)
        )

    async def _change(
        self, execution_id: UUID, changes: Mapping[str, Any], expected: Versions
    ) -> Execution:
        execution = await self.executions.get_changeable(execution_id)
        check_version(execution.version, expected)
        values = await self._link(changes)
        await self.executions.update(execution, values)
        self.work.publish(ExecutionUpdated(id=execution_id, fields=tuple(changes)))
        return execution

    async def _move(
        self, execution_id: UUID, after: Status, *, before: tuple[Status, ...]
    ) -> Execution:
        execution = await self.executions.get_changeable(execution_id)
        if execution.status not in before:
            now = execution.status
            raise Conflict(f"What is {now} cannot become {after}.")
        fact = ExecutionStatusChanged(id=execution_id, before=execution.status, after=after)
        await self.executions.update(execution, {"status": after})
        self.work.publish(fact)
        return execution

    async def _link(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body after a look at its ids."""
        values = dict(body)
        if (
            values.get("agent_id") is not None
            and await self.agents.find(values["agent_id"]) is None
        ):
            raise _unknown("agent", "agent_id")
        return values


def _unknown(word: str, field: str) -> Invalid:
    """Say the same of a row that does not exist and of one that the caller must not see."""
    message = f"There is no such {word}."
    return Invalid(
        message, errors=[FieldError(pointer=f"#/{field}", code="unknown", message=message)]
    )
