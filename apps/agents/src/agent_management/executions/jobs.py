"""What is done about executions in the background, after the commit that asked for it."""

from uuid import UUID

from fastapi import FastAPI
from newel.db import Work
from newel.depends import resolve
from newel.handlers import on
from newel.jobs import Backoff, JobRun

from agent_management.assistant import AnswerError, Question, get_assistant
from agent_management.executions.events import ExecutionCreated
from agent_management.executions.service import ExecutionService


@on(ExecutionCreated, retries=3, backoff=Backoff(first_seconds=5), timeout_seconds=120)
async def run_execution_job(run: JobRun, event: ExecutionCreated) -> None:
    """Has the agent's model answer, for who asked; what is not answered has failed.

    After a worker that died in between the model is asked again. Whose workers died each time is
    still running, and the job a dead letter: an administrator retries it.
    """
    question = await run.step("begin", begin, run.app, event.id)
    if question is None:
        return
    assistant = await run.resolve(get_assistant)
    try:
        answer = await assistant.answer(question)
    except AnswerError:
        answer = None
    except Exception:
        if not run.is_last:
            raise
        answer = None
    executions = await run.resolve(ExecutionService)
    await executions.end(run.caller, event.id, answer)


async def begin(work: Work, app: FastAPI, execution_id: UUID) -> Question | None:
    async with resolve(app, ExecutionService, work=work) as executions:
        return await executions.begin(work.caller, execution_id)
