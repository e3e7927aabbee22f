"""The chat of docs/chat.md with its page; also a process of its own, which a test may kill.

python sample_chat.py PORT DIRECTORY REDIS_URL
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import uvloop
from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from sample_accounts import ROLES
from sample_entities import User
from sample_jobs import until

from newel import accounts, chat, room_routes, serve
from newel.app import create_app
from newel.auth import public
from newel.modules import Module
from newel.principal import Principal
from newel.rooms import Visit
from newel.settings import Settings

DOCS = Path(__file__).parents[3] / "docs"
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"


async def is_open(caller: Principal, visit: Visit) -> bool:
    return visit.values["id"] != "private"


def build(directory: Path, redis_url: str | None = None) -> FastAPI:
    pages = APIRouter(dependencies=[public()], include_in_schema=False)

    @pages.get("/chat")
    async def show_chat() -> FileResponse:
        return FileResponse(DOCS / "chat.html", headers={"Content-Security-Policy": POLICY})

    @pages.get("/chat.js")
    async def send_script() -> FileResponse:
        return FileResponse(DOCS / "chat.js")

    directory.joinpath("migrations").mkdir(exist_ok=True)
    settings = Settings(
        _env_file=None,
        secret_key="k3y-0123456789-abcdefghij-ABCDEFGHIJ",
        database_url=f"sqlite+aiosqlite:///{directory}/data.db",
        migrations=directory / "migrations",
        redis_url=redis_url,
        service_name=f"chat {directory}",
        role="web",
        login_limit="1000/minute",
        api_limit="10000/minute",
    )
    return create_app(
        settings,
        accounts.module(User, roles=ROLES),
        chat.module(may_join=is_open),
        room_routes.module(),
        Module("pages", root_routers=[pages]),
    )


@asynccontextmanager
async def process(port: int, directory: Path, redis_url: str) -> AsyncGenerator[Any]:
    """Run it in a process of its own, which the block may kill."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, str(port), str(directory), redis_url),
        stdout=asyncio.subprocess.DEVNULL,
    )

    async def answers() -> bool:
        assert running.returncode is None, "it did not start"
        with suppress(httpx2.TransportError):
            async with httpx2.AsyncClient(trust_env=False) as client:
                return (await client.get(f"http://127.0.0.1:{port}/chat")).status_code == 200
        return False

    try:
        await until(answers, seconds=30)
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


def main(port: str, directory: str, redis_url: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        app = build(Path(directory), redis_url)
        runner.run(serve.run(app, host="127.0.0.1", port=int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
