"""Executions: what `create_app` mounts is `module`."""

from agent_management.executions.router import module as module
