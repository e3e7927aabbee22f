"""The SQL of executions."""

from newel.repository import Repository

from agent_management.executions.models import Execution


class ExecutionRepository(Repository[Execution]):
    entity = Execution
