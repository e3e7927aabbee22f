"""Agents: what `create_app` mounts is `module`."""

from agent_management.agents.router import module as module
