"""``newel admin``: the first administrator, who is never simply the first to register."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from newel.accounts import create_administrator
from newel.errors import ConfigurationError
from newel.logs import configure_logs
from newel.project import Project
from newel.revisions import ensure_current

__all__ = ["admin"]

admin: typer.Typer = typer.Typer()


@admin.command("create")
def create(
    *,
    email: Annotated[str, typer.Option(help="The administrator's address.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read it from standard input.")
    ] = False,
) -> None:
    """Create an administrator. The password is asked for, or NEWEL_ADMIN_PASSWORD; never shown."""
    app = Project.find().load_app()  # nobody types a password twice for a wrong folder
    password = _password(from_stdin=password_stdin)

    configure_logs(level="WARNING", format="console", stream=sys.stderr)

    async def run() -> None:
        try:
            await ensure_current(app.state.database, app.state.settings.migrations)
            await create_administrator(app, email=email, password=password)
        finally:
            await app.state.database.close()
            app.state.passwords.close()

    asyncio.run(run())
    typer.echo(f"{email} is an administrator")


def _password(*, from_stdin: bool) -> str:
    """Return the password; never from an argument, which every user of the machine can see."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if given := os.environ.get("NEWEL_ADMIN_PASSWORD"):
        return given
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "There is no terminal to ask for the password",
            fix="set NEWEL_ADMIN_PASSWORD, or pipe it in with --password-stdin",
        )
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


@admin.callback()
def _admin() -> None:
    """Make `create` a word of its own, although it is the only command so far."""
