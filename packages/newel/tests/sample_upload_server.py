"""A process that serves users' files of at most 10 MB, and says in a line where, and as whom."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import uvicorn
from sample_accounts import SECRET
from sample_entities import User
from sample_files import ROLES

from newel import accounts, file_routes
from newel.app import create_app
from newel.settings import Settings
from newel.testing import log_in, make_user
from newel.uploads import FileRules


async def main(folder: Path) -> None:
    folder.joinpath("migrations").mkdir()
    settings = Settings(
        _env_file=None,
        secret_key=SECRET,
        environment="test",
        database_url=f"sqlite+aiosqlite:///{folder}/files.db",
        migrations=folder / "migrations",
        storage_url=f"file:{folder / 'files'}",
        log_level="ERROR",
    )
    rules = FileRules(max_bytes=10_000_000)
    app = create_app(settings, accounts.module(User, roles=ROLES), file_routes.module(rules))
    async with app.state.database.engine.begin() as connection:
        await connection.run_sync(User.metadata.create_all)
    headers = await log_in(app, await make_user(app, roles=["user"], password="a-long-password-1"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        said = {"port": listening.getsockname()[1], "headers": headers}
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        await server.serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
