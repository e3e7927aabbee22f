"""The composition root: everything the service is made of, in one place."""

from fastapi import FastAPI
from newel import accounts, chat, file_routes, room_routes
from newel.app import create_app

from agent_management import agents, executions, users
from agent_management.assistant import Assistant
from agent_management.settings import Settings
from agent_management.users.models import User
from agent_management.users.roles import ROLES
from agent_management.users.schemas import ProfileUpdate, UserRead, UserRegister


def build(settings: Settings) -> FastAPI:
    app = create_app(
        settings,
        accounts.module(
            User, roles=ROLES, register=UserRegister, read=UserRead, update=ProfileUpdate
        ),
        users.module,
        agents.module,
        executions.module,
        chat.module(),
        room_routes.module(),
        file_routes.module(),
        title="Agent management API",
    )
    app.state.assistant = Assistant(
        settings.assistant_url,
        key=settings.assistant_key,
        network=settings.assistant_network,
    )
    return app
