"""The SQL of agents."""

from newel.repository import Repository

from agent_management.agents.models import Agent


class AgentRepository(Repository[Agent]):
    entity = Agent
