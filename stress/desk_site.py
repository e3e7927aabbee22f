"""The help desk as a process of its own, on an empty database."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx2
import psutil

from stress.databases import Backend, opened
from stress.desk.sabotage import named
from stress.fleet import ROOT, Api, newel_command

__all__ = ["Desk", "opened_desk"]

_DESK: Final = ROOT / "stress/desk"
_SECRET: Final = "kX3vR8qTz1mWb7LpYc5NdJf2HsGe9Ua4"  # noqa: S105 - of a service that lives for minutes
_PASSWORD: Final = "a-long-password-1"  # noqa: S105 - as above


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The process that serves, and how to use it as somebody does who means no harm."""

    api: Api
    port: int

    @property
    def pid(self) -> int:
        return self.api.process.pid

    def resident_bytes(self) -> int:
        """Return how much memory it has now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def forget_peak(self) -> None:
        """Begin to look for the peak of its memory anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the most memory it has had since then."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def connections(self) -> int:
        """Return how many connections it has with clients."""
        found = psutil.Process(self.pid).net_connections("tcp")
        return sum(one.laddr.port == self.port and bool(one.raddr) for one in found)

    async def open_tickets(self, count: int) -> Sequence[str]:
        """Open some tickets; return their ids."""
        async with self._client() as client:
            answers = [
                await client.post("/tickets", json={"text": f"question {number}"})
                for number in range(count)
            ]
        return [answer.raise_for_status().json()["id"] for answer in answers]

    async def token(self, name: str) -> str:
        """Return the access token of a new user."""
        email = f"{name}@example.com"
        async with self._client() as client:
            person = {"email": email, "password": _PASSWORD}
            (await client.post("/auth/register", json=person)).raise_for_status()
            form = urlencode({"username": email, "password": _PASSWORD})
            kind = {"content-type": "application/x-www-form-urlencoded"}
            answer = await client.post("/auth/login", content=form, headers=kind)
        token: str = json.loads(answer.raise_for_status().content)["access_token"]
        return token

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"{self.api.url}/api/v1", timeout=30, trust_env=False)


@asynccontextmanager
async def opened_desk(
    backend: Backend, folder: Path, *, sabotage: str | None, **settings: str
) -> AsyncGenerator[Desk]:
    """Have the desk as long as the block lasts; ``settings`` are its variables."""
    with opened(backend, folder) as database:
        (folder / "migrations").mkdir()  # empty: the desk makes its tables itself
        await database.engine.dispose()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        planted = {
            name: value for one in named(sabotage or "") for name, value in one.environment.items()
        }
        environment = {
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "DATABASE_URL": database.url,
            "SECRET_KEY": _SECRET,
            "MIGRATIONS": str(folder / "migrations"),
            "STORAGE_URL": f"file:{folder}/files",
            "API_LIMIT": "1000000/second",
            "LOGIN_LIMIT": "1000000/second",
            "ROLE": "web",
            "SABOTAGE": sabotage or "",
            **settings,
            **planted,
        }
        api = Api(
            "api",
            newel_command("serve", "--port", str(port)),
            environment=environment,
            log=folder / "api.log",
            service=_DESK,
        )
        api.url = f"http://127.0.0.1:{port}"
        try:
            await api.start()
            await api.ready()
            yield Desk(api=api, port=port)
        finally:
            if api.is_alive:
                await asyncio.shield(api.kill())
