"""Users: what `create_app` mounts is `module`."""

from agent_management.users.router import module as module
