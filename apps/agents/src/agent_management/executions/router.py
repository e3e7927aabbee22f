"""Executions over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from newel.auth import requires
from newel.concurrency import IfMatch, Tagged
from newel.modules import Module
from newel.pages import Page, Slice
from newel.principal import Principal

from agent_management.executions.jobs import run_execution_job
from agent_management.executions.models import Execution
from agent_management.executions.schemas import (
    ExecutionBase,
    ExecutionCreate,
    ExecutionQuery,
    ExecutionRead,
    ExecutionUpdate,
)
from agent_management.executions.service import ExecutionService

router = APIRouter(prefix="/executions", tags=["executions"])

Executions = Annotated[ExecutionService, Depends()]
Reader = Annotated[Principal, requires("executions:read")]
Writer = Annotated[Principal, requires("executions:write")]


@router.get(
    "",
    response_model=Page[ExecutionRead],
    summary="List executions",
    response_description="One page of the executions you may see.",
)
async def list_executions(
    query: Annotated[ExecutionQuery, Query()], executions: Executions, caller: Reader
) -> Slice[ExecutionRead]:
    return await executions.list(caller, query)


@router.post(
    "",
    status_code=201,
    response_model=ExecutionRead,
    summary="Create an execution",
    response_description="The new execution; Location is its address.",
)
async def create_execution(
    data: ExecutionCreate, executions: Executions, caller: Writer, tagged: Tagged
) -> Execution:
    return tagged.new(await executions.create(caller, data))


@router.get(
    "/{execution_id}",
    response_model=ExecutionRead,
    summary="Read an execution",
    response_description="The execution; ETag is its version.",
)
async def get_execution(
    execution_id: UUID, executions: Executions, caller: Reader, tagged: Tagged
) -> ExecutionRead:
    return tagged(await executions.get(caller, execution_id))


@router.put(
    "/{execution_id}",
    response_model=ExecutionRead,
    summary="Replace an execution",
    response_description="The execution as it is now; ETag is its version.",
)
async def replace_execution(
    execution_id: UUID,
    data: ExecutionBase,
    executions: Executions,
    caller: Writer,
    if_match: IfMatch,
    tagged: Tagged,
) -> Execution:
    return tagged(await executions.replace(caller, execution_id, data, if_match))


@router.patch(
    "/{execution_id}",
    response_model=ExecutionRead,
    summary="Change an execution",
    response_description="The execution as it is now; ETag is its version.",
)
async def update_execution(
    execution_id: UUID,
    data: ExecutionUpdate,
    executions: Executions,
    caller: Writer,
    if_match: IfMatch,
    tagged: Tagged,
) -> Execution:
    return tagged(await executions.update(caller, execution_id, data, if_match))


@router.delete("/{execution_id}", status_code=204, summary="Delete an execution")
async def delete_execution(
    execution_id: UUID, executions: Executions, caller: Writer, if_match: IfMatch
) -> None:
    await executions.delete(caller, execution_id, if_match)


@router.post(
    "/{execution_id}/run",
    response_model=ExecutionRead,
    summary="Run an execution",
    response_description="The execution, now running.",
)
async def run_execution(execution_id: UUID, executions: Executions, caller: Writer) -> Execution:
    return await executions.run(caller, execution_id)


@router.post(
    "/{execution_id}/finish",
    response_model=ExecutionRead,
    summary="Finish an execution",
    response_description="The execution, now finished.",
)
async def finish_execution(execution_id: UUID, executions: Executions, caller: Writer) -> Execution:
    return await executions.finish(caller, execution_id)


@router.post(
    "/{execution_id}/fail",
    response_model=ExecutionRead,
    summary="Fail an execution",
    response_description="The execution, now failed.",
)
async def fail_execution(execution_id: UUID, executions: Executions, caller: Writer) -> Execution:
    return await executions.fail(caller, execution_id)


module = Module(
    name="executions",
    routers=[router],
    description="Executions of the user who made them.",
    handlers=[run_execution_job],
)
